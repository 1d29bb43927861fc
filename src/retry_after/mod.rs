//! When a refused caller should come back.
//!
//! Most clients wait exactly as long as they are told. A constant brings all that were refused in one second back in
//! one second, as the next wave. So each refused caller is given a place in a line that nobody stands in, and is told
//! to come back when its place is reached:
//!
//! ```text
//! hint = min + those ahead of it in the schedule ÷ room            at most max
//! room = 0.95 × capacity − fresh                               at least 0.1 × capacity
//! ```
//!
//! - **capacity** is the rate of completions while requests are refused, over 4 s: only then does it tell what the server
//!   can do. A twentieth is left free, as a server that is full to the last place refuses some by chance alone.
//! - **fresh** is the rate of all that arrive, admitted and refused, without those whose place in the line has been
//!   reached, over the last 30 s. What came before the trouble counts too, as it is what will be there after it: a burst of
//!   half a second does not take all the room of the minute that follows, and a load that stays leaves none.
//! - **those ahead** are the excess: each refusal adds one, and the line gets shorter at the rate of `room`. The last one
//!   in it waits until the excess has drained.
//!
//! So what comes back is what the server has room for. Where it has none, because fresh load alone fills it, a tenth of
//! its capacity comes back all the same: those who were refused have to be told something, and with as much the flow is
//! at most a tenth above capacity. If only a part of the callers comes back, the estimate of `fresh` is the lower by those
//! who do not, and the room that they leave is given to others: no share of callers who return has to be assumed.
//!
//! The line is a leaky bucket in virtual time (GCRA, ITU-T I.371, annex A) that schedules instead of refusing. Measured
//! is by the refused themselves, four times a second, from counters that are there anyway.
//!
//! # What does not fit
//!
//! A hint is bounded, so the line is: it holds `room × max` callers. Who finds it full is put anywhere in it, and makes it
//! denser by `1 ÷ max`, so that those who come after it at the end stand closer, too. The flow that comes back is then as
//! even as can be, the excess ÷ `max`, and nothing that a server can say makes its peak lower: 3 times the capacity for
//! half a minute leaves 60 seconds of the capacity refused, and within a minute they come back as another 1.0 × the
//! capacity. Where callers have patience, a longer [`max`](crate::RetryAfter::max) gives them the time that it takes.
//!
//! # Classes
//!
//! Each class has a line that begins where those of the higher classes end: a caller joins its own and all lower ones. So
//! lower classes are told to wait longer, and higher ones do not wait for them.
//!
//! # Whole seconds
//!
//! HTTP knows whole seconds only, and who waits whole seconds comes back at the same fraction of a second at which it was
//! refused. Rounded up, all hints between 1 and 2 s are 2 s. So `Retry-After` is the hint with its fraction decided by a
//! sequence (multiples of the golden ratio, which fill an interval evenly wherever they are cut): of callers with a hint of
//! 1.3 s, 70 % are told 1 s and 30 % are told 2 s. Where the line grows by many seconds within one, neighbours in it change
//! places, as all those of one second would otherwise come back within a fraction of it. gRPC, `retry-after-ms` and
//! [`Shed::retry_after`](crate::Shed::retry_after) have the exact value.
//!
//! What is left is HTTP's grain: those who are refused within the same tenth of a second return within the same tenth of
//! one.

pub(crate) mod refusal;
pub(crate) mod retry_after;
pub(crate) mod schedule;
#[cfg(feature = "serde")]
pub(crate) mod serialized;
