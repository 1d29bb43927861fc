//! What is not sent.

use std::time::Duration;

use http_body_util::BodyExt;
use loadshed_client::{Backpressure, NotSent};
use tokio::{
    task::JoinSet,
    time::{advance, sleep},
};
use tower::{Layer, ServiceExt, service_fn};

use super::{BUSY, Head, Server, call, grpc};
use crate::support::{Req, get};

/// Every call is refused: how many are sent?
#[tokio::test(start_paused = true)]
async fn of_ten_thousand_calls_that_would_all_be_refused_a_hundredth_is_sent() {
    let layer = Backpressure::new().retries(0).seed(1);
    let server = Server::that_repeats(BUSY, 10_000);
    for _ in 0..10_000 {
        call(&layer, &server, get("/")).await;
        advance(Duration::from_millis(10)).await;
    }
    // Ten, and then of the nth 1 − p = 11 ÷ (n + 1).
    let expected = 10.0 + (10..10_000).map(|n| 11.0 / f64::from(n + 1)).sum::<f64>();
    let sent = server.count() as f64;
    println!("sent: {sent}, expected: {expected:.1}");
    assert!((sent / expected - 1.0).abs() < 0.3, "{sent}, {expected}");
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_not_throttled_as_the_server_asked_for_it() {
    let layer = Backpressure::new().retries(1).retry_budget(1.0).seed(1);
    let soon: Head = (429, &[("retry-after-ms", "1")]);
    let server = Server::that_repeats(soon, 1_000);
    let mut not_sent = 0;
    for _ in 0..1_000 {
        let answer = call(&layer, &server, get("/")).await;
        not_sent += usize::from(answer.extensions().get::<NotSent>().is_some());
    }
    assert!(not_sent > 800);
    assert_eq!(server.count(), 2 * (1_000 - not_sent));
}

/// It accepts 50 a second, and 150 a second are wanted: with K = 2, twice as many are sent as are accepted.
#[tokio::test(start_paused = true)]
async fn for_each_call_that_is_accepted_two_are_sent() {
    let layer = Backpressure::new().retries(0).seed(1);
    let server = Server::default();
    let (mut sent, mut accepted) = (0, 0);
    for second in 0..360 {
        let mut room = 50;
        for _ in 0..150 {
            let before = server.count();
            if room == 0 {
                server.script.lock().unwrap().push_back(BUSY);
            }
            call(&layer, &server, get("/")).await;
            server.script.lock().unwrap().clear();
            let now_sent = server.count() - before;
            let now_accepted = now_sent.min(room);
            room -= now_accepted;
            // Once the window is full.
            if second >= 120 {
                sent += now_sent;
                accepted += now_accepted;
            }
            advance(Duration::from_micros(6_667)).await;
        }
    }
    let ratio = f64::from(sent as u32) / f64::from(accepted as u32);
    println!("sent: {sent}, accepted: {accepted}, ratio: {ratio:.3}");
    assert!((1.9..2.1).contains(&ratio), "{ratio}");
    assert_eq!(accepted, 240 * 50);
}

/// Its next call is not sent: p is 1 − 11 ÷ 100,001.
async fn throttling(seed: u64) -> Backpressure {
    let layer = Backpressure::new().retries(0).seed(seed);
    let server = Server::that_repeats(BUSY, 2_000);
    for _ in 0..100_000 {
        call(&layer, &server, get("/")).await;
    }
    layer
}

#[tokio::test(start_paused = true)]
async fn a_throttled_call_gets_a_refusal_that_says_who_refused() {
    let layer = throttling(1).await;
    let server = Server::default();

    let answer = call(&layer, &server, get("/")).await;
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.extensions().get(), Some(&NotSent::Throttled));
    assert!(
        answer
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .is_empty()
    );

    let answer = call(&layer, &server, grpc()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["grpc-status"], "8");
    assert_eq!(answer.headers()["content-type"], "application/grpc+proto");
    let status = tonic::Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.message(), NotSent::Throttled.to_string());
    assert_eq!(server.count(), 0);

    // Two minutes later all is forgotten; and it can be switched off.
    let answer = call(&layer.clone().without_throttle(), &server, get("/")).await;
    assert_eq!(answer.status(), 200);
    advance(Duration::from_secs(120)).await;
    assert_eq!(call(&layer, &server, get("/")).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn errors_and_calls_under_way_do_not_count_as_refused() {
    let layer = Backpressure::new();
    let broken = Server::that_repeats((0, &[]), 1_000);
    for _ in 0..1_000 {
        let _ = layer.layer(broken.service()).oneshot(get("/")).await;
    }
    assert_eq!(broken.count(), 1_000);

    let server = Server::default();
    let slow = service_fn({
        let inner = server.service();
        move |request: Req| {
            let inner = inner.clone();
            async move {
                sleep(Duration::from_secs(1)).await;
                inner.oneshot(request).await
            }
        }
    });
    let mut calls = JoinSet::new();
    for _ in 0..1_000 {
        calls.spawn(layer.layer(slow.clone()).oneshot(get("/")));
    }
    calls.join_all().await;
    assert_eq!(server.count(), 1_000);
}
