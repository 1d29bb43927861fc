use std::{
    mem,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{body::ResponseBody, future::ResponseFuture, measurement::Measurement, waiter::Waiter};
use crate::{
    admission::claim::Refused, control::controller::Outcome,
    protocol::classification::decide::Decided, shedder::settings::Settings,
};

/// The service that [`LoadShed`](crate::LoadShed) makes of an inner service.
///
/// It is always ready: admission is decided for each request, in `call`. So a full server sends refusals at once, and
/// only admitted requests wait for an inner service that is not ready.
#[derive(Clone, Debug)]
pub struct LoadShedService<S> {
    inner: S,
    settings: Arc<Settings>,
    /// The claim of the request that is about to be called, where it depends on the request.
    decided: Option<Decided>,
}

impl<S> LoadShedService<S> {
    pub(crate) fn new(inner: S, settings: Arc<Settings>) -> Self {
        Self {
            inner,
            settings,
            decided: None,
        }
    }

    /// Returns the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns the inner service, mutably.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service, and drops the layer around it.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, R> Service<Request<B>> for LoadShedService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    B: Body + Send + 'static,
    R: Body<Data = Bytes>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // The inner service is polled in `call`, once the request is admitted. Polled here, it might reserve a resource
        // (a permit of its own, a connection) for a request that is then refused or never arrives, while other services
        // lack that resource.
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        // Built in place and read by reference: a move would cost as much as the decision.
        let decided = if !self.settings.asks() {
            self.settings.decided()
        } else if let Some(decided) = self.decided.take() {
            decided
        } else {
            return self.decide_and_call(request);
        };
        let budget = self.settings.budget();
        let mut permit = match self.settings.admit(budget, &decided) {
            Ok(permit) => permit,
            // By reference: a copy of fields that were written just now stalls on the store buffer.
            Err(ref refused) => return self.wait_or_refuse(request, &decided, refused),
        };
        let mut measurement =
            Measurement::begin(&self.settings, budget, &permit, decided.claim.threshold);
        let scope = measurement.enter(&mut permit);
        // A waker that does nothing: if the inner service is not ready, the future polls again with the task's own waker.
        match self
            .inner
            .poll_ready(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(Ok(())) => {
                let future = self.inner.call(request);
                measurement.leave(scope);
                ResponseFuture::called(future, permit, measurement)
            }
            Poll::Ready(Err(error)) => {
                measurement.leave(scope);
                measurement.end(Outcome::Ignored);
                ResponseFuture::failed(error)
            }
            Poll::Pending => {
                measurement.leave(scope);
                // The polled service goes along, as readiness is its own: a clone starts unready.
                let clone = self.inner.clone();
                let asked = mem::replace(&mut self.inner, clone);
                ResponseFuture::waiting(asked, request, permit, measurement)
            }
        }
    }
}

impl<S> LoadShedService<S> {
    // A function of its own, with the claim in a field: a request that is borrowed anywhere in `call` is copied there
    // in every case, which costs as much as all the rest.
    #[cold]
    fn decide_and_call<B, R>(&mut self, mut request: Request<B>) -> ResponseFuture<S, B>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        B: Body + Send + 'static,
        R: Body<Data = Bytes>,
    {
        self.decided = Some(self.settings.decide(&mut request));
        self.call(request)
    }

    /// Queues or refuses a request that was not admitted.
    #[cold]
    fn wait_or_refuse<B, R>(
        &self,
        mut request: Request<B>,
        decided: &Decided,
        refused: &Refused,
    ) -> ResponseFuture<S, B>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        B: Body + Send + 'static,
    {
        match Waiter::of(&self.settings, &mut request, decided, refused) {
            Some(waiter) => ResponseFuture::queued(waiter, self.inner.clone(), request),
            None => {
                let response = self.settings.refuse(&mut request, decided, refused);
                self.settings.read_rest(request);
                ResponseFuture::refused(response)
            }
        }
    }
}
