use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{count::count::Count, word::Level};

/// The level of a count at the admission of measured requests.
///
/// While stripes cache permits, the units in flight are a sum of what all threads write to. So they are summed up once in a while,
/// and not for each measured request.
#[derive(Debug, Default)]
pub(crate) struct RecentLevel {
    /// The units in flight when they were last summed up.
    in_flight: AtomicU32,
    /// Until when these serve, in nanoseconds since the epoch of the sampler.
    until: AtomicU64,
}

/// How long a sum serves, in nanoseconds. At twice the time a burst may be seen so much later; at half of it there are twice as many
/// sums.
const SERVES: u64 = 1_000_000;

impl RecentLevel {
    /// Returns the level of `count` at `now`, in nanoseconds since the epoch. While stripes cache permits, its units in flight may be
    /// up to 1 ms old.
    pub(crate) fn get(&self, count: &Count, now: u64) -> Level {
        if let Some(level) = count.level_in_word() {
            return level;
        }
        // Relaxed: a thread that finds the new end with the old units has units that are a little older.
        if now < self.until.load(Ordering::Relaxed) {
            return Level {
                limit: count.limit(),
                in_flight: self.in_flight.load(Ordering::Relaxed),
            };
        }
        let level = count.level();
        self.in_flight.store(level.in_flight, Ordering::Relaxed);
        self.until
            .store(now.saturating_add(SERVES), Ordering::Relaxed);
        level
    }
}

#[cfg(all(test, not(loadshed_loom)))]
mod tests {
    use super::*;

    #[test]
    fn units_in_flight_are_exact_in_the_word_and_at_most_1_ms_old_while_stripes_cache_permits() {
        let count = Count::claim(100);
        let recent = RecentLevel::default();
        let admit = || assert!(count.acquire(1, |limit| limit).is_ok());
        let get = |now| recent.get(count, now).in_flight;
        admit();
        count.open();
        assert_eq!(get(0), 1);
        admit();
        assert_eq!([get(SERVES - 1), get(SERVES)], [1, 2]);
        admit();
        assert_eq!(get(SERVES + 1), 2);
        count.reclaim();
        assert_eq!(get(SERVES + 1), 3);
        count.release(1);
        assert_eq!(get(SERVES + 1), 2);
    }
}
