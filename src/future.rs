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

use crate::{
    body::ResponseBody,
    budget::{Place, Probe, Scope, show},
    control::Outcome,
    outcome,
    shed::Shed,
};

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

/// Ends with the head of the response, or as a cancellation.
struct Measurement(Option<Probe>);

impl Measurement {
    /// What is inside runs until [`leave`](Self::leave). If it panics, there is no sample.
    #[inline]
    fn enter<'a>(&mut self, place: &'a mut Place) -> Scope<'a> {
        if let Some(probe) = &mut self.0 {
            probe.inside = true;
        }
        show(place)
    }

    #[inline]
    fn leave(&mut self, scope: Scope<'_>) {
        Probe::follow(&mut self.0, scope);
    }

    /// Without a sample, if that is no outcome.
    #[inline]
    fn end(&mut self, outcome: impl FnOnce(&Probe) -> Option<Outcome>) {
        if let Some(probe) = self.0.take() {
            if let Some(outcome) = outcome(&probe) {
                probe.finish(outcome);
            }
        }
    }
}

impl Drop for Measurement {
    #[inline]
    fn drop(&mut self) {
        self.end(|probe| (!probe.inside).then_some(Outcome::Cancelled));
    }
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    #[inline]
    fn new(state: State<S, B>, place: Place, probe: Option<Probe>) -> Self {
        Self {
            state,
            place,
            measurement: Measurement(probe),
        }
    }

    #[inline]
    pub(crate) fn called(future: S::Future, place: Place, probe: Option<Probe>) -> Self {
        Self::new(State::Called { future }, place, probe)
    }

    pub(crate) fn waiting(
        service: S,
        request: Request<B>,
        place: Place,
        probe: Option<Probe>,
    ) -> Self {
        let request = Some(request);
        let waiting = Box::new(Waiting { service, request });
        Self::new(State::Waiting { waiting }, place, probe)
    }

    pub(crate) fn failed(error: S::Error) -> Self {
        let error = Some(error);
        Self::new(State::Failed { error }, Place::default(), None)
    }

    pub(crate) fn refused(response: Response<Bytes>) -> Self {
        let response = Some(Box::new(response));
        Self::new(State::Refused { response }, Place::default(), None)
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
                    let result = ready!(polled);
                    this.measurement.end(|_| outcome(&result));
                    let place = mem::take(this.place);
                    return Poll::Ready(
                        result.map(|head| head.map(|body| ResponseBody::served(body, place))),
                    );
                }
                StateProj::Waiting { waiting } => {
                    let scope = this.measurement.enter(this.place);
                    let polled = waiting.service.poll_ready(cx);
                    this.measurement.leave(scope);
                    if let Err(error) = ready!(polled) {
                        this.measurement.end(|_| Some(Outcome::Ignored));
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

/// `None` for a refusal further in, of whatever budget: it says nothing about how long requests take.
fn outcome<R, E>(result: &Result<Response<R>, E>) -> Option<Outcome> {
    let Ok(response) = result else {
        return Some(Outcome::Ignored);
    };
    if response.extensions().get::<Shed>().is_some() {
        return None;
    }
    Some(outcome::of_head(response))
}

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
