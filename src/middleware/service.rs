use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::Body;
use tower_service::Service;

use super::{body::ResponseBody, future::ResponseFuture, measurement::Measurement, waiter::Waiter};
use crate::{
    admission::{
        claim::Refused, counted_units::CountedUnits, permit::CountPermit,
        shared_permit::SharedPermit,
    },
    control::controller::Outcome,
    protocol::{classification::decide::Decided, grpc},
    refused_upload::reader::has_more,
    shedder::settings::Settings,
    support::sharded_arc::{ShardedArc, Shards},
    threshold::threshold::Threshold,
};

/// The service that [`LoadShed`](crate::LoadShed) makes of an inner service.
///
/// It is always ready: admission is decided for each request, in `call`. So a full server sends refusals at once, and
/// only admitted requests wait for an inner service that is not ready. A layer that never sheds
/// ([`observe`](crate::LoadShed::observe)) is ready when the inner service is.
pub struct LoadShedService<S> {
    inner: S,
    settings: ShardedArc<Settings>,
    /// A clone has none: it is made for each request, and must not write to what clones on other threads write to.
    _shards: Option<Arc<Shards<Settings>>>,
}

impl<S: Clone> Clone for LoadShedService<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            settings: self.settings.clone(),
            _shards: None,
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for LoadShedService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadShedService")
            .field("inner", &self.inner)
            .field("settings", &self.settings)
            .finish()
    }
}

impl<S> LoadShedService<S> {
    pub(crate) fn new(inner: S, shards: Arc<Shards<Settings>>) -> Self {
        Self {
            inner,
            settings: shards.get(),
            _shards: Some(shards),
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
        if self.settings.passes_readiness() {
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
        let Some((mut units, nth)) = self.settings.admit_unseen(budget) else {
            return match self.settings.depends_on_requests() {
                true => self.ask_and_call(request),
                false => self.decide_and_call(request),
            };
        };
        if budget.looks_at(nth) {
            return self.look_and_call(request, units, nth);
        }
        units.multiplexed = request.version() > Version::HTTP_11;
        let permit = CountPermit::from(units);
        budget.tell_admitted();
        match poll_inner(&mut self.inner) {
            Poll::Ready(Ok(())) => ResponseFuture::called(self.inner.call(request), permit),
            polled => self.call_unready(polled, request, permit, Measurement::default()),
        }
    }
}

/// Polls an inner service that is about to be called.
// A waker that does nothing: if the inner service is not ready, the future polls again with the task's own waker.
#[inline]
fn poll_inner<S: Service<Q>, Q>(inner: &mut S) -> Poll<Result<(), S::Error>> {
    inner.poll_ready(&mut Context::from_waker(Waker::noop()))
}

// Functions of their own: a request that is borrowed anywhere in `call` is copied there in every case, which costs as much as
// all the rest.
impl<S> LoadShedService<S> {
    #[inline(never)]
    fn decide_and_call<B, R>(&mut self, request: Request<B>) -> ResponseFuture<S, B>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        B: Body + Send + 'static,
        R: Body<Data = Bytes>,
    {
        self.call_decided(request, &self.settings.decided())
    }

    /// Shows the head of the request to the closures: the request itself, without its body.
    #[inline(never)]
    fn ask_and_call<B, R>(&mut self, request: Request<B>) -> ResponseFuture<S, B>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        B: Body + Send + 'static,
        R: Body<Data = Bytes>,
    {
        let (parts, body) = request.into_parts();
        let mut head = Request::from_parts(parts, ());
        let decided = self.settings.decide(&mut head);
        self.call_decided(head.map(|()| body), &decided)
    }

    #[inline(always)]
    fn call_decided<B, R>(&mut self, request: Request<B>, decided: &Decided) -> ResponseFuture<S, B>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        B: Body + Send + 'static,
        R: Body<Data = Bytes>,
    {
        let budget = self.settings.budget();
        let held = match budget.may_be_shared() {
            true => self.settings.held_permit(&request),
            false => None,
        };
        match self.settings.admit(budget, decided, held.as_deref()) {
            Ok(permit) => self.call_admitted(request, permit, decided.claim.threshold, held),
            Err(ref refused) => self.wait_or_refuse(request, decided, refused, held),
        }
    }

    /// Calls the inner service with a request that is measured, or that probes for nested layers.
    #[cold]
    #[inline(never)]
    fn look_and_call<B, R>(
        &mut self,
        request: Request<B>,
        units: CountedUnits,
        nth: usize,
    ) -> ResponseFuture<S, B>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        B: Body + Send + 'static,
        R: Body<Data = Bytes>,
    {
        let permit = self.settings.budget().permit(units, nth);
        self.call_admitted(request, permit, units.admitted_under.into(), None)
    }

    // Always: a request that is passed on by value is copied.
    #[inline(always)]
    fn call_admitted<B, R>(
        &mut self,
        mut request: Request<B>,
        mut permit: CountPermit,
        threshold: Threshold,
        held: Option<Arc<SharedPermit>>,
    ) -> ResponseFuture<S, B>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        B: Body + Send + 'static,
        R: Body<Data = Bytes>,
    {
        let settings = &self.settings;
        // Moved only where it must be: a request that is passed on by value is copied.
        let has_upload = settings.has_upload(&request);
        let shared = match has_upload || settings.budget().may_be_shared() {
            true => settings.share(&mut request, &mut permit, held, threshold),
            false => None,
        };
        let stated = || grpc::timeout(request.headers());
        let mut measurement = Measurement::begin(settings, &permit, threshold, stated);
        let mut upload = None;
        if has_upload {
            let weight = shared.and_then(|permit| permit.weight());
            (request, upload) = settings.watch(request, threshold, weight);
        }
        permit.set_multiplexed(request.version() > Version::HTTP_11);
        match poll_inner(&mut self.inner) {
            Poll::Ready(Ok(())) => {
                let future = self.inner.call(request);
                measurement.set_inside(false);
                ResponseFuture::watched(future, permit, measurement, upload)
            }
            polled => self
                .call_unready(polled, request, permit, measurement)
                .with_upload(upload),
        }
    }

    /// Waits for the inner service, or fails as it has.
    #[cold]
    #[inline(never)]
    fn call_unready<B, R>(
        &mut self,
        polled: Poll<Result<(), S::Error>>,
        request: Request<B>,
        permit: CountPermit,
        mut measurement: Measurement,
    ) -> ResponseFuture<S, B>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        B: Body + Send + 'static,
        R: Body<Data = Bytes>,
    {
        measurement.set_inside(false);
        if let Poll::Ready(Err(error)) = polled {
            measurement.end(Outcome::Ignored);
            return ResponseFuture::failed(error);
        }
        // The polled service goes along, as readiness is its own: a clone starts unready.
        let clone = self.inner.clone();
        let asked = mem::replace(&mut self.inner, clone);
        ResponseFuture::waiting(asked, request, permit, measurement)
    }

    /// Queues or refuses a request that was not admitted.
    #[inline(always)]
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
                // Asked first: a request that is passed on is copied.
                if has_more(&request) {
                    self.settings.read_rest(request);
                }
                ResponseFuture::refused(response)
            }
        }
    }
}
