//! Promises 17 and 26: what a server that stops, or a connection, waits for.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::post};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use loadshed::{Budget, LoadShed, RefusedUpload};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::oneshot,
    time::{Instant, sleep},
};

use crate::{
    Http1, Server, is_a_refusal,
    support::{
        all,
        sockets::{bind, soon, until},
    },
};

/// Sends a head, reads the refusal, and sends 10 kB/s from then on.
async fn upload_at_10_kb_per_second(address: std::net::SocketAddr, framing: &str) {
    let mut client = Http1(soon(TcpStream::connect(address)).await.unwrap());
    client
        .send(&format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n"))
        .await;
    is_a_refusal(&client.head().await);
    // A chunk of 1,000 bytes with its frame, which are only bytes to a length.
    let chunk = format!("3e1\r\n{}\r\n", "x".repeat(0x3e1));
    tokio::spawn(async move {
        while client.0.write_all(chunk.as_bytes()).await.is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
    });
}

/// Returns how long axum's graceful shutdown takes with refused uploads, in seconds.
async fn shutdown(framing: &str, drain: Option<Duration>) -> f64 {
    let budget = Budget::fixed(1);
    let _held = budget.try_acquire(all()).unwrap();
    let shed = LoadShed::ratio(1.0).budget(&budget);
    let app = Router::new()
        .route("/", post(async || "served"))
        .layer(shed);
    let (listener, address) = bind().await;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async {
        let _ = stopped.await;
    });
    let server = tokio::spawn(server.into_future());
    upload_at_10_kb_per_second(address, framing).await;
    sleep(Duration::from_millis(500)).await;
    let start = Instant::now();
    if let Some(grace) = drain {
        budget.begin_drain(grace);
    }
    stop.send(()).unwrap();
    soon(server).await.unwrap().unwrap();
    start.elapsed().as_secs_f64()
}

// A13: it took 60.0 s.
#[tokio::test]
async fn p26_a_graceful_shutdown_waits_some_seconds_for_refused_uploads_and_2_s_for_a_drained_budgets()
 {
    const LENGTH: &str = "content-length: 100000000";
    const CHUNKED: &str = "transfer-encoding: chunked";
    let (by_rate, by_drain, chunked) = tokio::join!(
        shutdown(LENGTH, None),
        shutdown(LENGTH, Some(Duration::ZERO)),
        shutdown(CHUNKED, Some(Duration::ZERO)),
    );
    println!("by rate {by_rate:.1} s, by drain {by_drain:.1} s, chunked {chunked:.1} s");
    // The upload began half a second before.
    assert!((4.0..8.0).contains(&by_rate), "{by_rate}");
    for drained in [by_drain, chunked] {
        assert!((1.5..4.0).contains(&drained), "{drained}");
    }
}

type Upload = UnsyncBoxBody<Bytes, Infallible>;

/// A byte a second.
fn trickle() -> Upload {
    let bytes = stream::repeat(()).then(async |()| {
        sleep(Duration::from_secs(1)).await;
        Ok(Frame::data(Bytes::from_static(b"x")))
    });
    StreamBody::new(bytes).boxed_unsync()
}

// A14: it took 59 s.
#[tokio::test]
async fn p17_200_trickled_uploads_on_a_connection_do_not_block_it_for_longer_than_some_seconds() {
    // All of them are read: a layer with the default bound reads 128, and the others are reset.
    let bounds = RefusedUpload::default().max_concurrent(512);
    let server = Server::start_with(bounds).await;
    let held = server.budget.try_acquire(all()).unwrap();
    let mut client = server.http2::<Upload>().await;
    let refused = Arc::new(AtomicUsize::new(0));
    for _ in 0..200 {
        let request = Request::post("http://a/").body(trickle()).unwrap();
        let response = client.send_request(request);
        let refused = Arc::clone(&refused);
        tokio::spawn(async move {
            let response = response.await.unwrap();
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            refused.fetch_add(1, Ordering::Relaxed);
            // Holds the stream open, as its client does.
            let _ = response.into_body().collect().await;
        });
    }
    until(|| refused.load(Ordering::Relaxed) == 200).await;
    drop(held);
    let start = Instant::now();
    let request = Request::get("http://a/").body(Empty::new().boxed_unsync());
    let response = soon(client.send_request(request.unwrap())).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let took = start.elapsed();
    println!("served after {took:?}");
    let seconds = took.as_secs_f64();
    assert!((3.0..9.0).contains(&seconds), "{took:?}");
}

#[tokio::test]
async fn p26_over_http_1_the_connection_of_a_refused_request_is_closed_after_the_grace() {
    let server = Server::start().await;
    let mut client = server.http1().await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    client.body(&head).await;

    server.budget.begin_drain(Duration::ZERO);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let response = client.rest().await.to_ascii_lowercase();
    assert!(response.starts_with("http/1.1 503 "), "{response}");
    for line in ["connection: close", "cache-control: no-store"] {
        assert!(response.contains(&format!("\r\n{line}\r\n")), "{response}");
    }
    assert!(response.contains("\r\nretry-after: "), "{response}");
    assert!(response.ends_with("\"status\":503}"), "{response}");
}

#[tokio::test]
async fn p26_over_http_2_a_connection_goes_on_after_a_refusal_and_the_end_of_the_drain() {
    let server = Server::start().await;
    let mut client = server.http2::<Full<Bytes>>().await;
    for (is_drained, status) in [
        (true, StatusCode::SERVICE_UNAVAILABLE),
        (false, StatusCode::OK),
        (true, StatusCode::SERVICE_UNAVAILABLE),
    ] {
        match is_drained {
            true => server.budget.begin_drain(Duration::ZERO),
            false => server.budget.end_drain(),
        }
        let request = Request::get("http://a/").body(Full::default()).unwrap();
        let response = soon(client.send_request(request)).await.unwrap();
        assert_eq!(response.status(), status);
        assert!(!response.headers().contains_key("connection"));
        soon(response.into_body().collect()).await.unwrap();
    }
    server.budget.begin_drain(Duration::ZERO);
    let request = Request::post("http://a/test.Any/Call")
        .header("content-type", "application/grpc")
        .body(Full::default())
        .unwrap();
    let response = soon(client.send_request(request)).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "14");
    assert!(http_body::Body::is_end_stream(response.body()));
}

#[tokio::test]
async fn p26_over_http_1_a_client_that_sends_8_mb_before_it_reads_sees_the_503_of_a_drain() {
    const LENGTH: usize = 8_000_000;
    let server = Server::start().await;
    server.budget.begin_drain(Duration::ZERO);
    for _ in 0..10 {
        let mut client = server.http1().await;
        client
            .send(&format!(
                "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LENGTH}\r\n\r\n"
            ))
            .await;
        client.send(&"x".repeat(LENGTH)).await;
        let response = client.rest().await;
        assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
        assert!(response.ends_with("\"status\":503}"), "{response}");
    }
}
