//! The reports of a budget: a snapshot of its counts, and the changes of its limit.

use std::time::Duration;

use tokio::time::Instant;

#[cfg(feature = "serde")]
use crate::support::seconds;

use crate::control::{
    controller::{Learned, Outcome, Window},
    reason,
};

/// The counts of a [`Budget`](crate::Budget) at one moment.
///
/// `limit`, `in_flight`, `marked` and `peak_in_flight` are in units of [cost](crate::LoadShed::cost): these are requests where each
/// request costs 1. The other fields are in requests.
///
/// With the feature `serde` a snapshot serialises as a map of its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The limit of `in_flight`.
    pub limit: usize,
    /// The units in flight.
    pub in_flight: usize,
    /// The units in flight that a dry run would have refused. They are part of `in_flight`.
    pub marked: usize,
    /// The most units that ever were in flight at once: exact above half of the highest limit so far. Below, it may be higher than
    /// the true peak, as each thread counts for itself. It includes requests that an outer layer counted and an inner layer refused.
    pub peak_in_flight: usize,
    /// How many requests were admitted since the budget was created. It decreases by 1 when an outer layer has counted a request
    /// that an inner layer then refuses.
    pub admitted: usize,
    /// How many requests were refused.
    pub refused: usize,
    /// How many requests a dry run would have refused. They run, and count in `in_flight` and in `marked`.
    pub would_refuse: usize,
    /// How many requests passed a layer as exempt: neither counted nor shed.
    pub exempt: usize,
    /// How many requests are queued now. They are not in flight.
    pub waiting: usize,
    /// How many requests were queued since the budget was created, including the ones that were refused in the end.
    pub waited: usize,
    /// How many responses have stalled since the budget was created, and lost their permit. See
    /// [`LoadShed::stall_timeout`](crate::LoadShed::stall_timeout).
    pub stalled: usize,
    /// How many responses are stalled now. They are not in flight, but their memory is still in use.
    pub stalled_responses: usize,
    /// Whether the limit of a learned budget was set by hand and holds: see
    /// [`Budget::set_limit`](crate::Budget::set_limit). Always false for a fixed budget.
    pub is_set_by_hand: bool,
    /// The state of a learned budget's controller, and what it had learned at the end of its latest window.
    ///
    /// While a limit that was set by hand holds, the controller sees nothing: the state is `"set"`, and there are no figures. Once
    /// the limit is given back, the figures are of what was learned from then on.
    ///
    /// `None` for a fixed budget, before the first window, for a controller that has panicked, and for one without
    /// [`Controller::learned`](crate::control::Controller::learned), such as [`LatencyTarget`](crate::LatencyTarget).
    pub learned: Option<Learned>,
}

/// A change of a learned limit, with its reason and the figures that it is based on.
///
/// [`Budget::changes`](crate::Budget::changes) returns the latest changes.
///
/// The fields from `elapsed` to `latency` describe the controller's window. They are 0 where the limit was set by hand.
///
/// With the feature `serde` a change serialises as a map of its fields, with times in seconds: `seconds_ago` in place of `at`,
/// `elapsed_seconds`, `latency_seconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LimitChange {
    /// When the limit changed.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "seconds_ago", serialize_with = "since")
    )]
    pub at: Instant,
    /// The limit before.
    pub from: usize,
    /// The limit after.
    pub to: usize,
    /// The controller's reason, in a word or two. It is `"set"` where the limit was set by hand.
    pub reason: &'static str,
    /// The duration of the window.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "elapsed_seconds", serialize_with = "seconds::serialize")
    )]
    pub elapsed: Duration,
    /// How many units were in flight at the end of the window.
    pub in_flight: usize,
    /// How many of these had responded and still held their permit.
    pub responded: usize,
    /// How many units completed or responded in the window.
    pub completed: usize,
    /// How many units were refused in the window, or would have been in a dry run.
    pub refused: usize,
    /// How many measured requests succeeded in the window.
    pub successes: usize,
    /// The mean latency of these successes. It is 0 without any.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "latency_seconds", serialize_with = "seconds::serialize")
    )]
    pub latency: Duration,
    /// The controller's state after this decision, and what it had learned. `None` where the limit was set by hand, and for a
    /// controller without [`Controller::learned`](crate::control::Controller::learned).
    pub learned: Option<Learned>,
}

impl LimitChange {
    pub(crate) fn set(at: Instant, from: usize, to: usize) -> Self {
        Self::of(&Window::new(at, from), to, reason::SET, None)
    }

    pub(crate) fn of(
        window: &Window<'_>,
        to: usize,
        reason: &'static str,
        learned: Option<Learned>,
    ) -> Self {
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
            learned,
        }
    }
}

/// Serialises an instant as its age, as an instant means nothing outside of the process.
#[cfg(feature = "serde")]
fn since<S: serde::Serializer>(at: &Instant, serializer: S) -> Result<S::Ok, S::Error> {
    seconds::serialize(&at.elapsed(), serializer)
}

#[cfg(all(test, feature = "serde"))]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn times_are_serialised_in_seconds() {
        let mut change = LimitChange::set(Instant::now(), 8, 4);
        tokio::time::advance(Duration::from_millis(1_500)).await;
        let mut expected = serde_json::json!({
            "seconds_ago": 1.5, "from": 8, "to": 4, "reason": "set", "elapsed_seconds": 0.0, "in_flight": 0,
            "responded": 0, "completed": 0, "refused": 0, "successes": 0, "latency_seconds": 0.0,
            "learned": null,
        });
        assert_eq!(serde_json::to_value(change).unwrap(), expected);
        let learned = Learned::new("tracking");
        change.learned = Some(learned);
        expected["learned"] = serde_json::to_value(learned).unwrap();
        assert_eq!(serde_json::to_value(change).unwrap(), expected);
    }
}
