//! Promises 3 and 4: layers that keep or rewrite bytes and extensions, inside of the layer and outside, keep no permit.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{Extensions, Request, Response, header, response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use loadshed::{Budget, LoadShed};
use tower::{Layer, ServiceExt, service_fn};
use tower_http::{compression::CompressionLayer, decompression::DecompressionLayer};

use crate::observed::{Stack, boxed};

const LENGTH: usize = 256 << 10;
const CALLS: usize = 5;

/// A response of 256 KiB in one frame that hardly compresses.
fn handler() -> Stack {
    let mut random = fastrand::Rng::with_seed(27);
    let data: Bytes = (0..LENGTH).map(|_| random.u8(..)).collect();
    boxed(service_fn(move |_: Request<Body>| {
        let response = Response::builder().header(header::CONTENT_TYPE, "text/plain");
        let response = response.extension("kept").body(Body::from(data.clone()));
        async { Ok::<_, Infallible>(response.unwrap()) }
    }))
}

/// A cache that keeps all it sees of a request and of its response: extensions, and frames as they are.
#[derive(Clone, Default)]
struct Cache(Arc<Mutex<Option<Entry>>>);

#[derive(Clone)]
struct Entry {
    /// `None` in a cache that keeps no extensions of requests.
    _request: Option<Extensions>,
    head: response::Parts,
    frames: Vec<Bytes>,
}

impl Entry {
    fn response(self) -> Response<Body> {
        let frames = self.frames.into_iter();
        let frames = frames.map(|data| Ok::<_, Infallible>(Frame::data(data)));
        let body = StreamBody::new(stream::iter(frames));
        Response::from_parts(self.head, Body::new(body))
    }
}

impl Cache {
    fn entry(&self) -> MutexGuard<'_, Option<Entry>> {
        self.0.lock().unwrap()
    }

    fn clear(&self) {
        *self.entry() = None;
    }

    fn layer(&self, inner: Stack, keeps_requests: bool) -> Stack {
        let cache = self.clone();
        boxed(service_fn(move |request: Request<Body>| {
            let (cache, inner) = (cache.clone(), inner.clone());
            async move {
                let hit = cache.entry().clone();
                if let Some(entry) = hit {
                    return Ok(entry.response());
                }
                let kept = keeps_requests.then(|| request.extensions().clone());
                let (head, mut body) = inner.oneshot(request).await?.into_parts();
                let mut frames = Vec::new();
                while let Some(frame) = body.frame().await {
                    frames.push(frame.unwrap().into_data().unwrap());
                }
                let entry = Entry {
                    _request: kept,
                    head,
                    frames,
                };
                *cache.entry() = Some(entry.clone());
                Ok::<_, Infallible>(entry.response())
            }
        }))
    }
}

fn request() -> Request<Body> {
    let request = Request::get("/").header(header::ACCEPT_ENCODING, "gzip");
    request.body(Body::empty()).unwrap()
}

/// Where a layer is, and whether permits are shared with the handler.
#[derive(Clone, Copy, Debug)]
struct Order {
    is_inside: bool,
    shares_permits: bool,
}

impl Order {
    fn all() -> impl Iterator<Item = Self> {
        [(true, true), (true, false), (false, true), (false, false)]
            .into_iter()
            .map(|(is_inside, shares_permits)| Self {
                is_inside,
                shares_permits,
            })
    }

    /// Builds a stack of a layer and two nested layers of one budget, of which the inner one finds the permit in the extensions.
    fn build(self, pool: &Budget, wrap: impl Fn(Stack) -> Stack) -> Stack {
        let shed = |inner| {
            let shed = LoadShed::ratio(1.0).budget(pool);
            let shed = match self.shares_permits {
                true => shed.share_permit(),
                false => shed,
            };
            let outer = LoadShed::observe().budget(pool);
            boxed(outer.layer(shed.layer(inner)))
        };
        match self.is_inside {
            true => shed(wrap(handler())),
            false => wrap(shed(handler())),
        }
    }
}

#[tokio::test]
async fn p04_a_cache_of_responses_keeps_no_permit() {
    for order in Order::all() {
        let (pool, cache) = (Budget::fixed(10), Cache::default());
        let service = order.build(&pool, |inner| cache.layer(inner, false));
        for _ in 0..CALLS {
            let response = service.clone().oneshot(request()).await.unwrap();
            assert!(response.extensions().get::<&str>().is_some());
            // From the cache or not, what passes the layer is in flight until it is read.
            assert_eq!(pool.in_flight(), usize::from(order.is_inside), "{order:?}");
            let body = response.into_body().collect().await.unwrap();
            assert_eq!(body.to_bytes().len(), LENGTH);
            assert_eq!(pool.in_flight(), 0, "{order:?}");
        }
        assert!(cache.entry().is_some());
        let calls = if order.is_inside { CALLS } else { 1 };
        assert_eq!(pool.snapshot().admitted, calls, "{order:?}");
    }
}

/// See "One request" in `docs/permit.md`.
#[tokio::test]
async fn p03_a_cache_of_request_extensions_keeps_a_permit_only_if_it_is_shared() {
    for order in Order::all() {
        let (pool, cache) = (Budget::fixed(10), Cache::default());
        let service = order.build(&pool, |inner| cache.layer(inner, true));
        let body = service.oneshot(request()).await.unwrap().into_body();
        body.collect().await.unwrap();
        // Outside of the layer, the extensions have no permit.
        let kept = usize::from(order.is_inside && order.shares_permits);
        assert_eq!(pool.in_flight(), kept, "{order:?}");
        cache.clear();
        assert_eq!(pool.in_flight(), 0, "{order:?}");
    }
}

#[tokio::test]
async fn p04_a_compression_keeps_no_permit_of_a_response_that_is_read_or_dropped() {
    for order in Order::all() {
        let pool = Budget::fixed(10);
        let service = order.build(&pool, |inner| boxed(CompressionLayer::new().layer(inner)));
        let response = service.clone().oneshot(request()).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
        let mut body = pin!(response.into_body());
        assert!(body.frame().await.unwrap().is_ok());
        assert_eq!(pool.in_flight(), 1, "{order:?}");
        while let Some(frame) = body.frame().await {
            assert!(frame.is_ok());
        }
        // The body is still there.
        assert_eq!(pool.in_flight(), 0, "{order:?}");

        let mut half_read = service.clone().oneshot(request()).await.unwrap();
        assert!(half_read.body_mut().frame().await.unwrap().is_ok());
        assert_eq!(pool.in_flight(), 1, "{order:?}");
        drop(half_read);
        assert_eq!(pool.in_flight(), 0, "{order:?}");

        let whole = DecompressionLayer::new().layer(service);
        let response = whole.oneshot(request()).await.unwrap();
        let read = response.into_body().collect().await.unwrap().to_bytes();
        let sent = handler().oneshot(request()).await.unwrap().into_body();
        assert!(read == sent.collect().await.unwrap().to_bytes());
        assert_eq!(pool.in_flight(), 0, "{order:?}");
    }
}
