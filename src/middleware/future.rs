use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{attached::Attached, body::ResponseBody, measurement::Measurement, waiter::Waiter};
use crate::{
    admission::permit::CountPermit,
    control::controller::Outcome,
    protocol::{grpc, refusal::refusal::RefusalResponse},
    refused_upload::reader::has_more,
    shed::Shed,
    upload::watch::EndableUpload,
};

pin_project! {
    /// The response future of [`LoadShedService`](crate::LoadShedService). It holds the request's permit until the head
    /// of the response is ready, and then hands the permit to the body.
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, B>
    where
        S: Service<Request<B>>,
    {
        // A request that nothing but its permit follows.
        Called {
            #[pin]
            future: S::Future,
            // Declared after the future: the inner future is dropped before the permit is given back.
            permit: CountPermit,
        },
        Watched {
            #[pin]
            future: S::Future,
            permit: CountPermit,
            // Declared after the permit: a sample may close a window, which takes longer.
            watch: Watch,
        },
        // In a box, as a request is large and few requests wait: the future of each request would be larger.
        Waiting { waiting: Box<Waiting<S, B>> },
        Refused { response: Option<RefusalResponse> },
        // The inner service failed when it was polled for readiness.
        Failed { error: Option<S::Error> },
    }
}

/// What watches a request besides its permit.
enum Watch {
    Measurement(Measurement),
    Upload(EndableUpload),
    // In a box, as the future of each request would be larger.
    Both(Box<(Measurement, EndableUpload)>),
}

impl Watch {
    #[inline]
    fn of(measurement: Measurement, upload: Option<EndableUpload>) -> Self {
        match upload {
            None => Self::Measurement(measurement),
            Some(upload) if measurement.is_over() => Self::Upload(upload),
            Some(upload) => Self::Both(Box::new((measurement, upload))),
        }
    }

    #[inline]
    fn measurement(&mut self) -> Option<&mut Measurement> {
        match self {
            Self::Measurement(measurement) => Some(measurement),
            Self::Upload(_) => None,
            Self::Both(both) => Some(&mut both.0),
        }
    }

    fn take_measurement(&mut self) -> Measurement {
        self.measurement().map(mem::take).unwrap_or_default()
    }

    fn upload(&mut self) -> Option<&mut EndableUpload> {
        match self {
            Self::Measurement(_) => None,
            Self::Upload(upload) => Some(upload),
            Self::Both(both) => Some(&mut both.1),
        }
    }

    /// Polls the inner service: see [`Measurement::inside`].
    #[inline]
    fn inside<T>(&mut self, poll: impl FnOnce() -> T) -> T {
        match self.measurement() {
            Some(measurement) => measurement.inside(poll),
            None => poll(),
        }
    }
}

/// A request that is not called yet: it is queued, or the inner service is not ready.
struct Waiting<S, B> {
    /// `None` once the request is admitted.
    waiter: Option<Waiter>,
    service: S,
    request: Option<Request<B>>,
    // In the order of their drops, as in `State`.
    permit: CountPermit,
    measurement: Measurement,
    upload: Option<EndableUpload>,
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    /// Has the upload of the request ended if it is too slow, once the inner service is called.
    pub(crate) fn with_upload(mut self, upload: Option<EndableUpload>) -> Self {
        if let State::Waiting { waiting } = &mut self.state {
            waiting.upload = upload;
        }
        self
    }

    #[inline]
    pub(crate) fn called(future: S::Future, permit: CountPermit) -> Self {
        State::Called { future, permit }.into()
    }

    /// Calls the inner service for a request that may be measured, and whose permit or upload others may know.
    #[inline]
    pub(crate) fn watched(
        future: S::Future,
        permit: CountPermit,
        measurement: Measurement,
        upload: Option<EndableUpload>,
    ) -> Self {
        if permit.shared().is_none() && measurement.is_over() && upload.is_none() {
            return Self::called(future, permit);
        }
        let watch = Watch::of(measurement, upload);
        let state = State::Watched {
            future,
            permit,
            watch,
        };
        state.into()
    }

    pub(crate) fn waiting(
        service: S,
        request: Request<B>,
        permit: CountPermit,
        measurement: Measurement,
    ) -> Self {
        let waiting = Box::new(Waiting {
            waiter: None,
            service,
            request: Some(request),
            permit,
            measurement,
            upload: None,
        });
        State::Waiting { waiting }.into()
    }

    pub(crate) fn queued(waiter: Waiter, service: S, request: Request<B>) -> Self {
        let waiting = Box::new(Waiting {
            waiter: Some(waiter),
            service,
            request: Some(request),
            permit: CountPermit::EMPTY,
            measurement: Measurement::default(),
            upload: None,
        });
        State::Waiting { waiting }.into()
    }

    pub(crate) fn failed(error: S::Error) -> Self {
        let error = Some(error);
        State::Failed { error }.into()
    }

    pub(crate) fn refused(response: RefusalResponse) -> Self {
        let response = Some(response);
        State::Refused { response }.into()
    }
}

impl<S, B> From<State<S, B>> for ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    #[inline]
    fn from(state: State<S, B>) -> Self {
        Self { state }
    }
}

/// The result for the caller.
type ServiceResult<R, E> = Result<Response<ResponseBody<R>>, E>;

impl<S, B, R> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    B: Body + Send + 'static,
    R: Body<Data = Bytes>,
{
    type Output = ServiceResult<R, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let StateProj::Called { future, permit } = state.as_mut().project() else {
            return state.poll_rest(cx);
        };
        let polled = future.poll(cx);
        // In place: once the response is taken apart, each call that may panic costs a copy of it.
        if let Poll::Ready(Ok(response)) = &polled
            && keep_for_body(permit, response.body())
        {
            permit.watch_for_stall();
        }
        match polled {
            Poll::Ready(Ok(response)) => {
                let attached = Attached::Permit(mem::take(permit));
                Poll::Ready(Ok(response.map(|body| ResponseBody::served(body, attached))))
            }
            Poll::Ready(Err(error)) => {
                state.set(State::Failed { error: None });
                Poll::Ready(Err(error))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S, B, R> State<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    B: Body + Send + 'static,
    R: Body<Data = Bytes>,
{
    /// Polls a request that is watched, or that the inner service is not called for.
    // A function of its own, so that the poll of other requests is inlined without it.
    #[cold]
    #[inline(never)]
    fn poll_rest(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<ServiceResult<R, S::Error>> {
        while !matches!(*self, Self::Watched { .. }) {
            if let Some(end) = ready!(self.as_mut().poll_uncalled(cx)) {
                return Poll::Ready(end);
            }
        }
        self.poll_watched(cx)
    }

    #[inline(always)]
    fn poll_watched(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<ServiceResult<R, S::Error>> {
        let StateProj::Watched {
            future,
            permit,
            watch,
        } = self.as_mut().project()
        else {
            return Poll::Pending;
        };
        if let Some(upload) = watch.upload()
            && let Poll::Ready(response) = upload.poll_ended(cx)
        {
            self.fail();
            return Poll::Ready(Ok(response.map(|text| ResponseBody::refused(text.into()))));
        }
        let mut polled = watch.inside(|| future.poll(cx));
        if let CountPermit::Shared(_) = permit {
            inner_polled(permit, &polled);
        }
        let mut bytes = 0;
        if let Poll::Ready(Ok(response)) = &mut polled
            && let Some(measurement) = watch.measurement()
        {
            bytes = measurement.judge(response, permit);
        }
        if polled.is_ready() && watch.upload().is_some() {
            // Once the request has responded, its upload is not ended any more.
            *watch = Watch::Measurement(watch.take_measurement());
        }
        if let Poll::Ready(Ok(response)) = &polled
            && keep_for_body(permit, response.body())
            && let Some(permit) = permit.watch_for_stall()
            && let Some(measurement) = watch.measurement()
        {
            measurement.share(permit);
        }
        match polled {
            Poll::Ready(Ok(response)) => {
                let measurement = watch.take_measurement();
                let attached = Attached::new(mem::take(permit), measurement, bytes);
                Poll::Ready(Ok(response.map(|body| ResponseBody::served(body, attached))))
            }
            Poll::Ready(Err(error)) => {
                self.fail();
                Poll::Ready(Err(error))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Ends a request that has failed: drops the inner future, and with it the rest of the upload, before the permit, and tells
    /// the outcome last.
    fn fail(mut self: Pin<&mut Self>) {
        let mut last = match self.as_mut().project() {
            StateProj::Watched { watch, .. } => watch.take_measurement(),
            StateProj::Waiting { waiting } => mem::take(&mut waiting.measurement),
            _ => Measurement::default(),
        };
        self.set(Self::Failed { error: None });
        last.end(Outcome::Ignored);
    }

    /// Returns the result of a request that ends without the inner service, or `None` once the inner service is called.
    fn poll_uncalled(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<ServiceResult<R, S::Error>>> {
        match self.as_mut().project() {
            StateProj::Called { .. } | StateProj::Watched { .. } => Poll::Ready(None),
            StateProj::Waiting { waiting } if waiting.waiter.is_some() => {
                if let Err(response) = ready!(waiting.poll_waiter(cx)) {
                    self.set(Self::Refused { response: None });
                    return Poll::Ready(Some(Ok(refusal(response))));
                }
                Poll::Ready(None)
            }
            StateProj::Waiting { waiting } => {
                let Waiting {
                    service,
                    request,
                    measurement,
                    ..
                } = &mut **waiting;
                let polled = measurement.inside(|| service.poll_ready(cx));
                if let Err(error) = ready!(polled) {
                    self.fail();
                    return Poll::Ready(Some(Err(error)));
                }
                let request = request.take().expect(POLLED_AGAIN);
                let future = measurement.inside(|| service.call(request));
                let measurement = mem::take(&mut waiting.measurement);
                let watched = Self::Watched {
                    future,
                    permit: mem::take(&mut waiting.permit),
                    watch: Watch::of(measurement, waiting.upload.take()),
                };
                self.set(watched);
                Poll::Ready(None)
            }
            StateProj::Refused { response } => {
                let response = response.take().expect(POLLED_AGAIN);
                Poll::Ready(Some(Ok(refusal(response))))
            }
            StateProj::Failed { error } => {
                let error = error.take().expect(POLLED_AGAIN);
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}

/// Ends the permit of a request whose response is complete with its head. Returns whether the sweep of stalled responses has to
/// know the response from now on.
#[inline]
fn keep_for_body<B: Body>(permit: &mut CountPermit, body: &B) -> bool {
    // hyper never polls such a body, it asks `is_end_stream` alone.
    if body.is_end_stream() {
        *permit = CountPermit::EMPTY;
    }
    // The body is not even polled once while the window of its stream is full.
    permit.is_multiplexed()
}

/// Sees to a shared permit after a poll of the inner service, in which an inner layer may have refused the request.
#[cold]
fn inner_polled<R, E>(permit: &mut CountPermit, polled: &Poll<Result<Response<R>, E>>) {
    let CountPermit::Shared(shared) = permit else {
        return;
    };
    if polled.is_ready() {
        shared.end_probe();
    }
    match polled {
        Poll::Ready(Err(_)) => {}
        // The response is that refusal: whatever becomes of its body, the request is not in flight.
        Poll::Ready(Ok(response)) if response.extensions().get::<Shed>().is_some() => {
            if shared.ends_refused() {
                *permit = CountPermit::EMPTY;
            }
        }
        Poll::Ready(Ok(_)) | Poll::Pending => shared.works_on(),
    }
}

fn refusal<R>(response: RefusalResponse) -> Response<ResponseBody<R>> {
    response.into_response(ResponseBody::refused)
}

impl<S, B: Body + Send + 'static> Waiting<S, B> {
    /// Polls the queue: ready once the request is admitted or refused.
    #[cold]
    fn poll_waiter(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RefusalResponse>> {
        let Some(waiter) = &mut self.waiter else {
            return Poll::Pending;
        };
        let polled = ready!(waiter.poll(cx));
        let (settings, decided) = waiter.settings();
        let result = match polled {
            Ok(mut permit) => {
                settings.has_waited(&decided);
                let threshold = decided.claim.threshold;
                let mut request = self.request.take().expect(POLLED_AGAIN);
                permit.set_multiplexed(request.version() > Version::HTTP_11);
                let shared = settings.share(&mut request, &mut permit, waiter.held(), threshold);
                let stated = || waiter.left(grpc::timeout(request.headers())?);
                let measurement = Measurement::begin(settings, &permit, threshold, stated);
                let weight = shared.and_then(|permit| permit.weight());
                let (request, upload) = settings.watch(request, threshold, weight);
                (self.request, self.upload) = (Some(request), upload);
                (self.permit, self.measurement) = (permit, measurement);
                Ok(())
            }
            Err(refused) => {
                let mut request = self.request.take().expect(POLLED_AGAIN);
                let response = settings.refuse(&mut request, &decided, &refused);
                // Asked first: a request that is passed on is copied.
                if has_more(&request) {
                    settings.read_rest(request);
                }
                Err(response)
            }
        };
        self.waiter = None;
        Poll::Ready(result)
    }
}

const POLLED_AGAIN: &str = "a response future must not be polled after it was ready";

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Called { .. } | State::Watched { .. } => "called",
            State::Waiting { waiting } if waiting.waiter.is_some() => "queued",
            State::Waiting { .. } => "waiting for the inner service",
            State::Refused { .. } => "refused",
            State::Failed { .. } => "failed",
        };
        f.debug_struct("ResponseFuture")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loadshed_loom)))]
mod tests {
    use std::{convert::Infallible, future::Ready};

    use super::*;

    type Boxed = Pin<Box<dyn Future<Output = Result<Response<String>, Infallible>>>>;

    struct Inner<F>(F);

    impl<F> Service<Request<String>> for Inner<F>
    where
        F: Future<Output = Result<Response<String>, Infallible>>,
    {
        type Response = Response<String>;
        type Error = Infallible;
        type Future = F;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<String>) -> F {
            unreachable!("only its size matters")
        }
    }

    /// The size of a future over that of the inner one.
    fn more<F>() -> usize
    where
        F: Future<Output = Result<Response<String>, Infallible>>,
    {
        size_of::<ResponseFuture<Inner<F>, String>>() - size_of::<F>()
    }

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn p17_a_future_is_at_most_64_bytes_larger_than_the_inner_one() {
        assert_eq!(more::<Boxed>(), 64);
        assert!(more::<Ready<Result<Response<String>, Infallible>>>() <= 64);
    }
}
