//! How the limit of a [`Count`] is set, and how its level is read.

use super::{
    count::Count,
    word::{ABANDONED, KEEPING, LIMIT_SHIFT, Level, TAKEN},
};
use crate::support::sync::Ordering;

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
        let bits = u64::from(limit) << LIMIT_SHIFT;
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            if !holds(Level::from(seen).limit) {
                return Level::from(seen);
            }
            if seen & KEEPING != 0 {
                seen = self.call_in();
                continue;
            }
            let word = seen & (ABANDONED | TAKEN) | bits;
            match self
                .word
                .compare_exchange_weak(seen, word, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(before) => {
                    self.serve_waiters();
                    return Level::from(before);
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Returns the limit and the units in flight of one moment. While lanes cache permits, requests that move from one
    /// thread to another at that moment may be missing from the units in flight.
    ///
    /// A caller that decides by this reading decides again in a compare-and-swap.
    pub(crate) fn level(&self) -> Level {
        // Acquire: what is read of the lanes is no older than the word.
        let mut seen = self.word.load(Ordering::Acquire);
        while seen & KEEPING != 0 {
            let kept = self.kept();
            let now = self.word.load(Ordering::Acquire);
            if now == seen {
                let Level { limit, in_flight } = Level::from(seen);
                // A permit that is cached on one thread and taken on another meanwhile may be counted as cached twice.
                let in_flight = in_flight.saturating_sub(kept);
                return Level { limit, in_flight };
            }
            seen = now;
        }
        Level::from(seen)
    }

    /// Returns the limit. Reads no lane, as other threads write to them.
    pub(crate) fn limit(&self) -> u32 {
        Level::from(self.word.load(Ordering::Relaxed)).limit
    }

    /// Returns the most units in flight at once since the budget was made.
    pub(crate) fn peak(&self) -> u32 {
        self.peak.load(Ordering::Relaxed)
    }
}
