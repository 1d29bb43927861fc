//! How a [`Count`] is drained: see [`Drain`](crate::admission::drain::Drain).

use tokio::time::Instant;

use super::count::Count;
use crate::{admission::claim::Claim, shed::Reason};

impl Count {
    /// Has a request decided upon that finds the gate shut. `decide` gets the reason why it is refused whatever is in flight, if
    /// there is one: the budget drains, or a waiter has priority.
    pub(crate) fn decide_at_gate<T>(
        &self,
        claim: &Claim,
        decide: impl FnOnce(Option<Reason>) -> T,
    ) -> T {
        self.at_gate(|| {
            let reason = if self.drain.refuses() {
                Some(Reason::Draining)
            } else {
                let is_behind = self.queue.has_priority_over(claim);
                is_behind.then_some(Reason::Utilization)
            };
            decide(reason)
        })
    }

    /// Runs a decision that first asks whether the grace has passed, and then may count a request. While it runs, the count is not
    /// unused: a thread may sleep between the two steps, and the grace pass meanwhile.
    ///
    /// Elsewhere a request is counted only by a compare-and-swap of a word that says that the gate is open, or from an open stripe.
    pub(crate) fn at_gate<T>(&self, decide: impl FnOnce() -> T) -> T {
        let deciding = Deciding::begin(self);
        let decided = decide();
        drop(deciding);
        decided
    }

    /// Refuses new requests from an instant on, or ends the drain.
    pub(crate) fn set_drain(&self, refuses_from: Option<Instant>) {
        self.drain.set(refuses_from);
        self.update_gate();
        // Waiters wait until the grace has passed; watches wait for it.
        self.queue.wake_all();
        self.drain.wake();
        // After the end of a drain there may be free capacity for waiters.
        self.serve(Instant::now());
    }

    /// Begins a watch for the last permit.
    pub(crate) fn watch(&self) -> u64 {
        let number = self.drain.watch();
        self.update_gate();
        number
    }

    pub(crate) fn unwatch(&self, number: u64) {
        self.drain.unwatch(number);
        self.update_gate();
    }

    /// Returns whether nothing is in flight, to a watch that waits. A release to nothing in flight that is not seen here wakes it.
    pub(crate) fn is_unused_after_wait(&self) -> bool {
        self.word.touch();
        self.is_unused()
    }

    /// Wakes the watches for the last permit, after a release.
    pub(crate) fn tell_watches(&self) {
        if self.drain.is_watched() && self.is_unused() {
            self.drain.wake();
        }
    }

    /// Returns whether nothing is in flight, and no request is decided upon at the gate. Cached permits are reclaimed, and no thread
    /// caches permits while the gate is shut: so the answer is exact.
    fn is_unused(&self) -> bool {
        // In this order: a decision that has ended is seen in the word.
        !self.drain.is_deciding() && self.reclaim().level().in_flight == 0
    }

    fn update_gate(&self) {
        self.queue
            .shut_gate_if(|| self.drain.shuts_gate(), &self.word);
        // The gate is at the word: requests that take permits from stripes do not pass it.
        if self.drain.shuts_gate() {
            self.reclaim();
        }
    }
}

/// A decision at the gate.
struct Deciding<'a>(&'a Count);

impl<'a> Deciding<'a> {
    fn begin(count: &'a Count) -> Self {
        count.drain.begin_decision();
        Self(count)
    }
}

impl Drop for Deciding<'_> {
    fn drop(&mut self) {
        self.0.drain.end_decision();
        // So that this end is seen by a later release, or an earlier release is seen here.
        self.0.word.touch();
        self.0.tell_watches();
    }
}

#[cfg(all(test, loadshed_loom))]
mod model;
