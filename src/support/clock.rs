use std::{cell::OnceCell, time::Duration};

use tokio::time::Instant;

/// One reading of the clock, made when it is first asked for. A reading costs as much as an allocation.
#[derive(Debug, Default)]
pub(crate) struct Now(OnceCell<Instant>);

impl Now {
    pub(crate) fn get(&self) -> Instant {
        *self.0.get_or_init(Instant::now)
    }
}

/// Returns the duration in nanoseconds, for atomics. More than 584 years count as 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    let nanos = duration.as_secs().saturating_mul(1_000_000_000);
    nanos.saturating_add(u64::from(duration.subsec_nanos()))
}
