use std::sync::atomic::{AtomicU64, Ordering};

use super::{count::count::Count, word::Level};

/// The level of a count at the admission of measured requests.
///
/// While stripes cache permits, the units in flight are a sum of what all threads write to. So they are summed up once in a while,
/// and not for each measured request.
#[derive(Debug, Default)]
pub(crate) struct RecentLevel {
    /// The units in flight when they were last summed up, and above them the [period](PERIOD) in which that was: in one word, so that a
    /// sum is not taken for a newer one.
    summed: AtomicU64,
}

/// How long a sum counts at most, in nanoseconds. At twice the time a burst may be seen so much later; at half of it there are twice
/// as many sums.
const PERIOD: u64 = 1_000_000;

impl RecentLevel {
    /// Returns the level of `count` at `now`, in nanoseconds since the epoch. While stripes cache permits, its units in flight may be
    /// up to 1 ms old.
    pub(crate) fn get(&self, count: &Count, now: u64) -> Level {
        if let Some(level) = count.level_in_word() {
            return level;
        }
        // From 1 on: at 0 nothing was summed up. It is cut, as 2³² periods are 49 days.
        let period = ((now / PERIOD) as u32).wrapping_add(1);
        // Relaxed: the word is all that is read.
        let summed = self.summed.load(Ordering::Relaxed);
        if (summed >> 32) as u32 == period {
            return Level {
                limit: count.limit(),
                in_flight: summed as u32,
            };
        }
        let level = count.level();
        self.summed.store(
            u64::from(period) << 32 | u64::from(level.in_flight),
            Ordering::Relaxed,
        );
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
        assert_eq!([get(PERIOD - 1), get(PERIOD)], [1, 2]);
        admit();
        assert_eq!(get(PERIOD + 1), 2);
        count.reclaim();
        assert_eq!(get(PERIOD + 1), 3);
        count.release(1);
        assert_eq!(get(PERIOD + 1), 2);
    }
}
