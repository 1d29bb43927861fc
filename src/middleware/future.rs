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

use super::{
    body::ResponseBody,
    measurement::{BodyMeasurement, Measurement},
    waiter::Waiter,
};
use crate::{
    admission::permit::CountPermit, control::controller::Outcome,
    protocol::refusal::refusal::RefusalResponse, shed::Shed, upload::watch::EndableUpload,
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
        // Declared after the state: the inner future is dropped before the permit is given back.
        permit: CountPermit,
        // Declared after the permit: a sample may close a window, which takes longer.
        measurement: Measurement,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, B>
    where
        S: Service<Request<B>>,
    {
        // The upload, if there is one that may be ended.
        Called { #[pin] future: S::Future, upload: Option<EndableUpload> },
        // In a box, as a request is large and few requests wait: the future of each request would be larger.
        Waiting { waiting: Box<Waiting<S, B>> },
        Refused { response: Option<RefusalResponse> },
        // The inner service failed when it was polled for readiness.
        Failed { error: Option<S::Error> },
    }
}

/// A request that is not called yet: it is queued, or the inner service is not ready.
struct Waiting<S, B> {
    /// `None` once the request is admitted.
    waiter: Option<Waiter>,
    service: S,
    request: Option<Request<B>>,
    upload: Option<EndableUpload>,
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    #[inline]
    fn new(state: State<S, B>, permit: CountPermit, measurement: Measurement) -> Self {
        Self {
            state,
            permit,
            measurement,
        }
    }

    /// Has the upload of the request ended if it is too slow.
    pub(crate) fn with_upload(mut self, upload: Option<EndableUpload>) -> Self {
        let Some(upload) = upload else {
            return self;
        };
        self.state = match self.state {
            State::Called { future, .. } => State::Called {
                future,
                upload: Some(upload),
            },
            State::Waiting { mut waiting } => {
                waiting.upload = Some(upload);
                State::Waiting { waiting }
            }
            other => other,
        };
        self
    }

    fn without_permit(state: State<S, B>) -> Self {
        Self::new(state, CountPermit::EMPTY, Measurement::default())
    }

    #[inline]
    pub(crate) fn called(future: S::Future, permit: CountPermit, measurement: Measurement) -> Self {
        Self::new(
            State::Called {
                future,
                upload: None,
            },
            permit,
            measurement,
        )
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
            upload: None,
        });
        Self::new(State::Waiting { waiting }, permit, measurement)
    }

    pub(crate) fn queued(waiter: Waiter, service: S, request: Request<B>) -> Self {
        let waiting = Box::new(Waiting {
            waiter: Some(waiter),
            service,
            request: Some(request),
            upload: None,
        });
        Self::without_permit(State::Waiting { waiting })
    }

    pub(crate) fn failed(error: S::Error) -> Self {
        let error = Some(error);
        Self::without_permit(State::Failed { error })
    }

    pub(crate) fn refused(response: RefusalResponse) -> Self {
        let response = Some(response);
        Self::without_permit(State::Refused { response })
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

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let StateProj::Called { future, upload } = this.state.as_mut().project() else {
                let state = this.state.as_mut();
                match ready!(state.poll_uncalled(this.permit, this.measurement, cx)) {
                    Some(end) => return Poll::Ready(end),
                    None => continue,
                }
            };
            if let Some(watched) = upload
                && let Poll::Ready(response) = watched.poll_ended(cx)
            {
                // Drops the inner future, and with it the rest of the upload, before the permit.
                this.state.set(State::Failed { error: None });
                *this.permit = CountPermit::EMPTY;
                this.measurement.end(Outcome::Ignored);
                return Poll::Ready(Ok(response.map(ResponseBody::refused)));
            }
            this.measurement.enter();
            let mut polled = future.poll(cx);
            this.measurement.leave();
            if let CountPermit::Shared(_) = this.permit {
                inner_polled(this.permit, &polled);
            }
            let mut rest = this.measurement.head(&mut polled, this.permit);
            if polled.is_ready() && upload.is_some() {
                // Once the request has responded, its upload is not ended any more.
                *upload = None;
            }
            // In place: once the response is taken apart, each call that may panic costs a copy of it.
            if let Poll::Ready(Ok(response)) = &polled {
                keep_for_body(this.permit, &mut rest, response.body());
            }
            return match polled {
                Poll::Ready(Ok(response)) => {
                    let permit = mem::take(this.permit);
                    let held = |body| ResponseBody::served(body, permit, rest);
                    Poll::Ready(Ok(response.map(held)))
                }
                Poll::Ready(Err(error)) => {
                    // Drops the inner future before the permit.
                    this.state.set(State::Failed { error: None });
                    *this.permit = CountPermit::EMPTY;
                    this.measurement.end(Outcome::Ignored);
                    Poll::Ready(Err(error))
                }
                Poll::Pending => Poll::Pending,
            };
        }
    }
}

impl<S, B, R> State<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    B: Body + Send + 'static,
    R: Body<Data = Bytes>,
{
    /// Returns the result of a request that ends without the inner service, or `None` once the inner service is called.
    // A function of its own: within the loop of `poll` its values would be copied once more.
    #[cold]
    fn poll_uncalled(
        mut self: Pin<&mut Self>,
        permit: &mut CountPermit,
        measurement: &mut Measurement,
        cx: &mut Context<'_>,
    ) -> Poll<Option<ServiceResult<R, S::Error>>> {
        match self.as_mut().project() {
            StateProj::Called { .. } => Poll::Ready(None),
            StateProj::Waiting { waiting } if waiting.waiter.is_some() => {
                match ready!(waiting.poll_waiter(cx)) {
                    Ok(admitted) => {
                        (*permit, *measurement) = admitted;
                        Poll::Ready(None)
                    }
                    Err(response) => {
                        self.set(Self::Refused { response: None });
                        Poll::Ready(Some(Ok(refusal(response))))
                    }
                }
            }
            StateProj::Waiting { waiting } => {
                measurement.enter();
                let polled = waiting.service.poll_ready(cx);
                measurement.leave();
                if let Err(error) = ready!(polled) {
                    self.set(Self::Failed { error: None });
                    *permit = CountPermit::EMPTY;
                    measurement.end(Outcome::Ignored);
                    return Poll::Ready(Some(Err(error)));
                }
                let request = waiting.request.take().expect(POLLED_AGAIN);
                measurement.enter();
                let future = waiting.service.call(request);
                measurement.leave();
                let upload = waiting.upload.take();
                self.set(Self::Called { future, upload });
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

/// Ends the permit of a request whose response is complete with its head.
#[inline]
fn keep_for_body<B: Body>(permit: &mut CountPermit, rest: &mut BodyMeasurement, body: &B) {
    // hyper never polls such a body, it asks `is_end_stream` alone.
    if body.is_end_stream() {
        *permit = CountPermit::EMPTY;
    } else if permit.is_multiplexed() {
        // The body is not even polled once while the window of its stream is full.
        rest.watch_for_stall(permit);
    }
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
    fn poll_waiter(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(CountPermit, Measurement), RefusalResponse>> {
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
                let measurement =
                    Measurement::begin(settings, settings.budget(), &permit, threshold);
                let weight = shared.and_then(|permit| permit.weight());
                let (request, upload) = settings.watch(request, threshold, weight);
                (self.request, self.upload) = (Some(request), upload);
                Ok((permit, measurement))
            }
            Err(refused) => {
                let mut request = self.request.take().expect(POLLED_AGAIN);
                let response = settings.refuse(&mut request, &decided, &refused);
                settings.read_rest(request);
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
            State::Called { .. } => "called",
            State::Waiting { waiting } if waiting.waiter.is_some() => "queued",
            State::Waiting { .. } => "waiting for the inner service",
            State::Refused { .. } => "refused",
            State::Failed { .. } => "failed",
        };
        f.debug_struct("ResponseFuture")
            .field("state", &state)
            .field("permit", &self.permit)
            .finish_non_exhaustive()
    }
}
