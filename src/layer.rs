mod settings;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tower_layer::Layer;

pub(crate) use self::settings::Settings;
use crate::{
    budget::Budget,
    control::Outcome,
    handle::Handle,
    invalid::{InvalidSetting, expect_valid},
    measure::Measure,
    observe::Decisions,
    outcome::AskOutcome,
    refuse::{Answers, Drain},
    retry_after::RetryAfter,
    service::LoadShedService,
    shed::Shed,
    threshold::{LiveLadder, Threshold},
    wait::Wait,
};

/// A [`Layer`] that counts the requests in flight against a [`Budget`], and refuses those for which there is no room.
///
/// ```
/// use loadshed::{Budget, LoadShed};
///
/// // One line. The budget is learned.
/// let shed = LoadShed::ratio(0.85);
///
/// // A pool of 200, of which 30 stay free for what is not shed.
/// let pool = Budget::fixed(200);
/// let shed = LoadShed::ratio(0.85).budget(&pool);
/// let count = LoadShed::observe().budget(&pool);
/// ```
///
/// One value is one budget, however often a framework applies, clones or rebuilds the layer. Settings are made before
/// the layer is used; after that, a [`handle`](Self::handle) changes what can be changed while running.
#[derive(Clone, Debug)]
#[must_use]
pub struct LoadShed {
    pub(crate) settings: Arc<Settings>,
}

impl LoadShed {
    /// Refuses once more than `ratio` of the budget would be in flight. Without [`budget`](Self::budget) the budget is
    /// learned.
    ///
    /// # Panics
    ///
    /// If `ratio` is not more than 0 and at most 1. [`try_ratio`](Self::try_ratio) returns an error instead.
    #[track_caller]
    pub fn ratio(ratio: f64) -> Self {
        expect_valid(Self::try_ratio(ratio))
    }

    /// [`ratio`](Self::ratio) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `ratio` is not more than 0 and at most 1.
    pub fn try_ratio(ratio: f64) -> Result<Self, InvalidSetting> {
        Threshold::try_ratio(ratio).map(Self::with_threshold)
    }

    /// Counts, and never sheds: around the whole app, so that a layer at one route knows what the others use.
    pub fn observe() -> Self {
        Self::with_threshold(Threshold::NEVER)
    }

    fn with_threshold(threshold: Threshold) -> Self {
        Self {
            settings: Arc::new(Settings {
                budget: Budget::adaptive(),
                threshold: AtomicU64::new(threshold.to_bits()),
                ladder: LiveLadder::default(),
                changing: Mutex::default(),
                decide: None,
                dry_run: AtomicBool::new(false),
                retry_after: RetryAfter::default(),
                seed: None,
                answers: Answers::default(),
                drain: Drain::default(),
                measure: Measure::default(),
                outcome: None,
                name: None,
                decisions: Decisions::default(),
                wait: Wait::default(),
            }),
        }
    }

    /// The budget to count against. Layers that are given the same one share it.
    pub fn budget(self, budget: impl Into<Budget>) -> Self {
        self.with(|settings| settings.budget = budget.into())
    }

    /// When refused callers are told to come back.
    pub fn retry_after(self, retry_after: RetryAfter) -> Self {
        self.with(|settings| settings.retry_after = retry_after)
    }

    /// Makes repeatable what is left to chance: how hints are spread, as far as they have no seed of their own, and which
    /// tenants of [`fair_by`](Self::fair_by) are taken for one. The same seed and the same clock give the same decisions. It is
    /// for tests: who knows the seed can find a tenant that takes another one's part. Layers of one budget that are told of tenants
    /// need the same one. The controllers of this crate leave nothing to chance.
    pub fn seed(self, seed: u64) -> Self {
        self.with(|settings| settings.seed = Some(seed))
    }

    /// The status of a refusal over HTTP. By default 429; 503 has proxies count it against the server, and retry it
    /// elsewhere. A refused gRPC call is RESOURCE_EXHAUSTED whatever this is.
    ///
    /// # Panics
    ///
    /// If `status` is not an error. [`try_status`](Self::try_status) returns an error instead.
    #[track_caller]
    pub fn status(self, status: StatusCode) -> Self {
        expect_valid(self.try_status(status))
    }

    /// [`status`](Self::status) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `status` is not an error.
    pub fn try_status(self, status: StatusCode) -> Result<Self, InvalidSetting> {
        self.try_with(|settings| settings.answers.set_status(status))
    }

    /// Writes the answer to a refused HTTP request, in place of the status, the headers and the body of this layer.
    /// Nothing is added to it but the [`Shed`] in its extensions. If the closure panics, the layer's own answer goes
    /// out. For a `HEAD` request the length of the body goes out, and not the body. A refused gRPC call is answered as
    /// that protocol asks, without the closure.
    ///
    /// See [`on_shed_with`](Self::on_shed_with) for an answer that depends on the request. Of the two, the one that is
    /// set last counts.
    ///
    /// ```
    /// use http::Response;
    /// use loadshed::{LoadShed, Shed};
    ///
    /// let shed = LoadShed::ratio(0.85).on_shed(|shed: &Shed| {
    ///     Response::builder()
    ///         .status(503)
    ///         .header("retry-after", shed.retry_after_secs())
    ///         .body("come back later".into())
    ///         .unwrap()
    /// });
    /// ```
    pub fn on_shed(
        self,
        on_shed: impl Fn(&Shed) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        self.on_shed_with(move |_, shed| Some(on_shed(shed)))
    }

    /// [`on_shed`](Self::on_shed) for an answer that depends on the request: one from a cache, or one that costs less.
    /// `None` leaves it to the layer.
    ///
    /// The head is the request without its body. The closure runs within the refusal: it should do little, and wait for
    /// nothing. What it answers is not counted against the budget.
    ///
    /// ```
    /// use http::{Method, Response};
    /// use loadshed::LoadShed;
    ///
    /// let shed = LoadShed::ratio(0.85).on_shed_with(|head, _| match head.uri().path() {
    ///     "/suggestions" if head.method() == Method::GET => Some(Response::new("[]".into())),
    ///     _ => None,
    /// });
    /// ```
    ///
    /// The example `last_good` answers with the last good response for the path, where there is one.
    pub fn on_shed_with(
        self,
        on_shed: impl Fn(&Request<()>, &Shed) -> Option<Response<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.answers.set_on_shed(on_shed))
    }

    /// How much of a refused upload is read after the answer, so that its sender sees the answer and not a reset. By
    /// default up to 64 MiB, for up to 60 s in all and 5 s without a byte, 256 uploads at once in the process.
    pub fn drain(self, drain: Drain) -> Self {
        self.with(|settings| settings.drain = drain)
    }

    /// Takes the same decisions and counts them, and refuses nothing. What would have been refused runs uncounted, so
    /// that what is decided next is what would be decided then.
    pub fn dry_run(self, dry_run: bool) -> Self {
        self.with(|settings| *settings.dry_run.get_mut() = dry_run)
    }

    /// Up to where the latency of a request is measured, for a learned budget. By default to the head of its response.
    ///
    /// Where a request passes several layers of one budget, the outermost one that counts it also measures it, and says
    /// by its own [`outcome`](Self::outcome) how it has ended.
    pub fn measure(self, measure: Measure) -> Self {
        self.with(|settings| settings.measure = measure)
    }

    /// Tells a learned budget how a request has ended, by the head of its response.
    ///
    /// `None` leaves it to the layer, which takes 503 and 504 for overload, and for gRPC `UNAVAILABLE`,
    /// `DEADLINE_EXCEEDED` and `RESOURCE_EXHAUSTED`; 408 and `CANCELLED` for requests that were cut short; and ignores
    /// other server errors and 429. A panic in the closure counts as `None`. Errors of the inner service are ignored, and
    /// a refusal by a layer further in is no sample, so the closure is asked about neither. It is asked about measured
    /// requests alone: under high load, one in some.
    ///
    /// With [`Measure::Body`], a success is one so far: a body that fails is ignored, and a gRPC status behind it counts.
    ///
    /// ```
    /// use http::StatusCode;
    /// use loadshed::{LoadShed, control::Outcome};
    ///
    /// // A back end that answers 500 when its pool is empty, and a page of news that is never in a hurry.
    /// let shed = LoadShed::ratio(0.85).outcome(|head| match head.status() {
    ///     StatusCode::INTERNAL_SERVER_ERROR => Some(Outcome::Overload),
    ///     _ if head.headers().contains_key("x-news") => Some(Outcome::Ignored),
    ///     _ => None,
    /// });
    /// ```
    pub fn outcome(
        self,
        outcome: impl Fn(&Response<()>) -> Option<Outcome> + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.outcome = Some(AskOutcome::new(outcome)))
    }

    /// Names the layer, for people: with the feature `metrics` it is what the figures by route call a request that is none
    /// of the layer's own patterns. So a layer at one route has the route's own name, and one around the app tells by it
    /// what is left.
    ///
    /// ```
    /// use loadshed::{Budget, LoadShed};
    ///
    /// let pool = Budget::fixed(200).named("mail");
    /// let receive = LoadShed::ratio(0.85).budget(&pool).named("/mail/receive");
    /// let send = LoadShed::ratio(0.7).budget(&pool).named("/mail/send");
    /// ```
    pub fn named(self, name: impl Into<String>) -> Self {
        self.with(|settings| settings.name = Some(name.into().into()))
    }

    /// What can be changed while running.
    ///
    /// It belongs to this value as it is now, and to all layers and services that come of it. A setting made after
    /// makes a value of its own.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.settings))
    }

    /// Settings are shared once the layer is in use or was cloned: from then on a change makes new ones.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(self.settings_mut());
        self
    }

    pub(crate) fn try_with(
        mut self,
        change: impl FnOnce(&mut Settings) -> Result<(), InvalidSetting>,
    ) -> Result<Self, InvalidSetting> {
        change(self.settings_mut()).map(|()| self)
    }

    fn settings_mut(&mut self) -> &mut Settings {
        let settings = Arc::make_mut(&mut self.settings);
        // Its routes, or its budget, may be about to change.
        settings.decisions = Decisions::default();
        settings
    }
}

impl<S> Layer<S> for LoadShed {
    type Service = LoadShedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        self.settings.begin();
        LoadShedService::new(inner, Arc::clone(&self.settings))
    }
}
