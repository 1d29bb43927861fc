use std::{sync::Arc, time::Duration};

use http::HeaderName;
use loadshed::InvalidSetting;
use tower::retry::budget::Budget;
use tower_layer::Layer;

use super::{
    backoff::Backoff,
    random::Random,
    repeat::{Cloned, Once, Replayed},
    replay::Replay,
    retry_budget::{RetryBudget, Share},
    service::BackpressureService,
    settings::{Settings, expect_valid},
    throttle::Throttle,
};

/// A [`Layer`] for outgoing calls that does what a server under load asks for: see the [crate] documentation.
///
/// One value is one budget of retries and one throttle, however often it is applied or cloned: use one for each server,
/// or for each set of servers that stand in for each other.
#[derive(Clone, Debug)]
#[must_use]
pub struct Backpressure<C = Cloned> {
    settings: Arc<Settings>,
    repeat: C,
}

impl Backpressure {
    /// With all settings as their methods state them, for request bodies that are [`Clone`].
    /// [`replay`](Self::replay) and [`once`](Self::once) are for others.
    pub fn new() -> Self {
        Self {
            settings: Arc::new(Settings::default()),
            repeat: Cloned,
        }
    }
}

impl Default for Backpressure {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> Backpressure<C> {
    /// For request bodies that are not [`Clone`]: they are kept while they are sent, up to 256 KiB. What is longer, or
    /// has not come to its end when the refusal comes, is not retried.
    ///
    /// `wrap` makes a body of the same type again: `tonic::body::Body::new`, `axum::body::Body::new`,
    /// `reqwest::Body::wrap`, http-body-util's `BoxBody::new`.
    pub fn replay<B>(self, wrap: fn(Replay<B>) -> B) -> Backpressure<Replayed<B>> {
        self.repeat(Replayed::new(wrap))
    }

    /// Without retries, and so for any request body.
    pub fn once(self) -> Backpressure<Once> {
        self.repeat(Once)
    }

    /// How often one call is retried, by default up to twice (SRE book, chapter 21: three tries). 0 is never.
    pub fn retries(self, retries: u32) -> Self {
        self.with(|settings| settings.retries = retries)
    }

    /// The longest wait before a retry, by default 10 seconds. If it would take longer, or longer than the
    /// [`Deadline`](super::Deadline) leaves, the refusal is returned at once, as it is.
    pub fn patience(self, patience: Duration) -> Self {
        self.with(|settings| settings.patience = patience)
    }

    /// How long to wait where the server did not say: a random part of `base` before the first retry, of twice as much
    /// before the second, and so on up to `most`. By default 0.1 seconds, up to 10.
    ///
    /// # Panics
    ///
    /// If `base` is zero, or more than `most`. [`try_backoff`](Self::try_backoff) returns an error instead.
    #[track_caller]
    pub fn backoff(self, base: Duration, most: Duration) -> Self {
        expect_valid(self.try_backoff(base, most))
    }

    /// [`backoff`](Self::backoff) for values that come from configuration.
    ///
    /// # Errors
    ///
    /// If `base` is zero, or more than `most`.
    pub fn try_backoff(self, base: Duration, most: Duration) -> Result<Self, InvalidSetting> {
        let backoff = Backoff::try_new(base, most)?;
        Ok(self.with(|settings| settings.backoff = backoff))
    }

    /// How many retries there may be for each call, over all calls: by default 0.1. The first ten are lent, and paid back
    /// before more are earned; at most a hundred are saved up.
    ///
    /// # Panics
    ///
    /// If `share` is not greater than 0 and at most 1. [`try_retry_budget`](Self::try_retry_budget) returns an error
    /// instead.
    #[track_caller]
    pub fn retry_budget(self, share: f64) -> Self {
        expect_valid(self.try_retry_budget(share))
    }

    /// [`retry_budget`](Self::retry_budget) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `share` is not greater than 0 and at most 1.
    pub fn try_retry_budget(self, share: f64) -> Result<Self, InvalidSetting> {
        Share::try_new(share).map(|share| self.with_retry_budget(share))
    }

    /// A budget of one's own, such as tower's `TpsBudget`. Each call that is answered for the first
    /// time deposits once, each retry withdraws once.
    pub fn with_retry_budget(self, budget: impl Budget + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.retry_budget = RetryBudget::new(budget))
    }

    /// The K of the throttle, by default 2: how many requests are sent for each one that the server accepts. Nearer to 1
    /// the server sees fewer of the calls that it would refuse, and the client learns later that it would take them.
    ///
    /// # Panics
    ///
    /// If `k` is not a number of at least 1. [`try_throttle`](Self::try_throttle) returns an error instead.
    #[track_caller]
    pub fn throttle(self, k: f64) -> Self {
        expect_valid(self.try_throttle(k))
    }

    /// [`throttle`](Self::throttle) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `k` is not a number of at least 1.
    pub fn try_throttle(self, k: f64) -> Result<Self, InvalidSetting> {
        let throttle = Throttle::try_new(k)?;
        Ok(self.with(|settings| settings.throttle = Some(Arc::new(throttle))))
    }

    /// Sends every call, however many are refused.
    pub fn without_throttle(self) -> Self {
        self.with(|settings| settings.throttle = None)
    }

    /// Where an HTTP call says how many milliseconds its [`Deadline`](super::Deadline) leaves. By default
    /// `x-envoy-expected-rq-timeout-ms`, as Envoy tells those behind it. gRPC has `grpc-timeout`.
    pub fn deadline_header(self, name: HeaderName) -> Self {
        self.with(|settings| settings.deadline_header = name)
    }

    /// Where a call says how much it matters, if it has a [`Criticality`](crate::Criticality) in its extensions: as `SHEDDABLE`,
    /// `SHEDDABLE_PLUS`, `CRITICAL` or `CRITICAL_PLUS`. By default `x-criticality`; there is no standard.
    ///
    /// A call without a [`Criticality`](crate::Criticality) in its extensions goes out as it is. So a handler that copies the headers of its caller
    /// onto the call passes on, in its own name, whatever class that caller has claimed: leave this one out.
    pub fn criticality_header(self, name: HeaderName) -> Self {
        self.with(|settings| settings.criticality_header = name)
    }

    /// Makes back-off and throttle draw the same numbers each time.
    pub fn seed(self, seed: u64) -> Self {
        self.with(|settings| settings.random = Arc::new(Random::seeded(seed)))
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }

    fn repeat<D>(self, repeat: D) -> Backpressure<D> {
        Backpressure {
            settings: self.settings,
            repeat,
        }
    }
}

impl<S, C: Clone> Layer<S> for Backpressure<C> {
    type Service = BackpressureService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        BackpressureService::new(inner, self.repeat.clone(), Arc::clone(&self.settings))
    }
}
