use std::{cell::OnceCell, time::Duration};

use tokio::time::Instant;

/// One reading of the clock for all who want it: the first of them makes it. It costs as much as an allocation.
#[derive(Debug, Default)]
pub(crate) struct Now(OnceCell<Instant>);

impl Now {
    pub(crate) fn get(&self) -> Instant {
        *self.0.get_or_init(Instant::now)
    }
}

/// As a word, for atomics: 584 years fit, and more than that counts as that.
pub(crate) fn nanos(duration: Duration) -> u64 {
    let nanos = duration.as_secs().saturating_mul(1_000_000_000);
    nanos.saturating_add(u64::from(duration.subsec_nanos()))
}
