use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    body::ResponseBody,
    budget::{Place, show},
    control::Outcome,
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
        place: Place,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, B>
    where
        S: Service<Request<B>>,
    {
        // The inner service was not ready when the request was admitted.
        Waiting { service: S, request: Option<Request<B>> },
        Called { #[pin] future: S::Future },
        Refused { response: Option<Response<Bytes>> },
        // The inner service failed before it could be called.
        Failed { error: Option<S::Error> },
        Done,
    }
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    pub(crate) fn called(future: S::Future, place: Place) -> Self {
        let state = State::Called { future };
        Self { state, place }
    }

    pub(crate) fn waiting(service: S, request: Request<B>, place: Place) -> Self {
        let request = Some(request);
        let state = State::Waiting { service, request };
        Self { state, place }
    }

    pub(crate) fn refused(response: Response<Bytes>) -> Self {
        let response = Some(response);
        Self {
            state: State::Refused { response },
            place: Place::None,
        }
    }

    pub(crate) fn failed(error: S::Error, place: Place) -> Self {
        let error = Some(error);
        let state = State::Failed { error };
        Self { state, place }
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
        let result = {
            let _shown = show(this.place);
            ready!(this.state.as_mut().poll_inner(cx))
        };
        // What the inner future holds is freed now, not when the caller gets around to dropping this one.
        this.state.set(State::Done);
        let mut place = mem::take(this.place);
        Poll::Ready(match result {
            Answer::Served(response) => Ok(served(response, place)),
            Answer::Refused(response) => Ok(response.map(ResponseBody::refused)),
            Answer::Failed(error) => {
                place.measured(Outcome::Ignored);
                Err(error)
            }
        })
    }
}

enum Answer<R, E> {
    Served(Response<R>),
    Refused(Response<Bytes>),
    Failed(E),
}

impl<S, B> State<S, B>
where
    S: Service<Request<B>>,
{
    fn poll_inner<R>(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer<R, S::Error>>
    where
        S: Service<Request<B>, Response = Response<R>>,
    {
        loop {
            let called = match self.as_mut().project() {
                StateProj::Called { future } => {
                    return future.poll(cx).map(|result| match result {
                        Ok(response) => Answer::Served(response),
                        Err(error) => Answer::Failed(error),
                    });
                }
                StateProj::Waiting { service, request } => {
                    if let Err(error) = ready!(service.poll_ready(cx)) {
                        return Poll::Ready(Answer::Failed(error));
                    }
                    let request = request.take().expect("called once");
                    service.call(request)
                }
                StateProj::Refused { response } => {
                    let response = response.take().expect("polled once");
                    return Poll::Ready(Answer::Refused(response));
                }
                StateProj::Failed { error } => {
                    let error = error.take().expect("polled once");
                    return Poll::Ready(Answer::Failed(error));
                }
                StateProj::Done => panic!("a response future was polled after it was ready"),
            };
            self.set(State::Called { future: called });
        }
    }
}

fn served<R: Body>(response: Response<R>, mut place: Place) -> Response<ResponseBody<R>> {
    place.measured(outcome(response.status()));
    response.map(|body| ResponseBody::served(body, place))
}

fn outcome(status: StatusCode) -> Outcome {
    match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => Outcome::Overload,
        status if status.is_server_error() => Outcome::Ignored,
        _ => Outcome::Success,
    }
}

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Waiting { .. } => "waiting for the inner service",
            State::Called { .. } => "called",
            State::Refused { .. } => "refused",
            State::Failed { .. } => "failed",
            State::Done => "done",
        };
        f.debug_struct("ResponseFuture")
            .field("state", &state)
            .field("place", &self.place)
            .finish()
    }
}
