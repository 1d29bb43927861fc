use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower::retry::{Retry, future::ResponseFuture};
use tower_service::Service;

use super::{
    attempt::Attempt, body::ResponseBody, call::Call, policy::Policy, repeat::Repeat,
    settings::Settings,
};

/// The service that [`Backpressure`](super::Backpressure) makes of an inner one.
#[derive(Clone, Debug)]
pub struct BackpressureService<S, C> {
    retry: Retry<Policy, Attempt<S, C>>,
    repeat: C,
}

impl<S, C: Clone> BackpressureService<S, C> {
    pub(super) fn new(inner: S, repeat: C, settings: Arc<Settings>) -> Self {
        let attempt = Attempt {
            inner,
            repeat: repeat.clone(),
            settings: Arc::clone(&settings),
        };
        Self {
            retry: Retry::new(Policy(settings), attempt),
            repeat,
        }
    }
}

impl<S, C, B, R> Service<Request<B>> for BackpressureService<S, C>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    C: Repeat<B>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<Policy, Attempt<S, C>, Call<B, C>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // By name, as the body of the call is not known here.
        <Retry<_, _> as Service<Call<B, C>>>::poll_ready(&mut self.retry, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.retry.call(Call::new(request, &self.repeat))
    }
}
