//! How a [`Count`] is drained: see [`Drain`](crate::admission::drain::Drain).

use tokio::time::Instant;

use super::{count::Count, word::Level};
use crate::{admission::claim::Claim, shed::Reason, support::sync::Ordering};

impl Count {
    /// Returns why a request that arrives is refused, whatever is in flight: the budget drains, or a waiter has priority.
    #[inline]
    pub(crate) fn bars(&self, claim: &Claim) -> Option<Reason> {
        if self.queue.gate_is_open() {
            return None;
        }
        self.bars_at_gate(claim)
    }

    #[cold]
    fn bars_at_gate(&self, claim: &Claim) -> Option<Reason> {
        if self.drain.refuses() {
            return Some(Reason::Draining);
        }
        let is_behind = self.queue.has_priority_over(claim);
        is_behind.then_some(Reason::Utilization)
    }

    /// Refuses new requests from an instant on, or ends the drain.
    pub(crate) fn set_drain(&self, refuses_from: Option<Instant>) {
        self.drain.set(refuses_from);
        self.update_gate();
        // Waiters wait until the grace has passed; watches wait for it.
        self.queue.wake_all();
        self.drain.wake();
        // After the end of a drain there may be free capacity for waiters.
        self.queue_has_changed(Instant::now());
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
        // Changes nothing, and comes before or after each release, as in `queue_has_changed`.
        self.word.fetch_add(0, Ordering::AcqRel);
        self.is_unused()
    }

    /// Wakes the watches for the last permit, after a release.
    pub(crate) fn tell_watches(&self) {
        if self.drain.is_watched() && self.is_unused() {
            self.drain.wake();
        }
    }

    /// Returns whether nothing is in flight. Cached permits are reclaimed, and lanes are not opened while the gate is shut: so
    /// the answer is exact.
    fn is_unused(&self) -> bool {
        Level::from(self.call_in()).in_flight == 0
    }

    fn update_gate(&self) {
        self.queue.shut_gate_if(|| self.drain.shuts_gate());
    }
}
