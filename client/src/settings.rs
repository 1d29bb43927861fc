use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, request::Parts};
use loadshed::{Criticality, InvalidSetting};

use super::{
    backoff::Backoff,
    deadline::{self, Deadline},
    grpc::{GRPC_TIMEOUT, grpc_content_type},
    not_sent::NotSent,
    random::Random,
    retry_budget::{RetryBudget, Share},
    throttle::Throttle,
};

/// What all services of one layer share.
#[derive(Clone, Debug)]
#[allow(
    unnameable_types,
    reason = "it shows in the type of the future, and is of no use to anyone"
)]
pub struct Settings {
    pub(super) retries: u32,
    pub(super) patience: Duration,
    pub(super) backoff: Backoff,
    pub(super) retry_budget: RetryBudget,
    pub(super) throttle: Option<Arc<Throttle>>,
    pub(super) random: Arc<Random>,
    pub(super) deadline_header: HeaderName,
    pub(super) criticality_header: HeaderName,
}

impl Settings {
    /// Whether to send a call that was retried so often already.
    pub(super) fn admit(&self, retries: u32, deadline: Option<Deadline>) -> Result<(), NotSent> {
        if deadline.is_some_and(|deadline| deadline.left().is_zero()) {
            return Err(NotSent::DeadlineExceeded);
        }
        // The server has asked for the retries, and their budget bounds them.
        let throttle = self.throttle.as_ref().filter(|_| retries == 0);
        if throttle.is_some_and(|throttle| throttle.refuses(&self.random)) {
            return Err(NotSent::Throttled);
        }
        Ok(())
    }

    /// Writes what the server is told about a call.
    pub(super) fn pass_on(&self, head: &mut Parts, deadline: Option<Deadline>) {
        if let Some(left) = deadline.map(Deadline::left) {
            let (name, value) = match grpc_content_type(&head.headers) {
                Some(_) => (GRPC_TIMEOUT, deadline::to_grpc(left)),
                None => (
                    self.deadline_header.clone(),
                    deadline::to_milliseconds(left),
                ),
            };
            head.headers.insert(name, value);
        }
        if let Some(criticality) = head.extensions.get::<Criticality>() {
            let name = self.criticality_header.clone();
            let class = HeaderValue::from_static(criticality.name());
            head.headers.insert(name, class);
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            retries: 2,
            patience: Duration::from_secs(10),
            backoff: Backoff::default(),
            retry_budget: RetryBudget::new(expect_valid(Share::try_new(0.1))),
            throttle: Some(Arc::new(expect_valid(Throttle::try_new(2.0)))),
            random: Arc::default(),
            deadline_header: HeaderName::from_static("x-envoy-expected-rq-timeout-ms"),
            criticality_header: HeaderName::from_static("x-criticality"),
        }
    }
}

/// Panics with the text of the error: for the setters that have a `try_` twin.
#[track_caller]
pub(super) fn expect_valid<T>(checked: Result<T, InvalidSetting>) -> T {
    match checked {
        Ok(value) => value,
        Err(invalid) => panic!("{invalid}"),
    }
}
