//! A budget's drain, and the futures that wait until nothing is in flight.

use std::{collections::BTreeMap, sync::PoisonError, task::Waker};

use crossbeam_utils::CachePadded;
use tokio::time::Instant;

use crate::support::{
    clock::AtomicInstant,
    sync::{AtomicU32, Mutex, MutexGuard, Ordering},
};

/// Since when a budget refuses requests, and which futures wait for its last permit.
///
/// Requests and releases look here only while the gate is shut: see [`Queue`](super::queue::queue::Queue). That is the case while
/// the budget drains, and while a watch waits for the last permit. No release to nothing in flight is missed, for the same
/// reason for which no waiter is: a watch is noted and the gate shut, then the word is touched, and then looked at.
///
/// # Memory ordering
///
/// The words are written with the lock held and read without it, `Relaxed`: the count orders them, as it does the words of the
/// queue. The number of decisions is a lock's: a decision that has ended has happened before its end is seen.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    /// From when on new requests are refused. `None` while the budget does not drain.
    refuses_from: AtomicInstant,
    /// The number of decisions at the gate that are being made.
    deciding: AtomicU32,
    /// The number of watches.
    watching: AtomicU32,
    /// Padded: its changes must not slow down the requests that read the word of the count.
    watches: CachePadded<Mutex<Watches>>,
}

#[derive(Debug, Default)]
struct Watches {
    /// A waker is taken when it is called.
    wakers: BTreeMap<u64, Option<Waker>>,
    registered: u64,
}

impl Drain {
    /// Returns from when on new requests are refused, or `None` while the budget does not drain.
    pub(crate) fn refuses_from(&self) -> Option<Instant> {
        self.refuses_from.load()
    }

    /// Returns whether the budget drains and its grace has passed. The clock is read only while the budget drains.
    pub(crate) fn refuses(&self) -> bool {
        self.refuses_from()
            .is_some_and(|from| from <= Instant::now())
    }

    /// Sets from when on new requests are refused, or ends the drain.
    pub(crate) fn set(&self, refuses_from: Option<Instant>) {
        self.refuses_from.store(refuses_from);
    }

    /// Returns whether requests or releases have to look here.
    pub(crate) fn shuts_gate(&self) -> bool {
        self.refuses_from().is_some() || self.is_watched()
    }

    pub(crate) fn begin_decision(&self) {
        self.deciding.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn end_decision(&self) {
        self.deciding.fetch_sub(1, Ordering::AcqRel);
    }

    pub(crate) fn is_deciding(&self) -> bool {
        self.deciding.load(Ordering::Acquire) > 0
    }

    /// Returns whether there is a watch.
    pub(crate) fn is_watched(&self) -> bool {
        self.watching.load(Ordering::Relaxed) > 0
    }

    /// Adds a watch, which is not woken before it [waits](Self::wait). Returns its number.
    pub(crate) fn watch(&self) -> u64 {
        let mut watches = self.lock();
        watches.registered += 1;
        let number = watches.registered;
        watches.wakers.insert(number, None);
        self.count(&watches);
        number
    }

    pub(crate) fn unwatch(&self, number: u64) {
        let mut watches = self.lock();
        let waker = watches.wakers.remove(&number);
        self.count(&watches);
        drop(watches);
        // Without the lock, as the drop of a waker may run any code.
        drop(waker);
    }

    /// Has a watch woken by the next [`wake`](Self::wake).
    pub(crate) fn wait(&self, number: u64, waker: &Waker) {
        let waker = waker.clone();
        let before = self.lock().wakers.insert(number, Some(waker));
        drop(before);
    }

    /// Wakes all watches: nothing may be in flight, or the drain has begun, changed or ended.
    pub(crate) fn wake(&self) {
        let mut watches = self.lock();
        let wakers: Vec<_> = watches
            .wakers
            .values_mut()
            .filter_map(Option::take)
            .collect();
        drop(watches);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends the drain, before another budget gets the count. There is no watch: each has a handle of the budget.
    pub(crate) fn renew(&self) {
        self.set(None);
    }

    fn count(&self, watches: &Watches) {
        let watching = watches.wakers.len() as u32;
        self.watching.store(watching, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
