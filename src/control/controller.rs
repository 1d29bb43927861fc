use std::{fmt, ops::RangeInclusive, time::Duration};

use tokio::time::Instant;

/// The largest limit of any budget: 31 bits, as limit and count share a word.
pub(crate) const MAX_LIMIT: usize = (1 << 31) - 1;

/// A control law.
pub trait Controller: fmt::Debug + Send + 'static {
    /// The smallest and the largest limit. Whatever [`update`](Self::update) decides, the limit never leaves them; they
    /// are asked for once.
    fn limits(&self) -> RangeInclusive<usize>;

    /// The limit to begin with.
    fn initial_limit(&self) -> usize;

    /// How long samples are gathered before the next update, at least. It is asked for once.
    ///
    /// No timer ends it. The first request after that time does which is measured and admitted, or measured and
    /// finished, or refused; while nobody comes and nothing finishes, a window stays open.
    fn window(&self) -> Duration {
        Duration::from_millis(100)
    }

    /// Decides upon the limit, given what has happened since the last update.
    ///
    /// It runs within the request that ends the window, before that goes on; all others pass by meanwhile. So that a
    /// refusal stays cheap, its work should be bounded, as the number of samples is.
    ///
    /// A law that panics is not asked again: its last limit stays.
    fn update(&mut self, window: &Window<'_>) -> Decision;
}

/// What has happened between two updates, in requests; in units, where they cost more than one each
/// ([`LoadShed::cost`](crate::LoadShed::cost)).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Window<'a> {
    /// When the window was closed.
    pub now: Instant,
    /// How long it was open. At least [`Controller::window`], and longer where little happens.
    pub elapsed: Duration,
    /// The limit in force.
    pub limit: usize,
    /// How many were in flight when it was closed.
    pub in_flight: usize,
    /// How many of those have been answered and keep their place: a body is being sent, a permit held. How long they do
    /// is no latency. Where only some requests are measured it is an estimate.
    pub responded: usize,
    /// How many finished in it or were answered, measured or not.
    pub completed: usize,
    /// How many were refused in it, or would have been in a dry run. More than 0 means that the limit binds: nobody
    /// can say from latencies alone whether an unused limit is too high.
    pub refused: usize,
    /// The measured ones that finished in it, in no order: none where all that came was admitted and still runs, or was
    /// refused. Under high load only one request in some is measured, and all of a window's samples are of the same share.
    pub samples: &'a [Sample],
}

impl Window<'_> {
    /// An empty window, to be filled field by field.
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

    /// How many of those in flight wait for their answer.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.in_flight.saturating_sub(self.responded)
    }
}

/// One measured request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sample {
    /// When it was admitted.
    pub admitted_at: Instant,
    /// From its admission to the head of its response, or to the end of its body where that is
    /// [measured](crate::Measure); or until it was cut short.
    pub latency: Duration,
    /// How many were in flight when it was admitted, itself included.
    pub in_flight: usize,
    /// The limit when it was admitted.
    pub limit: usize,
    /// Up to how many in flight it was admitted under that limit, itself included: its ratio of the limit, rounded down
    /// and at least 1; the limit itself for one that is never shed. Of several layers of one budget that it passed, the
    /// lowest ratio counts.
    ///
    /// `cap / limit` tells which ratio binds, and `in_flight >= cap` that there was no room for another one like it.
    pub cap: usize,
    /// How it ended.
    pub outcome: Outcome,
}

impl Sample {
    /// A success without latency, to be filled field by field.
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
    /// It was answered; also if the answer is that the caller made a mistake.
    Success,
    /// It failed in a way that says overload: 503, 504; RESOURCE_EXHAUSTED, UNAVAILABLE, DEADLINE_EXCEEDED.
    Overload,
    /// It was cut short: the caller went away before the answer, or a timeout answered in its place (408; CANCELLED).
    /// Its latency is how long that took. The answer would have taken longer.
    Cancelled,
    /// It failed in a way that says nothing about load, such as 500: a quick error is not a fast server.
    Ignored,
}

/// What a law decided, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision {
    /// The limit from now on.
    pub limit: usize,
    /// In a word or two, for people and for metrics. A law has a handful of reasons.
    pub reason: &'static str,
}

impl Decision {
    /// A decision for `limit`.
    #[must_use]
    pub fn new(limit: usize, reason: &'static str) -> Self {
        Self { limit, reason }
    }
}
