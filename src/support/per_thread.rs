//! Values that each thread has for itself, so that threads do not wait for one another's cache lines.
//!
//! The crate `thread_local` numbers threads in the same way. It was measured: an admitted request costs 41 instructions more with
//! it, a measured request 580. Besides, it keeps a value for each of the most threads that were ever alive at once, allocates it
//! when a thread first admits a request, and panics in a thread that is being torn down.

use std::{
    cell::Cell,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crossbeam_utils::CachePadded;

use super::numbers::Numbers;

/// A value for each thread, as far as the number of threads is the number that the machine runs at once, plus one. All further
/// threads share one value.
#[derive(Debug)]
pub(crate) struct PerThread<T> {
    own: Box<[CachePadded<T>]>,
    shared: CachePadded<T>,
}

/// The threads that write to a value: this thread alone, or many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writers {
    ThisThread,
    Many,
}

impl Writers {
    /// Adds to a counter of the value. Returns the sum.
    #[inline]
    pub(crate) fn add(self, counter: &AtomicUsize, delta: usize) -> usize {
        match self {
            // A load and a store: no other thread writes here, and an atomic addition costs as much as the admission.
            Self::ThisThread => {
                let sum = counter.load(Ordering::Relaxed).wrapping_add(delta);
                counter.store(sum, Ordering::Relaxed);
                sum
            }
            Self::Many => {
                let before = counter.fetch_add(delta, Ordering::Relaxed);
                before.wrapping_add(delta)
            }
        }
    }
}

impl<T: Default> PerThread<T> {
    pub(crate) fn new() -> Self {
        Self::with(values() - 1)
    }

    /// Creates values for `threads` threads, and one for all others.
    pub(crate) fn with(threads: usize) -> Self {
        Self {
            own: (0..threads).map(|_| CachePadded::default()).collect(),
            shared: CachePadded::default(),
        }
    }
}

/// Returns the number of values of a [`PerThread`], the shared one included.
pub(crate) fn values() -> usize {
    if cfg!(all(test, loadshed_loom)) {
        return 2;
    }
    static VALUES: OnceLock<usize> = OnceLock::new();
    *VALUES.get_or_init(|| 2 + thread::available_parallelism().map_or(1, usize::from))
}

/// Returns the position of this thread's value among that many, of which the last is shared.
#[inline]
pub(crate) fn own_index(values: usize) -> usize {
    match NUMBER.with(Cell::get) {
        UNKNOWN => thread_number(),
        number => number,
    }
    .min(values - 1)
}

impl<T> PerThread<T> {
    /// Returns this thread's value.
    #[inline]
    pub(crate) fn own(&self) -> (&T, Writers) {
        // A thread without a number has `UNKNOWN`, which is no index. So this is one comparison, unless the thread has no
        // value of its own.
        match self.own.get(NUMBER.with(Cell::get)) {
            Some(slot) => (slot, Writers::ThisThread),
            None => self.claimed(),
        }
    }

    #[cold]
    fn claimed(&self) -> (&T, Writers) {
        match self.own.get(thread_number()) {
            Some(slot) => (slot, Writers::ThisThread),
            None => (&self.shared, Writers::Many),
        }
    }

    /// Returns the position of this thread's value in [`iter`](Self::iter).
    pub(crate) fn own_index(&self) -> usize {
        own_index(self.len())
    }

    pub(crate) fn len(&self) -> usize {
        self.own.len() + 1
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.own.iter().chain([&self.shared]).map(|slot| &**slot)
    }
}

/// Returns this thread's number: the smallest number that no other living thread has.
fn thread_number() -> usize {
    NUMBER.with(|number| {
        if number.get() == UNKNOWN {
            number.set(Returned::claim());
        }
        number.get()
    })
}

const UNKNOWN: usize = usize::MAX;
/// No index either: for a thread that is being torn down.
const NONE: usize = usize::MAX - 1;

#[cfg(not(all(test, loadshed_loom)))]
thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(UNKNOWN) };
}

// The models set it: loom runs all threads of a model on one.
#[cfg(all(test, loadshed_loom))]
loom::thread_local! {
    pub(crate) static NUMBER: Cell<usize> = Cell::new(0);
}

thread_local! {
    // Not in `NUMBER`, as a thread-local with a destructor costs more to read.
    static RETURNED: Returned = const { Returned(Cell::new(NONE)) };
}

/// Runs as a thread with this number.
#[cfg(all(test, not(loadshed_loom)))]
pub(crate) fn as_thread<T>(number: usize, run: impl FnOnce() -> T) -> T {
    let before = NUMBER.with(|own| own.replace(number));
    let result = run();
    NUMBER.with(|own| own.set(before));
    result
}

/// Returns a thread's number at its end. The next thread with this number sees what the thread has written to its values, as
/// both hold the lock in between.
struct Returned(Cell<usize>);

static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers::new());

impl Returned {
    fn claim() -> usize {
        RETURNED
            .try_with(|returned| {
                let mut numbers = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
                let number = numbers.claim();
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
            numbers.give_back(number);
        }
    }
}

/// A number of events, for which each thread has a counter of its own.
///
/// # Memory ordering
///
/// `Relaxed`: the number orders nothing.
#[derive(Debug)]
pub(crate) struct PerThreadCounter(PerThread<AtomicUsize>);

impl PerThreadCounter {
    pub(crate) fn new() -> Self {
        Self(PerThread::new())
    }

    /// Adds `delta`, wrapping: a thread subtracts what it or another has added by adding the negative.
    #[inline]
    pub(crate) fn add(&self, delta: usize) {
        let (counter, writers) = self.0.own();
        writers.add(counter, delta);
    }

    pub(crate) fn sum(&self) -> usize {
        let counts = self.0.iter().map(|counter| counter.load(Ordering::Relaxed));
        // Wrapping: one thread may have subtracted what another added.
        counts.fold(0, usize::wrapping_add)
    }
}
