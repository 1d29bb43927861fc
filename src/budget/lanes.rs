//! Memory that each thread has for itself, so that threads do not wait for one another's cache lines.

use std::{
    cell::Cell,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// A value for each of the first threads that ask, one more than the machine runs at once, and a last one that all
/// others share.
#[derive(Debug)]
pub(super) struct Lanes<T>(Box<[Lane<T>]>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane<T>(T);

/// Who else writes to a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writers {
    ThisThread,
    Many,
}

impl<T: Default> Lanes<T> {
    pub(super) fn new() -> Self {
        static LANES: OnceLock<usize> = OnceLock::new();
        let lanes = *LANES.get_or_init(|| 2 + thread::available_parallelism().map_or(1, usize::from));
        Self((0..lanes).map(|_| Lane::default()).collect())
    }
}

impl<T> Lanes<T> {
    /// This thread's lane.
    #[inline]
    pub(super) fn own(&self) -> (&T, Writers) {
        let last = self.0.len() - 1;
        let thread = thread_number();
        if thread < last {
            (&self.0[thread].0, Writers::ThisThread)
        } else {
            (&self.0[last].0, Writers::Many)
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|lane| &lane.0)
    }
}

/// Threads in the order in which they first asked, from 0.
#[inline]
fn thread_number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    const UNKNOWN: usize = usize::MAX;
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(UNKNOWN) };
    }
    NUMBER.with(|number| {
        if number.get() == UNKNOWN {
            number.set(THREADS.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

/// A number of events that each thread counts for itself.
///
/// # Memory ordering
///
/// `Relaxed`: it stands for itself and orders nothing.
#[derive(Debug)]
pub(super) struct LaneCounter(Lanes<AtomicUsize>);

impl LaneCounter {
    pub(super) fn new() -> Self {
        Self(Lanes::new())
    }

    /// Returns how many this lane had counted before.
    #[inline]
    pub(super) fn add(&self, delta: usize) -> usize {
        match self.0.own() {
            // A load and a store: nobody else writes here, and an atomic addition costs as much as the admission.
            (counter, Writers::ThisThread) => {
                let before = counter.load(Ordering::Relaxed);
                counter.store(before.wrapping_add(delta), Ordering::Relaxed);
                before
            }
            (counter, Writers::Many) => counter.fetch_add(delta, Ordering::Relaxed),
        }
    }

    pub(super) fn take_one_back(&self) {
        self.add(usize::MAX);
    }

    pub(super) fn sum(&self) -> usize {
        let counts = self.0.iter().map(|counter| counter.load(Ordering::Relaxed));
        // One thread may have taken back what another counted.
        counts.fold(0, usize::wrapping_add)
    }
}
