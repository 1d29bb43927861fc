use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::PoisonError,
    task::{Poll, Waker},
    time::Duration,
};

use crossbeam_utils::CachePadded;
use tokio::time::Instant;

use super::codel::Delay;
use crate::{
    admission::{claim::Claim, word::Word},
    support::sync::{AtomicU32, Mutex, MutexGuard, Ordering},
};

/// The requests that wait for free capacity under one count.
///
/// # Order
///
/// Waiters that may use more of the budget are first (their [priority](Claim::priority)). Among equals it is the oldest, or
/// the newest while the queue is standing. No waiter overtakes the first: an expensive request would otherwise wait for as
/// long as cheaper requests arrive.
///
/// # The gate
///
/// While there is a waiter, or a [`Drain`](crate::admission::drain::Drain) has something to say to requests or to releases, the
/// gate is shut: a flag in the word of the count, which every admission and release by the word sees.
///
/// # No wake-up is lost
///
/// The thread that frees capacity gives it to waiters. A release subtracts from the word of the count, and looks here if the gate
/// was shut. A request that joins first notes that it waits, then shuts the gate, and then looks for free capacity. All of these
/// are read-modify-writes of one word, so one is first in its modification order. If that is the release, the joining request sees
/// the free capacity. Otherwise the release, an `Acquire`, reads from the release sequence that the joining request's `Release`
/// heads. So it sees the waiter.
///
/// # Memory ordering
///
/// The words are written with the lock held and read without it, `Relaxed`: the word of the count orders them, as above. A request
/// that arrives and reads an old value is treated as if it had arrived a moment before.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// The priority of the first waiter, plus 1. 0 if the queue is empty.
    first: AtomicU32,
    /// The priority of the last waiter, plus 1. 0 if the queue is empty.
    last: AtomicU32,
    waiting: AtomicU32,
    /// Padded: changes of the queue must not slow down the requests that only read the words above, or the count.
    state: CachePadded<Mutex<QueueState>>,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: BTreeMap<Key, QueueEntry>,
    /// Waiters that are decided upon and have not been polled since.
    called: BTreeMap<Key, WaitOutcome>,
    delay: Delay,
    joined: u64,
    /// Whether a drain shuts the gate.
    is_shut_by_drain: bool,
}

/// In the order of the queue while it is not standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    priority: Reverse<u32>,
    nth: u64,
}

#[derive(Debug)]
struct QueueEntry {
    claim: Claim,
    longest: Duration,
    until: Instant,
    waker: Option<Waker>,
}

/// The decision upon a waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitOutcome {
    /// Its units are counted.
    Admitted,
    Refused,
}

/// A request that asks to be queued.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entrant {
    pub(crate) claim: Claim,
    /// The most requests that may be queued, this one included.
    pub(crate) most: u32,
    pub(crate) longest: Duration,
    /// When the response is of no use to the caller any more.
    pub(crate) deadline: Option<Instant>,
}

/// A request's position in the queue.
#[derive(Debug)]
pub(crate) struct Ticket {
    key: Key,
    /// When the request has waited for too long.
    pub(crate) until: Instant,
}

impl Queue {
    /// Empties the queue for another budget, whose gate is open, and forgets whether it was standing.
    pub(crate) fn renew(&self) {
        let mut state = self.lock();
        *state = QueueState::default();
        self.publish(&state);
    }

    /// Shuts the gate, or lets go of it, as `shuts` says under the lock.
    pub(crate) fn shut_gate_if(&self, shuts: impl FnOnce() -> bool, word: &Word) {
        let mut state = self.lock();
        state.is_shut_by_drain = shuts();
        self.set_gate(state, word);
    }

    fn is_empty(&self) -> bool {
        self.first.load(Ordering::Relaxed) == 0
    }

    /// Returns whether a waiter has at least the priority of a request that arrives.
    #[inline]
    pub(crate) fn has_priority_over(&self, claim: &Claim) -> bool {
        !self.is_empty() && self.is_not_below(claim)
    }

    #[cold]
    fn is_not_below(&self, claim: &Claim) -> bool {
        self.first.load(Ordering::Relaxed) > claim.priority()
    }

    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Returns whether a request that arrives cannot join, as far as that can be told without the lock.
    pub(crate) fn is_full(&self, claim: Claim, most: u32) -> bool {
        self.waiting() >= most && self.last.load(Ordering::Relaxed) > claim.priority()
    }

    /// Joins the queue. Returns `None` if the deadline has passed, or if the queue is full of waiters with at least the request's
    /// priority. Otherwise a full queue refuses a waiter of lower priority.
    ///
    /// The request then has to be [served](Self::serve), as far as it fits.
    pub(crate) fn join(&self, entrant: Entrant, now: Instant, word: &Word) -> Option<Ticket> {
        if entrant.deadline.is_some_and(|at| at <= now) {
            return None;
        }
        let mut state = self.lock();
        let priority = entrant.claim.priority();
        let evicted = if state.waiting.len() >= entrant.most as usize {
            Some(state.evict_below(priority, now)?)
        } else {
            None
        };
        let ticket = state.join(entrant, priority, now);
        self.set_gate(state, word);
        // Wakers are called without the lock, as they may run any code.
        evicted.flatten().into_iter().for_each(Waker::wake);
        Some(ticket)
    }

    /// Gives free capacity to the waiters. `take` counts a waiter's units, and returns whether they fit.
    pub(crate) fn serve(&self, now: Instant, word: &Word, take: impl Fn(Claim) -> bool) {
        while !self.is_empty() {
            let mut state = self.lock();
            let Some(waker) = state.call_first(now, &take) else {
                return;
            };
            self.set_gate(state, word);
            waker.into_iter().for_each(Waker::wake);
        }
    }

    /// Returns the decision upon a waiter. If there is none yet, the waker is called once there is.
    pub(crate) fn poll(&self, ticket: &Ticket, waker: &Waker) -> Poll<WaitOutcome> {
        let waker = waker.clone();
        let mut state = self.lock();
        if let Some(outcome) = state.called.remove(&ticket.key) {
            return Poll::Ready(outcome);
        }
        let before = match state.waiting.get_mut(&ticket.key) {
            Some(waiter) => waiter.waker.replace(waker),
            None => return Poll::Ready(WaitOutcome::Refused),
        };
        drop(state);
        drop(before);
        Poll::Pending
    }

    /// Wakes all waiters, as the time until which they may wait has changed.
    pub(crate) fn wake_all(&self) {
        let mut state = self.lock();
        let waiting = state.waiting.values_mut();
        let wakers: Vec<_> = waiting.filter_map(|waiter| waiter.waker.take()).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Leaves the queue. Returns `None` if there was no decision yet: another waiter may then be the first, and has to be
    /// [served](Self::serve).
    pub(crate) fn leave(&self, ticket: &Ticket, now: Instant, word: &Word) -> Option<WaitOutcome> {
        let mut state = self.lock();
        if let Some(outcome) = state.called.remove(&ticket.key) {
            return Some(outcome);
        }
        let left = state.remove(ticket.key, now);
        self.set_gate(state, word);
        drop(left);
        None
    }

    #[cfg(all(test, not(loadshed_loom)))]
    pub(crate) fn while_locked<T>(&self, run: impl FnOnce() -> T) -> T {
        let _guard = self.lock();
        run()
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shuts the gate if there is a waiter or a drain, and opens it otherwise.
    fn set_gate(&self, state: MutexGuard<'_, QueueState>, word: &Word) {
        self.publish(&state);
        // With the lock: of two changes the later is the last word.
        word.set_gate(!self.is_empty() || state.is_shut_by_drain);
    }

    fn publish(&self, state: &QueueState) {
        let priorities = [
            state.waiting.first_key_value(),
            state.waiting.last_key_value(),
        ];
        let [first, last] =
            priorities.map(|waiter| waiter.map_or(0, |(key, _)| key.priority.0 + 1));
        self.first.store(first, Ordering::Relaxed);
        self.last.store(last, Ordering::Relaxed);
        let waiting = state.waiting.len() as u32;
        self.waiting.store(waiting, Ordering::Relaxed);
    }
}

impl QueueState {
    fn join(&mut self, entrant: Entrant, priority: u32, now: Instant) -> Ticket {
        let Entrant { claim, longest, .. } = entrant;
        if self.waiting.is_empty() {
            self.delay.begins(now, longest);
        }
        let bound = now + self.delay.bound(now, longest);
        let until = entrant.deadline.map_or(bound, |at| at.min(bound));
        self.joined += 1;
        let key = Key {
            priority: Reverse(priority),
            nth: self.joined,
        };
        let waiter = QueueEntry {
            claim,
            longest,
            until,
            waker: None,
        };
        self.waiting.insert(key, waiter);
        Ticket { key, until }
    }

    /// Returns the first waiter: the oldest of the highest priority, or the newest while the queue is standing.
    fn first(&self, now: Instant) -> Option<Key> {
        let (&oldest, waiter) = self.waiting.first_key_value()?;
        if !self.delay.is_standing(now, waiter.longest) {
            return Some(oldest);
        }
        let mut same = self.waiting.range(..=oldest.newest());
        same.next_back().map(|(&newest, _)| newest)
    }

    /// Decides upon the first waiter, if it fits or has waited for too long. Returns its waker.
    fn call_first(&mut self, now: Instant, take: impl Fn(Claim) -> bool) -> Option<Option<Waker>> {
        let key = self.first(now)?;
        let waiter = self.waiting.get(&key)?;
        // The waiter's own timer tells it as well, but only when the waiter is polled.
        if waiter.until <= now {
            return Some(self.refuse(key, now));
        }
        if !take(waiter.claim) {
            return None;
        }
        let waiter = self.waiting.remove(&key);
        if self.waiting.is_empty() {
            self.delay.served();
        }
        self.called.insert(key, WaitOutcome::Admitted);
        waiter.map(|waiter| waiter.waker)
    }

    /// Refuses a waiter of the lowest priority, and returns its waker. Returns `None` if no waiter is below `priority`.
    fn evict_below(&mut self, priority: u32, now: Instant) -> Option<Option<Waker>> {
        let (&newest, waiter) = self.waiting.last_key_value()?;
        if newest.priority.0 >= priority {
            return None;
        }
        let is_standing = self.delay.is_standing(now, waiter.longest);
        let mut same = self.waiting.range(newest.oldest()..);
        let oldest = same.next().map_or(newest, |(&oldest, _)| oldest);
        Some(self.refuse(if is_standing { oldest } else { newest }, now))
    }

    fn refuse(&mut self, key: Key, now: Instant) -> Option<Waker> {
        let waiter = self.remove(key, now);
        self.called.insert(key, WaitOutcome::Refused);
        waiter.and_then(|waiter| waiter.waker)
    }

    fn remove(&mut self, key: Key, now: Instant) -> Option<QueueEntry> {
        let waiter = self.waiting.remove(&key);
        if self.waiting.is_empty() {
            self.delay.given_up(now);
        }
        waiter
    }
}

impl Key {
    /// Returns an upper bound of the keys of this priority.
    fn newest(self) -> Self {
        let nth = u64::MAX;
        Self { nth, ..self }
    }

    /// Returns a lower bound of the keys of this priority.
    fn oldest(self) -> Self {
        Self { nth: 0, ..self }
    }
}
