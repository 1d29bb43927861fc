//! Helpers of the loom models of the count and the queue: how they are run, permits held, waiters.

use std::{
    task::{Poll, Waker},
    time::Duration,
};

use loom::model::Builder;
use tokio::time::Instant;

use super::{
    claim::Claim,
    count::count::Count,
    queue::queue::{Entrant, Ticket, WaitOutcome},
};
use crate::threshold::threshold::Threshold;

/// Runs a model that has too many interleavings, with at most two preemptions. Nearly all mistakes show with two (Musuvathi and
/// Qadeer, 2007).
pub(crate) fn model_the_likely(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(run);
}

/// Returns a count with `held` units in flight, whatever the limit.
pub(crate) fn holding(limit: u32, held: u32) -> &'static Count {
    let count = Count::claim(limit);
    for _ in 0..held {
        assert!(count.acquire(1, |_| u32::MAX).is_ok());
    }
    count
}

/// A cap: the limit.
pub(crate) fn all(limit: u32) -> u32 {
    limit
}

/// A cap: half of the limit.
pub(crate) fn half(limit: u32) -> u32 {
    limit / 2
}

pub(crate) fn join(count: &'static Count, units: usize) -> Ticket {
    let entrant = Entrant {
        claim: Claim::of(Threshold::ratio(1.0), units),
        most: 2,
        longest: Duration::from_secs(3_600),
        deadline: None,
    };
    let now = Instant::now();
    let ticket = count.join(entrant, now);
    count.serve(now);
    ticket.expect("the queue is not full")
}

pub(crate) fn is_admitted(count: &'static Count, ticket: &Ticket) -> bool {
    count.queue.poll(ticket, Waker::noop()) == Poll::Ready(WaitOutcome::Admitted)
}
