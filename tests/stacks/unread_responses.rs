//! Promise 4 with axum's server: a permit is held until the bytes of the response have left, whatever the transport.

use std::time::Duration;

use axum::{Router, routing::get};
use http_body_util::BodyExt;
use loadshed::{Budget, LoadShed};
use tokio::time::sleep;

use crate::{
    support::sockets::{soon, until},
    transports::{Protocol, Server, Transport},
};

const LENGTH: usize = 64 << 20;
const CALLERS: usize = 10;

/// Ten callers read the heads of responses of 64 MiB in one frame, and leave. Another caller reads the whole response.
async fn unread_responses_stay_in_flight(transport: Transport) {
    for protocol in Protocol::ALL {
        let pool = Budget::fixed(1_000);
        let app = Router::new()
            .route("/", get(async || vec![0; LENGTH]))
            .layer(LoadShed::ratio(1.0).budget(&pool));
        let server = Server::start(transport, app).await;
        let mut client = server.client(protocol).await;
        let mut unread = Vec::new();
        for _ in 0..CALLERS {
            unread.push(client.get().await);
        }
        // Long enough for all that the server and the kernel buffer.
        sleep(Duration::from_millis(500)).await;
        assert_eq!(pool.in_flight(), CALLERS, "{protocol:?}");
        // Closes the connections of HTTP/1, and resets the streams of HTTP/2.
        drop(unread);
        until(|| pool.in_flight() == 0).await;

        let mut body = client.get().await.into_body();
        let mut received = 0;
        while let Some(frame) = soon(body.frame()).await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data == vec![0; data.len()], "{protocol:?}");
            received += data.len();
        }
        assert_eq!(received, LENGTH, "{protocol:?}");
        until(|| pool.in_flight() == 0).await;
        assert_eq!(pool.snapshot().admitted, CALLERS + 1, "{protocol:?}");
    }
}

#[tokio::test]
async fn p04_unread_responses_of_axum_stay_in_flight() {
    unread_responses_stay_in_flight(Transport::Plain).await;
}

#[tokio::test]
async fn p04_unread_responses_over_rustls_stay_in_flight() {
    unread_responses_stay_in_flight(Transport::Rustls).await;
}

#[tokio::test]
async fn p04_unread_responses_over_tls_without_vectored_writes_stay_in_flight() {
    unread_responses_stay_in_flight(Transport::RustlsCopied).await;
}
