//! Retry hints: the time after which a refused caller should retry.
//!
//! Most clients wait exactly as long as the hint says. With a constant hint, all requests refused in one second return in one
//! second, as the next wave. So each refused request gets a slot of a virtual schedule. The hint is the time until this slot:
//!
//! ```text
//! hint = min + requests ahead of it in the schedule ÷ free     at most max
//! free = 0.95 × capacity − fresh                               at least 0.1 × capacity
//! ```
//!
//! - **capacity** is the rate of completions while requests are refused, over 4 s. Only then does the rate tell what the
//!   server can do. A twentieth is left free, as a server at full utilization refuses some requests by chance alone.
//! - **fresh** is the rate of arrivals, admitted and refused, over the last 30 s. Requests whose slot in the schedule has
//!   been reached are deducted. Arrivals before the overload count too, as this load is expected after the overload. So a
//!   burst of half a second does not use all free capacity of the following minute, and a load that stays leaves none.
//! - **requests ahead** are the excess. Each refusal adds a request, and the schedule gets shorter at the rate of `free`. The
//!   last request in it waits until the excess has drained.
//!
//! So the rate of returning requests is the free capacity of the server. If fresh load alone fills the server, a tenth of its
//! capacity returns all the same: refused callers need some hint. The total is then at most a tenth above capacity. If only
//! some callers return, the estimate of `fresh` is lower by the missing requests. Their free capacity is given to other
//! callers, so no share of returning callers has to be assumed.
//!
//! The schedule is a leaky bucket in virtual time (GCRA, ITU-T I.371, annex A) that schedules instead of refusing. Refusals
//! measure the rates, four times a second, from counters that exist anyway.
//!
//! # Full schedule
//!
//! A hint is bounded, and so is the schedule: it holds `free × max` requests. A request that finds the schedule full gets a
//! random position in it. It makes the schedule denser by `1 ÷ max`, so later requests at the end get closer slots, too.
//! The returning flow is then as even as possible: the excess ÷ `max`. No hint can make its peak lower. An example: 3 times
//! the capacity for half a minute leaves 60 seconds of the capacity refused. Within a minute these requests return as another
//! 1.0 × the capacity. For callers that accept a longer wait, a longer [`max`](crate::RetryAfter::max) spreads the excess
//! over the time that it needs.
//!
//! # Classes
//!
//! Each class has a schedule that begins at the end of the schedules of higher classes: a request joins the schedule of its
//! class and of all lower classes. So lower classes get longer hints, and higher classes do not wait for them.
//!
//! # Whole seconds
//!
//! HTTP has whole seconds only. A caller that waits whole seconds returns at the same fraction of a second as its refusal.
//! If hints were rounded up, all hints between 1 and 2 s would be 2 s. So a sequence decides the rounding of each
//! `Retry-After`: multiples of the golden ratio, which fill every section of the sequence evenly. Of callers with a hint of
//! 1.3 s, 70 % get 1 s and 30 % get 2 s. Where the schedule grows by many seconds within a second, neighbours in it exchange
//! positions. Otherwise all requests of a second would return within a fraction of a second. gRPC, `retry-after-ms` and
//! [`Shed::retry_after`](crate::Shed::retry_after) have the exact value.
//!
//! The remaining error is the resolution of HTTP: requests refused within the same tenth of a second return within the same
//! tenth of a second.

pub(crate) mod refusal;
pub(crate) mod retry_after;
pub(crate) mod schedule;
#[cfg(feature = "serde")]
pub(crate) mod serialized;
