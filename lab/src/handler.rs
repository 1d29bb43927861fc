//! The service behind the layer, whose calls complete when the simulation says so.

use std::{
    cell::Cell,
    convert::Infallible,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body::Body;
use tower_service::Service;

use crate::{scenario::kind::Answer, station::CallId};

/// Connects the simulation to its handlers, which are called and polled by the layer.
#[derive(Debug, Default)]
pub(crate) struct HandlerLink {
    /// The call that enters the layer.
    pub(crate) entering: Cell<CallId>,
    /// The call whose work is done.
    pub(crate) completed: Cell<CallId>,
    /// Its response.
    pub(crate) response: Cell<Option<Answer>>,
    /// Whether the body of its response is a stream.
    pub(crate) is_stream: Cell<bool>,
}

/// The service behind the layer.
#[derive(Clone, Debug)]
pub(crate) struct Handler(pub(crate) Rc<HandlerLink>);

/// The response to a call, ready once the simulation marks the call as completed.
#[derive(Debug)]
pub(crate) struct Completion {
    call: CallId,
    link: Rc<HandlerLink>,
}

/// A body without data, of a request or a response.
#[derive(Debug, Default)]
pub(crate) struct NoData {
    /// Whether the body ends after its head. The simulation polls a stream when it ends.
    is_stream: bool,
}

impl HandlerLink {
    fn response(&self) -> Response<NoData> {
        let mut response = Response::new(NoData {
            is_stream: self.is_stream.get(),
        });
        match self.response.get() {
            None => {}
            Some(Answer::Status(status)) => {
                let status = StatusCode::from_u16(status);
                *response.status_mut() = status.expect("a kind has valid statuses");
            }
            Some(Answer::Grpc(code)) => {
                let grpc = HeaderValue::from_static("application/grpc");
                response.headers_mut().insert(CONTENT_TYPE, grpc);
                response.headers_mut().insert("grpc-status", code.into());
            }
        }
        response
    }
}

impl Service<Request<NoData>> for Handler {
    type Response = Response<NoData>;
    type Error = Infallible;
    type Future = Completion;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<NoData>) -> Completion {
        Completion {
            call: self.0.entering.get(),
            link: Rc::clone(&self.0),
        }
    }
}

impl Future for Completion {
    type Output = Result<Response<NoData>, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        if self.link.completed.get() == self.call {
            return Poll::Ready(Ok(self.link.response()));
        }
        Poll::Pending
    }
}

impl Body for NoData {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        !self.is_stream
    }
}

pub(crate) fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
