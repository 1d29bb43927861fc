//! Memory that each thread has for itself, so that threads do not wait for one another's cache lines.

use std::{
    cell::Cell,
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crossbeam_utils::CachePadded;

/// A value for each of as many threads as the machine runs at once and one more, and a last one that any others share.
#[derive(Debug)]
pub(crate) struct Lanes<T> {
    own: Box<[CachePadded<T>]>,
    shared: CachePadded<T>,
}

/// Who else writes to a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writers {
    ThisThread,
    Many,
}

impl Writers {
    /// Adds to a counter of the lane.
    #[inline]
    pub(crate) fn add(self, counter: &AtomicUsize, delta: usize) {
        match self {
            // A load and a store: nobody else writes here, and an atomic addition costs as much as the admission.
            Self::ThisThread => {
                let before = counter.load(Ordering::Relaxed);
                counter.store(before.wrapping_add(delta), Ordering::Relaxed);
            }
            Self::Many => {
                counter.fetch_add(delta, Ordering::Relaxed);
            }
        }
    }
}

impl<T: Default> Lanes<T> {
    pub(crate) fn new() -> Self {
        Self {
            own: (0..own_lanes()).map(|_| CachePadded::default()).collect(),
            shared: CachePadded::default(),
        }
    }
}

fn own_lanes() -> usize {
    if cfg!(all(test, loadshed_loom)) {
        return 1;
    }
    static LANES: OnceLock<usize> = OnceLock::new();
    *LANES.get_or_init(|| 1 + thread::available_parallelism().map_or(1, usize::from))
}

impl<T> Lanes<T> {
    /// This thread's lane.
    #[inline]
    pub(crate) fn own(&self) -> (&T, Writers) {
        // No lane has the number of a thread that has none yet: usually, this is one comparison.
        match self.own.get(NUMBER.with(Cell::get)) {
            Some(lane) => (lane, Writers::ThisThread),
            None => self.claimed(),
        }
    }

    #[cold]
    fn claimed(&self) -> (&T, Writers) {
        match self.own.get(thread_number()) {
            Some(lane) => (lane, Writers::ThisThread),
            None => (&self.shared, Writers::Many),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.own.len() + 1
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.own.iter().chain([&self.shared]).map(|lane| &**lane)
    }
}

/// The smallest number that no other living thread has.
fn thread_number() -> usize {
    NUMBER.with(|number| {
        if number.get() == UNKNOWN {
            number.set(Returned::claim());
        }
        number.get()
    })
}

const UNKNOWN: usize = usize::MAX;
/// Past all lanes: for a thread that is being torn down.
const NONE: usize = usize::MAX - 1;

#[cfg(not(all(test, loadshed_loom)))]
thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(UNKNOWN) };
}

// Set by the model.
#[cfg(all(test, loadshed_loom))]
loom::thread_local! {
    pub(crate) static NUMBER: Cell<usize> = Cell::new(0);
}

thread_local! {
    // Apart, as a thread-local with a destructor is dearer to read.
    static RETURNED: Returned = const { Returned(Cell::new(NONE)) };
}

/// Gives a thread's number back at its end. What the thread wrote to its lanes is seen by the next one that has the
/// number, as both hold the lock in between.
struct Returned(Cell<usize>);

#[derive(Debug)]
struct Numbers {
    free: BinaryHeap<Reverse<usize>>,
    next: usize,
}

static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers {
    free: BinaryHeap::new(),
    next: 0,
});

impl Returned {
    fn claim() -> usize {
        RETURNED
            .try_with(|returned| {
                let mut numbers = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
                let number = numbers
                    .free
                    .pop()
                    .map_or(numbers.next, |Reverse(free)| free);
                numbers.next = numbers.next.max(number + 1);
                returned.0.set(number);
                number
            })
            .unwrap_or(NONE)
    }
}

impl Drop for Returned {
    fn drop(&mut self) {
        NUMBER.with(|number| number.set(NONE));
        let number = self.0.get();
        if number != NONE {
            let mut numbers = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
            numbers.free.push(Reverse(number));
        }
    }
}

/// A number of events that each thread counts for itself.
///
/// # Memory ordering
///
/// `Relaxed`: it stands for itself and orders nothing.
#[derive(Debug)]
pub(crate) struct LaneCounter(Lanes<AtomicUsize>);

impl LaneCounter {
    pub(crate) fn new() -> Self {
        Self(Lanes::new())
    }

    #[inline]
    pub(crate) fn add(&self, delta: usize) {
        let (counter, writers) = self.0.own();
        writers.add(counter, delta);
    }

    pub(crate) fn take_back(&self, delta: usize) {
        self.add(delta.wrapping_neg());
    }

    pub(crate) fn sum(&self) -> usize {
        let counts = self.0.iter().map(|counter| counter.load(Ordering::Relaxed));
        // One thread may have taken back what another counted.
        counts.fold(0, usize::wrapping_add)
    }
}
