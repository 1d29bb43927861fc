//! What a budget reports: its figures at one moment, and the changes of its limit.

use std::time::Duration;

use tokio::time::Instant;

use crate::control::controller::{Outcome, Window};

/// The figures of a [`Budget`](crate::budget::budget::Budget) at one moment.
///
/// `limit`, `in_flight` and `peak_in_flight` are in units, which is requests where each costs one
/// ([`LoadShed::cost`](crate::LoadShed::cost)). The others count requests.
///
/// With the feature `serde` it serialises as a map of its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// How much it carries at once.
    pub limit: usize,
    /// How much is in flight.
    pub in_flight: usize,
    /// The most that was ever in flight at once, requests included that an outer layer counted and an inner one refused.
    pub peak_in_flight: usize,
    /// How many requests were admitted since the budget was made. It goes down by one when an outer layer has counted a request
    /// that an inner one then refuses.
    pub admitted: usize,
    /// How many were refused.
    pub refused: usize,
    /// How many would have been refused, and ran uncounted in a dry run instead.
    pub would_refuse: usize,
    /// How many passed a layer that did not count them.
    pub exempt: usize,
    /// How many wait for room now. They are not in flight.
    pub waiting: usize,
    /// How many have waited for room since the budget was made, those included that were refused in the end.
    pub waited: usize,
}

/// One change of a learned limit: why, and upon which figures.
///
/// [`Budget::changes`](crate::budget::budget::Budget::changes) tells the latest ones.
///
/// With the feature `serde` it serialises as a map of its fields, of times in seconds: `seconds_ago` in the place of `at`,
/// `elapsed_seconds`, `latency_seconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LimitChange {
    /// When.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "seconds_ago", serialize_with = "since")
    )]
    pub at: Instant,
    /// The limit before.
    pub from: usize,
    /// The limit after.
    pub to: usize,
    /// The law's reason, in a word or two; `"set"` where it was set by hand.
    pub reason: &'static str,
    /// How long the window was that it was based on. This and what follows is 0 where the limit was set by hand.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "elapsed_seconds", serialize_with = "seconds")
    )]
    pub elapsed: Duration,
    /// How many were in flight at the end of that window.
    pub in_flight: usize,
    /// How many of those had been answered and kept their place: a body that is being sent, a permit held.
    pub responded: usize,
    /// How many finished in it.
    pub completed: usize,
    /// How many were refused in it, or would have been in a dry run.
    pub refused: usize,
    /// How many successes were measured in it.
    pub successes: usize,
    /// The mean of their latencies. 0 without any.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "latency_seconds", serialize_with = "seconds")
    )]
    pub latency: Duration,
}

impl LimitChange {
    pub(crate) fn set(at: Instant, from: usize, to: usize) -> Self {
        Self::of(&Window::new(at, from), to, "set")
    }

    pub(crate) fn of(window: &Window<'_>, to: usize, reason: &'static str) -> Self {
        let successes = || {
            let all = window.samples.iter();
            all.filter(|sample| sample.outcome == Outcome::Success)
        };
        let count = successes().count();
        let sum: Duration = successes().map(|sample| sample.latency).sum();
        Self {
            at: window.now,
            from: window.limit,
            to,
            reason,
            elapsed: window.elapsed,
            in_flight: window.in_flight,
            responded: window.responded,
            completed: window.completed,
            refused: window.refused,
            successes: count,
            latency: u32::try_from(count).map_or(Duration::ZERO, |count| sum / count.max(1)),
        }
    }
}

/// An instant means nothing outside of the process.
#[cfg(feature = "serde")]
fn since<S: serde::Serializer>(at: &Instant, serializer: S) -> Result<S::Ok, S::Error> {
    seconds(&at.elapsed(), serializer)
}

#[cfg(feature = "serde")]
fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

#[cfg(all(test, feature = "serde"))]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn times_are_serialised_in_seconds() {
        let change = LimitChange::set(Instant::now(), 8, 4);
        tokio::time::advance(Duration::from_millis(1_500)).await;
        let expected = serde_json::json!({
            "seconds_ago": 1.5, "from": 8, "to": 4, "reason": "set", "elapsed_seconds": 0.0, "in_flight": 0,
            "responded": 0, "completed": 0, "refused": 0, "successes": 0, "latency_seconds": 0.0,
        });
        assert_eq!(serde_json::to_value(change).unwrap(), expected);
    }
}
