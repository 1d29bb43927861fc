//! What is retried, and how often.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody, combinators::UnsyncBoxBody};
use loadshed_client::{Backpressure, Deadline};
use tokio::time::{Instant, sleep, timeout};
use tower::{
    Layer, Service, ServiceExt, limit::ConcurrencyLimitLayer, retry::budget::TpsBudget, service_fn,
};

use super::{BUSY, Head, Server, call, ms, with_method};
use crate::support::{Broken, get};

#[tokio::test(start_paused = true)]
async fn only_what_the_server_has_not_begun_is_retried() {
    let retried = async |method: Method, head: Head| {
        let server = Server::that_says([head]);
        let mut service = Backpressure::new().layer(server.service());
        let _ = service
            .ready()
            .await
            .unwrap()
            .call(with_method(method))
            .await;
        server.count() == 2
    };
    for method in [Method::POST, Method::PATCH] {
        assert!(retried(method.clone(), (429, &[])).await);
        assert!(retried(method.clone(), (503, &[("retry-after", "1")])).await);
        assert!(!retried(method.clone(), (503, &[])).await);
    }
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::HEAD] {
        assert!(retried(method.clone(), (503, &[])).await);
        for status in [200, 408, 500, 502, 504] {
            assert!(!retried(method.clone(), (status, &[("retry-after", "1")])).await);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_inner_service_passes_untouched_and_is_not_retried() {
    let server = Server::that_says([(0, &[])]);
    let service = Backpressure::new().layer(server.service());
    let error = service.oneshot(get("/")).await.unwrap_err();
    assert_eq!(error, Broken("the connection"));
    assert_eq!(server.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_retried_up_to_twice_or_as_often_as_set_and_ends_with_the_last_answer() {
    for (layer, tries) in [
        (Backpressure::new(), 3),
        (Backpressure::new().retries(0), 1),
        (Backpressure::new().retries(1), 2),
        (Backpressure::new().retries(5), 6),
    ] {
        let server = Server::that_says([BUSY; 9]);
        assert_eq!(call(&layer, &server, get("/")).await.status(), 429);
        assert_eq!(server.count(), tries);
    }
}

/// Not `Clone`, as tonic's, axum's and reqwest's.
type Stream = UnsyncBoxBody<Bytes, Infallible>;

fn stream_of(chunks: usize, then_open: bool) -> Stream {
    let chunk = || Ok(Frame::data(Bytes::from_static(&[7; 1_024])));
    let chunks = stream::iter((0..chunks).map(move |_| chunk()));
    let rest = stream::once(async move {
        match then_open {
            true => std::future::pending().await,
            false => chunk(),
        }
    });
    UnsyncBoxBody::new(StreamBody::new(stream::StreamExt::chain(chunks, rest)))
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_not_clone_is_replayed_if_all_of_it_was_kept() {
    let lengths = Arc::new(Mutex::new(Vec::new()));
    let refusing = || {
        let lengths = Arc::clone(&lengths);
        service_fn(move |request: Request<Stream>| {
            let lengths = Arc::clone(&lengths);
            async move {
                let mut length = 0;
                let mut body = request.into_body();
                while let Some(Some(frame)) = body.frame().now_or_never() {
                    length += frame?.into_data().unwrap().len();
                }
                lengths.lock().unwrap().push(length);
                let busy = Response::builder().status(429).header("retry-after", "1");
                Ok::<_, Infallible>(busy.body(Empty::<Bytes>::new()).unwrap())
            }
        })
    };
    let layer = Backpressure::new().replay(UnsyncBoxBody::new);
    for (body, expected) in [
        (stream_of(3, false), vec![4_096; 3]),
        (stream_of(255, false), vec![262_144; 3]),
        (stream_of(256, false), vec![263_168]),
        (stream_of(3, true), vec![3_072]),
    ] {
        let service = layer.layer(refusing());
        let answer = service.oneshot(Request::new(body)).await.unwrap();
        assert_eq!(answer.status(), 429);
        assert_eq!(std::mem::take(&mut *lengths.lock().unwrap()), expected);
    }

    let once = Backpressure::new().once().layer(refusing());
    let answer = once
        .oneshot(Request::new(stream_of(3, false)))
        .await
        .unwrap();
    assert_eq!(answer.status(), 429);
    assert_eq!(*lengths.lock().unwrap(), [4_096]);
}

#[tokio::test(start_paused = true)]
async fn the_retry_budget_is_one_however_often_the_layer_is_applied_or_cloned() {
    let layer = Backpressure::new().without_throttle();
    let server = Server::that_repeats(BUSY, 2_000);
    for _ in 0..1_000 {
        call(&layer.clone(), &server, get("/")).await;
    }
    assert_eq!(server.count(), 1_100);
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_ones_own_is_asked() {
    // One a second, over a second.
    let budget = TpsBudget::new(Duration::from_secs(1), 1, 0.0);
    let layer = Backpressure::new().with_retry_budget(budget);
    let server = Server::that_says([(429, &[("retry-after-ms", "1")]); 9]);
    call(&layer, &server, get("/")).await;
    assert_eq!(server.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_holds_no_place_of_the_inner_service() {
    let server = Server::that_says([BUSY]);
    let one_at_once = ConcurrencyLimitLayer::new(1).layer(server.service());
    let service = Backpressure::new().layer(one_at_once);
    let first = tokio::spawn(service.clone().oneshot(get("/")));
    sleep(Duration::from_millis(10)).await;
    service.oneshot(get("/")).await.unwrap();
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
    assert_eq!(server.tries(), ms([0, 10, 1_000]));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_sent_keeps_no_place_either() {
    let server = Server::default();
    let one_at_once = ConcurrencyLimitLayer::new(1).layer(server.service());
    let mut service = Backpressure::new().layer(one_at_once);
    let mut late = get("/");
    late.extensions_mut().insert(Deadline::at(Instant::now()));
    let other = service.clone();
    let answer = service.ready().await.unwrap().call(late).await.unwrap();
    assert_eq!(answer.status(), 504);

    let answer = timeout(Duration::from_secs(1), other.oneshot(get("/"))).await;
    assert_eq!(answer.expect("there is room").unwrap().status(), 200);
    drop(service);
}
