//! Lower bounds to which the layer is compared: the cheapest possible count, and the cheapest possible refusal.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response, StatusCode, header};
use tower::Service;

use crate::request::{Bare, BareFuture, Body};

/// The cheapest possible count: one addition and one subtraction.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) inner: Bare<1>,
    pub(crate) count: &'static AtomicUsize,
}

pub(crate) struct RawFuture {
    inner: BareFuture,
    count: &'static AtomicUsize,
}

impl Future for RawFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let output = Pin::new(&mut self.inner).poll(cx);
        self.count.fetch_sub(1, Ordering::Relaxed);
        output
    }
}

impl Service<Request<Body>> for Raw {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = RawFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.inner, cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.count.fetch_add(1, Ordering::Relaxed);
        RawFuture {
            inner: self.inner.call(request),
            count: self.count,
        }
    }
}

/// The simplest layer that holds a permit to the end of the body: an `Arc`, a compare-and-swap, a guard.
#[derive(Clone)]
pub(crate) struct Sketch {
    pub(crate) inner: Bare<2>,
    pub(crate) count: Arc<CacheLine>,
}

pub(crate) struct Guard(Arc<CacheLine>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

pub(crate) struct SketchFuture {
    inner: BareFuture,
    guard: Option<Guard>,
}

#[expect(dead_code, reason = "held, not read")]
pub(crate) struct SketchBody {
    body: Body,
    guard: Option<Guard>,
}

impl Service<Request<Body>> for Sketch {
    type Response = Response<SketchBody>;
    type Error = Infallible;
    type Future = SketchFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.inner, cx)
    }

    fn call(&mut self, request: Request<Body>) -> SketchFuture {
        let mut seen = self.count.load(Ordering::Relaxed);
        while let Err(now) =
            self.count
                .compare_exchange_weak(seen, seen + 1, Ordering::Acquire, Ordering::Relaxed)
        {
            assert!(now < 170, "the benchmark never fills the limit");
            seen = now;
        }
        let guard = Some(Guard(Arc::clone(&self.count)));
        SketchFuture {
            inner: self.inner.call(request),
            guard,
        }
    }
}

impl Future for SketchFuture {
    type Output = Result<Response<SketchBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(Ok(response)) = Pin::new(&mut self.inner).poll(cx) else {
            return Poll::Pending;
        };
        let guard = self.guard.take();
        Poll::Ready(Ok(response.map(|body| SketchBody {
            guard: guard.filter(|_| !http_body::Body::is_end_stream(&body)),
            body,
        })))
    }
}

/// The cheapest possible refusal, with and without headers.
#[derive(Clone)]
pub(crate) struct Always429 {
    pub(crate) retry_after: bool,
}

impl Service<Request<Body>> for Always429 {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut response = Response::new(Body::new());
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        if self.retry_after {
            let seconds = HeaderValue::from(black_box(7_u64));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        drop(black_box(request));
        ready(Ok(response))
    }
}

/// A counter on its own cache line.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct CacheLine(pub(crate) AtomicUsize);

impl std::ops::Deref for CacheLine {
    type Target = AtomicUsize;

    fn deref(&self) -> &AtomicUsize {
        &self.0
    }
}
