//! The units in flight that a dry run would have refused.
//!
//! They stay in the count, so that no layer that enforces admits more because another layer is in dry run. A layer in dry run
//! decides on the count without them, as if they had been refused. Their number is behind a lock beside the word. While the lock
//! is held, the word alone changes, and one compare-and-swap decides. Layers that enforce never take the lock for a request that
//! is not marked.

use std::{
    ops::{Deref, DerefMut},
    sync::PoisonError,
};

use super::{cap::Cap, count::Count};
use crate::{
    admission::word::Level,
    support::sync::{AtomicU32, MutexGuard, Ordering},
};

/// The verdict of a dry run that would have refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marked {
    /// The level without the request and without what is marked.
    pub(crate) level: Level,
    /// Whether the request is counted, and marked. It is not where no more can be counted.
    pub(crate) counted: bool,
}

/// The number of marked units, locked. Its end writes the number where it is read without the lock.
struct Marks<'a> {
    number: MutexGuard<'a, u32>,
    to_read: &'a AtomicU32,
}

impl Deref for Marks<'_> {
    type Target = u32;

    fn deref(&self) -> &u32 {
        &self.number
    }
}

impl DerefMut for Marks<'_> {
    fn deref_mut(&mut self) -> &mut u32 {
        &mut self.number
    }
}

impl Drop for Marks<'_> {
    fn drop(&mut self) {
        self.to_read.store(*self.number, Ordering::Relaxed);
    }
}

impl Count {
    fn lock_marks(&self) -> Marks<'_> {
        Marks {
            // A poisoned lock is as good: each change of the number is one assignment.
            number: self.marks.lock().unwrap_or_else(PoisonError::into_inner),
            to_read: &self.marked,
        }
    }

    /// Returns the units that are marked. Takes no lock, as refusals read it.
    pub(crate) fn marked(&self) -> u32 {
        self.marked.load(Ordering::Relaxed)
    }

    /// Counts `units` more, as [`acquire`](Self::acquire) does, but decides without what is marked. A request that does not fit is
    /// counted all the same, and marked.
    ///
    /// # Errors
    ///
    /// If the units do not fit.
    #[cold]
    pub(crate) fn acquire_or_mark(&self, units: u32, cap: impl Cap) -> Result<(), Marked> {
        let mut marks = self.lock_marks();
        let level = match self.change_unmarked(*marks, 0, units, cap) {
            Ok(()) => {
                let (own, writers) = self.own();
                own.admitted.add(units, writers);
                return Ok(());
            }
            Err(level) => level,
        };
        let counted = self.add_marked(&mut marks, units);
        Err(Marked { level, counted })
    }

    /// Marks `units` more that do not count as admitted, without a decision. Returns whether they are counted.
    #[cold]
    pub(crate) fn count_marked(&self, units: u32) -> bool {
        self.add_marked(&mut self.lock_marks(), units)
    }

    fn add_marked(&self, marks: &mut u32, units: u32) -> bool {
        let counted = self.change_unmarked(0, 0, units, |_| u32::MAX).is_ok();
        if counted {
            *marks += units;
        }
        counted
    }

    /// Decides upon a request that holds `held` units and needs `units`, as [`keep`](Self::keep) does, but without what is
    /// marked. A request that does not fit stays in the count with the units that it holds, and is marked.
    ///
    /// # Errors
    ///
    /// If the units do not fit: the level before, without what is marked.
    #[cold]
    pub(crate) fn keep_or_mark(&self, held: u32, units: u32, cap: impl Cap) -> Result<(), Level> {
        let mut marks = self.lock_marks();
        let kept = self.change_unmarked(*marks, held, units, cap);
        if kept.is_err() {
            *marks += held;
        }
        kept
    }

    /// Marks `units` that are in flight.
    #[cold]
    pub(crate) fn mark(&self, units: u32) {
        *self.lock_marks() += units;
    }

    /// [`keep`](Self::keep) for a request that is marked, in a layer that enforces.
    ///
    /// # Errors
    ///
    /// If the units do not fit: the level before. The request is then no longer counted.
    #[cold]
    pub(crate) fn keep_marked(&self, held: u32, units: u32, cap: impl Cap) -> Result<Level, Level> {
        let mut marks = self.lock_marks();
        let kept = self.keep(held, units, cap);
        *marks -= held;
        if kept.is_ok() {
            *marks += units;
        }
        kept
    }

    /// Releases `units` that are marked.
    #[cold]
    pub(crate) fn release_marked(&'static self, units: u32) {
        let mut marks = self.lock_marks();
        *marks -= units;
        let before = self.word.release(units);
        drop(marks);
        self.released(before, units);
    }

    /// Changes `held` units to `units`, if they fit without the `marks`.
    fn change_unmarked(
        &self,
        marks: u32,
        held: u32,
        units: u32,
        cap: impl Cap,
    ) -> Result<(), Level> {
        let mut seen = self.word.load(Ordering::Acquire);
        loop {
            if seen.is_caching() {
                seen = self.reclaim();
                continue;
            }
            let level = seen.level();
            let unmarked = Level {
                in_flight: level.in_flight.saturating_sub(marks),
                ..level
            };
            let can_be_counted = level.fits(held, units, u32::MAX);
            if !can_be_counted || !unmarked.admits(held, units, cap.of(level.limit)) {
                return Err(unmarked);
            }
            let next = seen.without(held).with(units);
            match self
                .word
                .replace(seen, next, [Ordering::AcqRel, Ordering::Acquire])
            {
                Ok(()) => {
                    self.note_peak(next.level().in_flight);
                    return Ok(());
                }
                Err(now) => seen = now,
            }
        }
    }
}

#[cfg(all(test, loadshed_loom))]
mod model;
