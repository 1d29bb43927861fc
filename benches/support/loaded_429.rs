//! The lower bound of a refusal: the same response, without a decision.

use std::{
    convert::Infallible,
    future::Future,
    hint::black_box,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use tower::Service;

use crate::request::Body;

/// The cost of the response alone, without a decision: the headers, the body and the extension of a refusal, with the same
/// number of allocations.
#[derive(Clone)]
pub(crate) struct Loaded429;

impl Service<Request<Body>> for Loaded429 {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = LoadedFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        drop(black_box(request));
        LoadedFuture
    }
}

pub(crate) struct LoadedFuture;

impl Future for LoadedFuture {
    type Output = Result<Response<Full<Bytes>>, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let problem = Bytes::from_static(br#"{"title":"The server is busy. Retry later."}"#);
        let mut response = Response::new(Full::new(problem));
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        *response.headers_mut() = HeaderMap::with_capacity(3);
        let headers = response.headers_mut();
        let seconds = HeaderValue::from_static(black_box("7"));
        headers.insert(header::RETRY_AFTER, seconds);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, json);
        response.extensions_mut().insert(black_box([0_u64; 3]));
        Poll::Ready(Ok(response))
    }
}
