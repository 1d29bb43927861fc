use std::{
    mem,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::Body;
use tower_service::Service;

use super::{body::ResponseBody, future::ResponseFuture, measurement::Measurement, waiter::Waiter};
use crate::{
    admission::{claim::Refused, permit::CountPermit, shared_permit::SharedPermit},
    control::controller::Outcome,
    protocol::classification::decide::Decided,
    shedder::settings::Settings,
};

/// The service that [`LoadShed`](crate::LoadShed) makes of an inner service.
///
/// It is always ready: admission is decided for each request, in `call`. So a full server sends refusals at once, and
/// only admitted requests wait for an inner service that is not ready. A layer that never sheds
/// ([`observe`](crate::LoadShed::observe)) is ready when the inner service is.
#[derive(Clone, Debug)]
pub struct LoadShedService<S> {
    inner: S,
    settings: Arc<Settings>,
    passes_readiness: bool,
    looks_at_requests: bool,
    /// The claim of the request that is about to be called, where it depends on the request.
    decided: Option<Decided>,
}

impl<S> LoadShedService<S> {
    pub(crate) fn new(inner: S, settings: Arc<Settings>) -> Self {
        Self {
            inner,
            passes_readiness: settings.passes_readiness(),
            looks_at_requests: settings.looks_at_requests(),
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

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if self.passes_readiness {
            return self.inner.poll_ready(cx);
        }
        // The inner service is polled in `call`, once the request is admitted. Polled here, it might reserve a resource
        // (a permit of its own, a connection) for a request that is then refused or never arrives, while other services
        // lack that resource.
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let budget = self.settings.budget();
        // Built in place and read by reference: a move would cost as much as the decision.
        let decided = if !self.looks_at_requests && !budget.may_be_shared() {
            self.settings.decided()
        } else if let Some(decided) = self.decided.take() {
            decided
        } else {
            return self.decide_and_call(request);
        };
        let permit = match self.settings.admit(budget, &decided, None) {
            Ok(permit) => permit,
            // By reference: a copy of fields that were written just now stalls on the store buffer.
            Err(ref refused) => return self.wait_or_refuse(request, &decided, refused, None),
        };
        // A probe: see `admission::count::sharing`.
        if permit.shared().is_some() {
            return self.share_and_call(request, permit, &decided, None);
        }
        let threshold = decided.claim.threshold;
        let measurement = Measurement::begin(&self.settings, budget, &permit, threshold);
        call_inner(&mut self.inner, request, permit, measurement)
    }
}

impl<S> LoadShedService<S> {
    // Functions of their own, with the claim in a field: a request that is borrowed anywhere in `call` is copied there in every
    // case, which costs as much as all the rest.
    #[cold]
    fn decide_and_call<B, R>(&mut self, mut request: Request<B>) -> ResponseFuture<S, B>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        B: Body + Send + 'static,
        R: Body<Data = Bytes>,
    {
        let decided = self.settings.decide(&mut request);
        let budget = self.settings.budget();
        // Else `call` would not take the claim that is put aside for it.
        let takes_claim = self.looks_at_requests;
        if takes_claim && !budget.may_be_shared() && !self.settings.has_upload(&request) {
            self.decided = Some(decided);
            return self.call(request);
        }
        let held = self.settings.held_permit(&request);
        let permit = match self.settings.admit(budget, &decided, held.as_deref()) {
            Ok(permit) => permit,
            Err(ref refused) => return self.wait_or_refuse(request, &decided, refused, held),
        };
        self.share_and_call(request, permit, &decided, held)
    }

    #[cold]
    fn share_and_call<B, R>(
        &mut self,
        mut request: Request<B>,
        mut permit: CountPermit,
        decided: &Decided,
        held: Option<Arc<SharedPermit>>,
    ) -> ResponseFuture<S, B>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        B: Body + Send + 'static,
        R: Body<Data = Bytes>,
    {
        let threshold = decided.claim.threshold;
        let settings = &self.settings;
        let shared = settings.share(&mut request, &mut permit, held, threshold);
        let measurement = Measurement::begin(settings, settings.budget(), &permit, threshold);
        let weight = shared.and_then(|permit| permit.weight());
        let (request, upload) = settings.watch(request, threshold, weight);
        call_inner(&mut self.inner, request, permit, measurement).with_upload(upload)
    }

    /// Queues or refuses a request that was not admitted.
    #[cold]
    fn wait_or_refuse<B, R>(
        &self,
        mut request: Request<B>,
        decided: &Decided,
        refused: &Refused,
        held: Option<Arc<SharedPermit>>,
    ) -> ResponseFuture<S, B>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        B: Body + Send + 'static,
    {
        match Waiter::of(&self.settings, &mut request, decided, refused, &held) {
            Some(waiter) => ResponseFuture::queued(waiter, self.inner.clone(), request),
            None => {
                if let Some(held) = held {
                    held.refuse();
                }
                let response = self.settings.refuse(&mut request, decided, refused);
                self.settings.read_rest(request);
                ResponseFuture::refused(response)
            }
        }
    }
}

// Always: a request that is passed on by value is copied, which costs as much as the decision.
#[inline(always)]
fn call_inner<S, B, R>(
    inner: &mut S,
    request: Request<B>,
    mut permit: CountPermit,
    mut measurement: Measurement,
) -> ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    B: Body + Send + 'static,
    R: Body<Data = Bytes>,
{
    permit.set_multiplexed(request.version() > Version::HTTP_11);
    // A waker that does nothing: if the inner service is not ready, the future polls again with the task's own waker.
    match inner.poll_ready(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(())) => {
            let future = inner.call(request);
            measurement.leave();
            ResponseFuture::called(future, permit, measurement)
        }
        Poll::Ready(Err(error)) => {
            measurement.leave();
            measurement.end(Outcome::Ignored);
            ResponseFuture::failed(error)
        }
        Poll::Pending => {
            measurement.leave();
            // The polled service goes along, as readiness is its own: a clone starts unready.
            let clone = inner.clone();
            let asked = mem::replace(inner, clone);
            ResponseFuture::waiting(asked, request, permit, measurement)
        }
    }
}
