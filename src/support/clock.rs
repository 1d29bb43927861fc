use std::{
    cell::OnceCell,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

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

/// An `Option<Instant>` in one word, to the nanosecond, within 292 years of the first use in the process.
///
/// # Memory ordering
///
/// `Relaxed`: the word orders no other memory access.
#[derive(Debug, Default)]
pub(crate) struct AtomicInstant(AtomicU64);

/// The instant that has the number [`MIDDLE`].
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Instants before the epoch have lower numbers: a paused clock may be behind the clock that the epoch was read from.
const MIDDLE: u64 = 1 << 63;

impl AtomicInstant {
    pub(crate) fn store(&self, instant: Option<Instant>) {
        let number = instant.map_or(0, |at| match at.checked_duration_since(*EPOCH) {
            Some(after) => MIDDLE.saturating_add(nanos(after)),
            None => MIDDLE.saturating_sub(nanos(*EPOCH - at)).max(1),
        });
        self.0.store(number, Ordering::Relaxed);
    }

    pub(crate) fn load(&self) -> Option<Instant> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            after @ MIDDLE.. => Some(*EPOCH + Duration::from_nanos(after - MIDDLE)),
            before => Some(*EPOCH - Duration::from_nanos(MIDDLE - before)),
        }
    }
}

#[cfg(all(test, not(loadshed_loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_instant_in_a_word_is_the_instant_that_was_stored() {
        let word = AtomicInstant::default();
        assert_eq!(word.load(), None);
        let now = Instant::now();
        let hour = Duration::from_secs(3_600);
        for at in [now, now + hour, now.checked_sub(hour).unwrap_or(now)] {
            word.store(Some(at));
            assert_eq!(word.load(), Some(at));
        }
        word.store(None);
        assert_eq!(word.load(), None);
    }
}
