use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{body::ResponseBody, budget::Place, control::Outcome, measure::Measurement};

pin_project! {
    /// The response future of [`LoadShedService`](crate::LoadShedService). It holds the request's place in the budget
    /// until the response's head is there, and hands it to the body then.
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, B>,
        // After the state: what the inner future holds is dropped before the place is given back.
        place: Place,
        // After the place: a sample may close a window, which takes longer.
        measurement: Measurement,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, B>
    where
        S: Service<Request<B>>,
    {
        Called { #[pin] future: S::Future },
        // In a box, as a request is large and few services are ever found not ready: the future of each request would
        // be larger by it.
        Waiting { waiting: Box<Waiting<S, B>> },
        Refused { response: Option<Box<Response<Bytes>>> },
        // The inner service failed before it could be called.
        Failed { error: Option<S::Error> },
    }
}

/// Admitted while the inner service was not ready.
struct Waiting<S, B> {
    service: S,
    request: Option<Request<B>>,
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    #[inline]
    fn new(state: State<S, B>, place: Place, measurement: Measurement) -> Self {
        Self {
            state,
            place,
            measurement,
        }
    }

    #[inline]
    pub(crate) fn called(future: S::Future, place: Place, measurement: Measurement) -> Self {
        Self::new(State::Called { future }, place, measurement)
    }

    pub(crate) fn waiting(
        service: S,
        request: Request<B>,
        place: Place,
        measurement: Measurement,
    ) -> Self {
        let request = Some(request);
        let waiting = Box::new(Waiting { service, request });
        Self::new(State::Waiting { waiting }, place, measurement)
    }

    pub(crate) fn failed(error: S::Error) -> Self {
        let error = Some(error);
        Self::new(State::Failed { error }, Place::default(), Measurement::NONE)
    }

    pub(crate) fn refused(response: Response<Bytes>) -> Self {
        let response = Some(Box::new(response));
        Self::new(
            State::Refused { response },
            Place::default(),
            Measurement::NONE,
        )
    }
}

impl<S, B, R> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Data = Bytes>,
{
    type Output = Result<Response<ResponseBody<R>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let called = match this.state.as_mut().project() {
                StateProj::Called { future } => {
                    let scope = this.measurement.enter(this.place);
                    let polled = future.poll(cx);
                    this.measurement.leave(scope);
                    let mut result = ready!(polled);
                    let rest = this.measurement.head(&mut result);
                    let place = mem::take(this.place);
                    return Poll::Ready(
                        result.map(|head| head.map(|body| ResponseBody::served(body, place, rest))),
                    );
                }
                StateProj::Waiting { waiting } => {
                    let scope = this.measurement.enter(this.place);
                    let polled = waiting.service.poll_ready(cx);
                    this.measurement.leave(scope);
                    if let Err(error) = ready!(polled) {
                        this.measurement.end(Outcome::Ignored);
                        *this.place = Place::default();
                        return Poll::Ready(Err(error));
                    }
                    let request = waiting.request.take().expect(POLLED_AGAIN);
                    let scope = this.measurement.enter(this.place);
                    let future = waiting.service.call(request);
                    this.measurement.leave(scope);
                    future
                }
                StateProj::Refused { response } => {
                    let response = response.take().expect(POLLED_AGAIN);
                    return Poll::Ready(Ok(response.map(ResponseBody::refused)));
                }
                StateProj::Failed { error } => {
                    return Poll::Ready(Err(error.take().expect(POLLED_AGAIN)));
                }
            };
            this.state.set(State::Called { future: called });
        }
    }
}

const POLLED_AGAIN: &str = "a response future is not polled after it was ready";

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Called { .. } => "called",
            State::Waiting { .. } => "waiting for the inner service",
            State::Refused { .. } => "refused",
            State::Failed { .. } => "failed",
        };
        f.debug_struct("ResponseFuture")
            .field("state", &state)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
