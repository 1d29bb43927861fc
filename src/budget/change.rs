use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::control::{Outcome, Window};

/// One change of a learned limit: why, and upon which figures.
///
/// [`Budget::changes`](super::Budget::changes) tells the latest ones.
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
    pub answered: usize,
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

/// The latest changes, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Changes(VecDeque<LimitChange>);

/// Ten seconds of a busy episode; 3 kB.
const KEPT: usize = 32;

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
            answered: window.answered,
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

impl Changes {
    pub(crate) fn push(&mut self, change: LimitChange) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(change);
    }

    pub(crate) fn to_vec(&self) -> Vec<LimitChange> {
        self.0.iter().copied().collect()
    }
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
            "answered": 0, "completed": 0, "refused": 0, "successes": 0, "latency_seconds": 0.0,
        });
        assert_eq!(serde_json::to_value(change).unwrap(), expected);
    }
}
