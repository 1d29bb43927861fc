use std::{fmt, ops::RangeInclusive, time::Duration};

use tokio::time::Instant;

#[cfg(feature = "serde")]
use crate::support::seconds;

/// The largest limit of any budget: 31 bits, as the limit and the count share a word.
pub(crate) const MAX_LIMIT: usize = (1 << 31) - 1;

/// The range of client timeouts: a caller that waits for less is served by no server; one that waits for more tells nothing about
/// a queue.
pub(crate) const CLIENT_TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(3_600);

/// A limit algorithm: decides how many requests of a budget may be in flight.
pub trait Controller: fmt::Debug + Send + 'static {
    /// Returns the smallest and the largest limit. The budget keeps the limit within this range, whatever
    /// [`update`](Self::update) decides. It calls this method once.
    fn limits(&self) -> RangeInclusive<usize>;

    /// Returns the initial limit.
    fn initial_limit(&self) -> usize;

    /// Returns the least time between two updates. The default is 100 ms. The budget calls this method once.
    ///
    /// There is no timer: the window is closed by the first event after this duration (the admission or the completion of
    /// a measured request, or a refusal). Without an event the window stays open.
    fn window(&self) -> Duration {
        Duration::from_millis(100)
    }

    /// Decides the limit from the events since the last update.
    ///
    /// The request that closes the window runs this method before it goes on. Other requests do not wait for it. A refusal
    /// can close a window, too. Keep the work bounded, as the number of samples is.
    ///
    /// A controller that panics is not called again: the limit stays where it is.
    fn update(&mut self, window: &Window<'_>) -> Decision;

    /// Forgets what was learned. Called before an update once a limit that was set by hand is given back
    /// ([`Budget::resume_learning`](crate::Budget::resume_learning)): while it was in force, the controller saw nothing.
    ///
    /// By default nothing is forgotten.
    fn restart(&mut self) {}

    /// Returns the state and what was learned of the server, for operators. Called after each [`update`](Self::update), by the
    /// same request. A panic counts as a panic of `update`.
    ///
    /// By default nothing is shown.
    fn learned(&self) -> Option<Learned> {
        None
    }
}

/// The events between two updates of a [`Controller`].
///
/// Counts are in requests. Where requests have a [cost](crate::LoadShed::cost), they are in units of cost. `samples` has one
/// entry for each measured request in either case.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Window<'a> {
    /// The time at which the window was closed.
    pub now: Instant,
    /// How long the window was open: at least [`Controller::window`], and longer where there are few events.
    pub elapsed: Duration,
    /// The limit in force.
    pub limit: usize,
    /// How many requests were in flight when the window was closed.
    pub in_flight: usize,
    /// How many of the requests in flight have responded and still hold their permit, for a body that is being sent or for
    /// a [`Permit`](crate::Permit::responded). This phase is not part of the latency. It is an estimate where only a part
    /// of the requests is measured.
    pub responded: usize,
    /// How many requests completed or responded in the window, measured or not.
    pub completed: usize,
    /// How many requests were refused in the window, or would have been in a dry run.
    ///
    /// A number above 0 means that the limit binds. Latencies alone do not tell whether an unused limit is too high.
    pub refused: usize,
    /// The measured requests that ended in the window, in no order.
    ///
    /// Under high load only a part of the requests is measured: one in 2, 4, 8, and so on. All samples of a window represent
    /// the same number of requests.
    pub samples: &'a [Sample],
}

impl Window<'_> {
    /// Creates an empty window, to be filled field by field.
    #[must_use]
    pub fn new(now: Instant, limit: usize) -> Self {
        Self {
            now,
            elapsed: Duration::ZERO,
            limit,
            in_flight: 0,
            responded: 0,
            completed: 0,
            refused: 0,
            samples: &[],
        }
    }

    /// Returns how many of the requests in flight have not responded yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.in_flight.saturating_sub(self.responded)
    }
}

/// A measured request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sample {
    /// When the request was admitted.
    pub admitted_at: Instant,
    /// The time from the admission to the head of the response, or to the end of the body where that is
    /// [measured](crate::Measure). For a cancelled request, the time to the cancellation.
    pub latency: Duration,
    /// How many requests, or units, were in flight right after the admission, this request included. While at most half of the
    /// limit is, the number may be up to 1 ms old.
    pub in_flight: usize,
    /// The limit at the admission.
    pub limit: usize,
    /// The most that may be in flight for this request to be admitted, itself included: its ratio × the limit, rounded down
    /// and at least 1. It is the limit for a request that is never shed. A request that passed several layers of the budget
    /// has the lowest ratio of them.
    ///
    /// `cap / limit` tells which ratio binds. `in_flight >= cap` tells that the next such request would have been refused.
    pub cap: usize,
    /// How the request ended.
    pub outcome: Outcome,
    /// How long the caller waits for the response at most, from the admission on, as the request states it: the layer reads
    /// gRPC's `grpc-timeout`. `None` where the request states no timeout, one of less than 1 ms, or one of more than 1 h.
    ///
    /// In whole milliseconds, rounded down, and at most 65.535 s. The time that is left out of `latency` is left out of this
    /// time, too. A [`Permit`](crate::Permit) has none.
    pub client_timeout: Option<Duration>,
}

impl Sample {
    /// Creates a success with a latency of 0, to be filled field by field.
    #[must_use]
    pub fn new(admitted_at: Instant) -> Self {
        Self {
            admitted_at,
            latency: Duration::ZERO,
            in_flight: 0,
            limit: 0,
            cap: 0,
            outcome: Outcome::Success,
            client_timeout: None,
        }
    }
}

/// How a measured request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The service responded, also where the response reports a mistake of the caller.
    Success,
    /// The request failed in a way that reports overload: 503, 504; RESOURCE_EXHAUSTED, UNAVAILABLE, DEADLINE_EXCEEDED.
    Overload,
    /// The request ended before its response: the caller cancelled it, or a timeout responded instead (408; CANCELLED). The
    /// latency is the time until then, which is less than the response would have taken.
    Cancelled,
    /// The request failed in a way that says nothing about load, such as 500 or a 429 of the service: a quick error does
    /// not make a fast server.
    Ignored,
}

/// A decision of a [`Controller`], with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision {
    /// The limit from now on.
    pub limit: usize,
    /// The reason in a word or two, for operators and for the label `reason` of a metric. A controller has a handful of
    /// reasons: each is a series of its own.
    pub reason: &'static str,
}

impl Decision {
    /// Creates a decision.
    #[must_use]
    pub fn new(limit: usize, reason: &'static str) -> Self {
        Self { limit, reason }
    }
}

/// The state of a [`Controller`], and what it has learned of the server.
///
/// [`Snapshot::learned`](crate::Snapshot::learned) has the figures of the latest window, and
/// [`LimitChange::learned`](crate::LimitChange::learned) the figures that a change of the limit is based on.
///
/// Counts are in requests, rounded. Where requests have a [cost](crate::LoadShed::cost), they are in units of cost.
///
/// With the feature `serde` it serialises as a map of its fields, with the service time in seconds: `service_time_seconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Learned {
    /// The state of the controller, in a word or two, or `"set"` while a limit that was set by hand holds.
    ///
    /// [`Adaptive`](crate::Adaptive) has these states:
    ///
    /// | state | meaning |
    /// | --- | --- |
    /// | `learning` | too few responses for a service time: the limit stays where it is |
    /// | `no responses` | callers cancel, and hardly any request succeeded since the start: a few requests are admitted |
    /// | `unlimited` | nothing reports an overload |
    /// | `burst guard` | the queue is as long as callers tolerate |
    /// | `probing` | the limit is lowered to measure the service time without a queue |
    /// | `tracking` | the limit is the knee and a margin, or on its way there |
    pub state: &'static str,
    /// The service time `S`: the latency of a response without a queue. It is an estimate until a probe has measured it. `None`
    /// while nothing is known.
    #[cfg_attr(
        feature = "serde",
        serde(
            rename = "service_time_seconds",
            serialize_with = "seconds::serialize_option"
        )
    )]
    pub service_time: Option<Duration>,
    /// The knee `K`: the number of requests in flight with which the server is just busy. `None` while nothing is known.
    ///
    /// By Little's law (1961) it is throughput × service time, with the highest throughput that was seen lately. Requests that
    /// wait in vain until they are cancelled are counted on top. It is at least 1.
    ///
    /// A server whose limit does not bind may have a higher knee: its throughput is only as high as the rate of arrivals.
    pub knee: Option<usize>,
    /// An estimate of how many requests in flight are held: later requests have overtaken them, so they are in no queue. 0 if
    /// the controller finds none, or does not look for them.
    pub held: usize,
    /// How many requests in flight will be found to be held, and are not yet: as many as arrive in the time that it takes. By
    /// Little's law, this is the rate of held requests × that time. A standard deviation is added for chance.
    pub expected_held: usize,
}

impl Learned {
    /// Creates a report of nothing but the state, to be filled field by field.
    #[must_use]
    pub fn new(state: &'static str) -> Self {
        Self {
            state,
            service_time: None,
            knee: None,
            held: 0,
            expected_held: 0,
        }
    }
}

#[cfg(all(test, feature = "serde"))]
mod tests {
    use super::*;

    #[test]
    fn the_service_time_is_serialised_in_seconds_or_as_null() {
        let nothing = serde_json::json!({
            "state": "learning", "service_time_seconds": null, "knee": null, "held": 0, "expected_held": 0,
        });
        let mut learned = Learned::new("learning");
        assert_eq!(serde_json::to_value(learned).unwrap(), nothing);
        learned.state = "tracking";
        learned.service_time = Some(Duration::from_millis(250));
        learned.knee = Some(8);
        (learned.held, learned.expected_held) = (3, 1);
        let all = serde_json::json!({
            "state": "tracking", "service_time_seconds": 0.25, "knee": 8, "held": 3, "expected_held": 1,
        });
        assert_eq!(serde_json::to_value(learned).unwrap(), all);
    }
}
