//! How the limit of a [`Count`] is set, and how its level is read.

use super::{cap::ceiling, count::Count};
use crate::{admission::word::Level, support::sync::Ordering};

impl Count {
    /// Sets the limit. Returns the level before.
    pub(crate) fn set_limit(&self, limit: u32) -> Level {
        self.set_limit_if(|_| true, limit)
    }

    /// Sets the limit to `to`, unless it is no longer `from`. Returns the level before.
    pub(crate) fn move_limit(&self, from: u32, to: u32) -> Level {
        self.set_limit_if(|limit| limit == from, to)
    }

    fn set_limit_if(&self, holds: impl Fn(u32) -> bool, limit: u32) -> Level {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            if !holds(seen.level().limit) {
                return seen.level();
            }
            if seen.is_caching() {
                seen = self.reclaim();
                continue;
            }
            let orders = [Ordering::AcqRel, Ordering::Relaxed];
            match self.word.replace(seen, seen.with_limit(limit), orders) {
                Ok(()) => {
                    self.serve_waiters();
                    return seen.level();
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Returns the limit and the units in flight of one moment. While stripes cache permits, requests that move from one
    /// thread to another at that moment may be missing from the units in flight.
    ///
    /// A caller that decides by this reading decides again in a compare-and-swap.
    pub(crate) fn level(&self) -> Level {
        // Acquire: what is read of the stripes is no older than the word.
        let mut seen = self.word.load(Ordering::Acquire);
        while seen.is_caching() {
            let [cached, _] = self.stripes.cached();
            let now = self.word.load(Ordering::Acquire);
            if now == seen {
                let Level { limit, in_flight } = seen.level();
                // A permit that is cached on one thread and taken on another meanwhile may be counted as cached twice.
                let in_flight = in_flight.saturating_sub(cached);
                return Level { limit, in_flight };
            }
            seen = now;
        }
        seen.level()
    }

    /// Returns the [level](Self::level), where it can be told without a look at the stripes, which other threads write to.
    pub(crate) fn level_in_word(&self) -> Option<Level> {
        let seen = self.word.load(Ordering::Acquire);
        (!seen.is_caching()).then(|| seen.level())
    }

    /// Returns the limit. Reads no stripe, as other threads write to them.
    pub(crate) fn limit(&self) -> u32 {
        self.word.load(Ordering::Relaxed).level().limit
    }

    /// Returns the most units in flight at once since the budget was made: exact above the highest
    /// ceiling so far, and an upper bound below.
    pub(crate) fn peak(&self) -> u32 {
        let word = self.word.load(Ordering::Acquire);
        let most_now = match word.is_caching() {
            true => ceiling(word.level().limit).saturating_sub(self.stripes.cached()[1]),
            false => 0,
        };
        // Later than the word: it may have been raised by a reclaim.
        self.peak.load(Ordering::Relaxed).max(most_now)
    }
}
