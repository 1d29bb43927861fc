//! A short wait for room, in place of a refusal at once.
//!
//! A burst is over in less time than a caller needs to come back. Where a request takes 10 ms, a place comes free soon:
//! to wait for it is better for both sides than to refuse, and to answer again in a second. But a line that does not get
//! shorter serves nobody: it makes each answer late and lets no more through. So the line is bounded in number and in
//! time, and in time the more tightly, the longer it has stood; see [`Delay`](codel::Delay) for the formula and its source.
//!
//! - **Who waits** is not in flight. It is decided upon as before, when there may be room for it: by those who make room, in
//!   the order of the line, with the one atomic step that admits all others.
//! - **Who comes** while others wait does not pass them, unless it may use more of the budget than they; nor does it where
//!   it cannot wait itself.
//! - **A law** sees those who wait when they are admitted, from then on, or as refused. To it, a line is nothing.
//! - **Nothing of this costs** those who do not wait more than to see that nobody does.

pub(crate) mod codel;
#[cfg(all(test, loadshed_loom))]
pub(crate) mod model;
pub(crate) mod queue;
