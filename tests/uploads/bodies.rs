//! What a watched body is to its handler, and what it costs.

use std::{
    convert::Infallible,
    future::ready,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use loadshed::{Budget, LoadShed, WatchedBody};
use tower::{Layer, Service, service_fn};

use crate::{
    Body, Upload, boxed, get, post, read, seconds, serve,
    support::{BoxBody, Broken, Step, body, boxed_body},
};

/// A layer that watches each upload, measured or not.
fn watching() -> LoadShed {
    LoadShed::ratio(1.0)
        .watch_uploads(boxed)
        .min_upload_rate(240, seconds(5))
}

#[tokio::test(start_paused = true)]
async fn frames_trailers_and_errors_are_those_of_the_inner_body() {
    let shed = LoadShed::ratio(1.0)
        .watch_uploads(boxed_body)
        .min_upload_rate(240, seconds(5));
    let mut service = shed.layer(service_fn(async |request: Request<BoxBody>| {
        let mut body = request.into_body();
        let mut seen = Vec::new();
        while let Some(frame) = body.frame().await {
            seen.push(match frame {
                Ok(frame) if frame.is_trailers() => "trailers".to_owned(),
                Ok(frame) => format!("{:?}", frame.into_data().unwrap()),
                Err(broken) => broken.to_string(),
            });
        }
        Ok::<_, Broken>(Response::new(Full::<Bytes>::from(seen.join(" "))))
    }));
    let mut all = async |steps: &[Step]| {
        let upload = boxed_body(body(steps.iter().copied()));
        let response = service.call(Request::new(upload)).await.unwrap();
        response.into_body().collect().await.unwrap().to_bytes()
    };
    use Step::{Data, Fail, Trailers, Wait};
    assert_eq!(
        all(&[Data, Wait, Data, Trailers]).await,
        "b\"data\" b\"data\" trailers"
    );
    assert_eq!(all(&[Wait, Data, Fail]).await, "b\"data\" body failed");
}

#[tokio::test]
async fn the_size_hint_and_the_end_are_those_of_the_inner_body_and_nothing_is_polled_before_the_handler()
 {
    /// 7 bytes, then trailers. Counts its polls.
    struct Counted(Arc<AtomicUsize>);
    impl http_body::Body for Counted {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => Some(Ok(Frame::data(Bytes::from_static(b"7 bytes")))),
                1 => Some(Ok(Frame::trailers(HeaderMap::new()))),
                _ => None,
            })
        }
        fn is_end_stream(&self) -> bool {
            self.0.load(Ordering::Relaxed) >= 2
        }
        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(7 - 7 * self.0.load(Ordering::Relaxed).min(1) as u64)
        }
    }
    let polls = Arc::new(AtomicUsize::new(0));
    let handler = {
        let polls = Arc::clone(&polls);
        move |request: Upload| {
            let polls = Arc::clone(&polls);
            async move {
                let mut body = request.into_body();
                assert_eq!(polls.load(Ordering::Relaxed), 0);
                assert_eq!(body.size_hint().exact(), Some(7));
                assert!(!body.is_end_stream());
                assert!(body.frame().await.unwrap().unwrap().is_data());
                assert_eq!(body.size_hint().exact(), Some(0));
                assert!(!body.is_end_stream());
                assert!(body.frame().await.unwrap().unwrap().is_trailers());
                assert!(body.is_end_stream());
                Bytes::new()
            }
        }
    };
    let mut service = serve(watching(), handler);
    service
        .call(post("/", boxed(Counted(polls))))
        .await
        .unwrap();
}

#[tokio::test]
async fn several_body_types_can_be_watched_and_the_last_wrap_of_a_type_counts() {
    let wraps = Arc::new([const { AtomicUsize::new(0) }; 3]);
    let wrap = |nth: usize| {
        let wraps = Arc::clone(&wraps);
        move |body: WatchedBody<Body>| {
            wraps[nth].fetch_add(1, Ordering::Relaxed);
            boxed(body)
        }
    };
    let axum = {
        let wraps = Arc::clone(&wraps);
        move |body| {
            wraps[2].fetch_add(1, Ordering::Relaxed);
            axum::body::Body::new(body)
        }
    };
    let shed = LoadShed::ratio(1.0)
        .watch_uploads(wrap(0))
        .watch_uploads(axum)
        .watch_uploads(tonic::body::Body::new)
        .watch_uploads(wrap(1))
        .min_upload_rate(240, seconds(5));
    let mut plain = serve(shed.clone(), read);
    plain
        .call(post("/", boxed(Full::from("text"))))
        .await
        .unwrap();
    let mut axum = shed.layer(service_fn(async |request: Request<axum::body::Body>| {
        let text = axum::body::to_bytes(request.into_body(), 10).await.unwrap();
        Ok::<_, Infallible>(Response::new(Full::new(text)))
    }));
    let response = axum.call(Request::new("text".into())).await.unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "text"
    );
    assert_eq!(
        wraps.each_ref().map(|count| count.load(Ordering::Relaxed)),
        [0, 1, 1]
    );
}

#[tokio::test]
async fn a_wrap_may_give_the_handler_another_body() {
    // The first byte alone.
    let wrap = |body: WatchedBody<Body>| {
        boxed(body.map_frame(|frame| frame.map_data(|data| data.slice(..1))))
    };
    let shed = LoadShed::ratio(1.0)
        .watch_uploads(wrap)
        .min_upload_rate(240, seconds(5));
    let response = serve(shed, read)
        .call(post("/", boxed(Full::from("text"))))
        .await;
    let body = response.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "t");
}

#[test]
fn p25_a_wrap_that_panics_leaks_no_permit() {
    let pool = Budget::fixed(1);
    let shed = LoadShed::ratio(1.0)
        .budget(&pool)
        .watch_uploads(|_: WatchedBody<Body>| crate::support::panic_on_purpose())
        .min_upload_rate(240, seconds(5));
    let mut service = serve(shed, read);
    crate::support::caught(|| drop(service.call(post("/", boxed(Full::from("text"))))));
    assert_eq!(pool.in_flight(), 0);
    assert!(
        service.call(get()).now_or_never().is_some(),
        "a request without a body is served"
    );
}

/// Returns the allocations of the second request. The first of a thread allocates, as it finds out whether layers are nested.
fn allocations(shed: LoadShed, request: impl Fn() -> Upload) -> u64 {
    let mut service = shed.layer(service_fn(|request: Upload| {
        let mut body = request.into_body();
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(_)) = Pin::new(&mut body).poll_frame(&mut cx) {}
        ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
    }));
    let mut call = |request| {
        let response = service.call(request).now_or_never();
        assert!(response.unwrap().unwrap().status().is_success());
    };
    call(request());
    let mut second = Some(request());
    allocation_counter::measure(|| call(second.take().unwrap())).count_total
}

#[test]
fn p17_a_request_without_a_body_allocates_nothing_and_a_watched_upload_two_or_five_times() {
    let fixed = || LoadShed::ratio(1.0).budget(Budget::fixed(10));
    let upload = || post("/", boxed(Full::from("text")));
    assert_eq!(allocations(fixed(), upload), 0);
    // Neither measured nor limited: nothing to watch.
    assert_eq!(allocations(fixed().watch_uploads(boxed), upload), 0);

    let watching = || watching().budget(Budget::fixed(10));
    assert_eq!(allocations(watching(), get), 0);
    assert_eq!(allocations(watching(), upload), 2);

    let learned = || LoadShed::ratio(1.0).budget(Budget::adaptive());
    let sample = allocations(learned(), get);
    assert_eq!(allocations(learned().watch_uploads(boxed), get), sample);
    // The permit and the weight are shared with the upload, and the measurement and the upload lie in a box.
    let watched = allocations(learned().watch_uploads(boxed), upload);
    assert_eq!(watched, sample + 5);
}
