//! A short queue in front of a full budget, in place of an immediate refusal.
//!
//! A burst is over sooner than a refused caller returns. Where a request takes 10 ms, capacity is free soon: to wait for it is
//! better for both sides than a refusal, and a second request a second later. But a queue that does not get shorter delays
//! every response and raises no throughput. So the queue is bounded in number and in time, and the bound in time is tighter
//! while the queue is standing: see [`Delay`](codel::Delay) for the formula and its source.
//!
//! - **A queued request** is not in flight. The thread that frees capacity decides upon it, in the order of the queue, by the
//!   atomic step that admits all requests.
//! - **A request that arrives** while others are queued does not overtake them, unless it has priority over them. That holds
//!   for a request that cannot be queued, too.
//! - **A controller** sees a queued request from its admission on, or as refused. It does not see the queue.
//! - **A request that is not queued** pays only for reading that the queue is empty.

pub(crate) mod codel;
#[cfg(all(test, loadshed_loom))]
pub(crate) mod model;
pub(crate) mod queue;
