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
    admission::claim::Claim,
    support::sync::{AtomicU32, Mutex, MutexGuard, Ordering},
};

/// Those who wait for room under one count.
///
/// # Order
///
/// Who may use more of the budget goes first (its [rank](Claim::priority)), then the one who came first, or last where the
/// line stands. Nobody passes the first one: what is dearer than the room that there is would otherwise wait for as long
/// as cheaper ones come.
///
/// # No wake-up is lost
///
/// Room is given to those who wait by whoever makes it. A release subtracts from the count, and looks here if anybody
/// waits; one who joins notes that it waits, touches the count (`Count::queue_has_changed`), and looks whether there is room. Both
/// touch the count by a read-modify-write, so one of them comes first in its modification order. If that is the release,
/// the one who joins sees the room. Otherwise the release, an `Acquire`, reads what the other's `Release` has begun, as all
/// changes of the count are read-modify-writes, and so sees that somebody waits.
///
/// # Memory ordering
///
/// The words are written with the lock held and read without it, `Relaxed`: what orders them is the count, as above. What
/// is read too late by a newcomer is as if it had come a moment before.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// The rank of the first one, plus 1. 0 if nobody waits.
    first: AtomicU32,
    /// That of the last one, plus 1.
    last: AtomicU32,
    waiting: AtomicU32,
    /// Padded: changes of the queue must not slow down the requests that only read the words above, or the count.
    state: CachePadded<Mutex<QueueState>>,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: BTreeMap<Key, QueueEntry>,
    /// Whose turn has come, and who do not know it yet.
    called: BTreeMap<Key, WaitOutcome>,
    delay: Delay,
    joined: u64,
}

/// In the order of the line, where that does not stand.
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

/// What has become of one who waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitOutcome {
    /// Counted.
    Admitted,
    Refused,
}

/// One who wants to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entrant {
    pub(crate) claim: Claim,
    /// How many may wait at most, this one included.
    pub(crate) most: u32,
    pub(crate) longest: Duration,
    /// When the answer is of no use any more.
    pub(crate) deadline: Option<Instant>,
}

/// Somebody's place in the line.
#[derive(Debug)]
pub(crate) struct Ticket {
    key: Key,
    /// When it has waited for too long.
    pub(crate) until: Instant,
}

impl Queue {
    /// For another budget: what was seen under the last one is not to be remembered.
    pub(crate) fn renew(&self) {
        *self.lock() = QueueState::default();
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.load(Ordering::Relaxed) == 0
    }

    /// Whether somebody waits who goes before a newcomer.
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

    /// Whether a newcomer finds no place in it, as far as that can be told without the lock.
    pub(crate) fn is_full(&self, claim: Claim, most: u32) -> bool {
        self.waiting() >= most && self.last.load(Ordering::Relaxed) > claim.priority()
    }

    /// Joins, unless the line is full or the caller has given up. If it is full, one of a lower rank has to go.
    ///
    /// After that it has to touch the count, and to [`serve`](Self::serve).
    pub(crate) fn join(&self, entrant: Entrant, now: Instant) -> Option<Ticket> {
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
        self.publish(state);
        // Without the lock, as all wakers: they may do anything.
        evicted.flatten().into_iter().for_each(Waker::wake);
        Some(ticket)
    }

    /// Gives the room that there is to those who wait. `take` counts one in.
    pub(crate) fn serve(&self, now: Instant, take: impl Fn(Claim) -> bool) {
        while !self.is_empty() {
            let mut state = self.lock();
            let Some(waker) = state.call_first(now, &take) else {
                return;
            };
            self.publish(state);
            waker.into_iter().for_each(Waker::wake);
        }
    }

    /// Whether its turn has come. If not, the waker is called once it has.
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

    /// Leaves the line. `None` if its turn has not come. Who was behind may then be the first: see
    /// [`serve`](Self::serve).
    pub(crate) fn leave(&self, ticket: &Ticket, now: Instant) -> Option<WaitOutcome> {
        let mut state = self.lock();
        if let Some(outcome) = state.called.remove(&ticket.key) {
            return Some(outcome);
        }
        let left = state.remove(ticket.key, now);
        self.publish(state);
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

    fn publish(&self, state: MutexGuard<'_, QueueState>) {
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

    /// Who is next: the oldest of the highest rank, or the newest.
    fn first(&self, now: Instant) -> Option<Key> {
        let (&oldest, waiter) = self.waiting.first_key_value()?;
        if !self.delay.is_standing(now, waiter.longest) {
            return Some(oldest);
        }
        let mut same = self.waiting.range(..=oldest.newest());
        same.next_back().map(|(&newest, _)| newest)
    }

    /// Calls the first one, if there is room for it or it has waited for too long.
    fn call_first(&mut self, now: Instant, take: impl Fn(Claim) -> bool) -> Option<Option<Waker>> {
        let key = self.first(now)?;
        let waiter = self.waiting.get(&key)?;
        // Its timer tells it as well, but only where it is polled.
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

    /// Refuses one of the lowest rank, if that is below `priority`.
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
    /// The bounds of its rank.
    fn newest(self) -> Self {
        let nth = u64::MAX;
        Self { nth, ..self }
    }

    fn oldest(self) -> Self {
        Self { nth: 0, ..self }
    }
}
