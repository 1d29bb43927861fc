use std::{fmt, ops::RangeInclusive, time::Duration};

use tokio::time::Instant;

/// The largest limit of any budget: 31 bits, as the limit and the count share a word.
pub(crate) const MAX_LIMIT: usize = (1 << 31) - 1;

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
    /// How many requests, or units, were in flight right after the admission, this request included.
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
