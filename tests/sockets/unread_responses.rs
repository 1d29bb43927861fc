//! Promise 4: a permit is held until the bytes of the response have left, up to what the server buffers.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{body::Incoming, client::conn::http2, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use loadshed::{Budget, LoadShed};
use tokio::{net::TcpStream, time::sleep};
use tower::{Layer, service_fn};

use crate::{
    Http1, serve,
    support::sockets::{soon, until},
};

const LENGTH: usize = 64 << 20;
const CALLERS: usize = 10;

/// Starts a server whose responses are one frame of 64 MiB.
async fn start(pool: &Budget) -> std::net::SocketAddr {
    let data = Bytes::from(vec![7; LENGTH]);
    let handler = service_fn(move |_: Request<Incoming>| {
        let body = Full::new(data.clone());
        async { Ok::<_, Infallible>(Response::new(body)) }
    });
    serve(LoadShed::ratio(1.0).budget(pool).layer(handler)).await
}

#[tokio::test]
async fn p04_unread_responses_over_http_1_stay_in_flight() {
    let pool = Budget::fixed(1_000);
    let address = start(&pool).await;
    let mut clients = Vec::new();
    for _ in 0..CALLERS {
        let mut client = Http1(soon(TcpStream::connect(address)).await.unwrap());
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        clients.push(client);
    }
    until(|| pool.in_flight() == CALLERS).await;
    // Long enough for all that the server and the kernel buffer.
    sleep(Duration::from_millis(500)).await;
    assert_eq!(pool.in_flight(), CALLERS);
    drop(clients);
    until(|| pool.in_flight() == 0).await;
}

async fn http_2(address: std::net::SocketAddr) -> SendRequest<Empty<Bytes>> {
    let stream = soon(TcpStream::connect(address)).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (client, connection) = soon(handshake).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn p04_unread_responses_over_http_2_stay_in_flight_until_their_streams_are_reset() {
    let pool = Budget::fixed(1_000);
    let address = start(&pool).await;
    let mut client = http_2(address).await;
    let mut responses = Vec::new();
    for _ in 0..CALLERS {
        let request = Request::get("http://a/").body(Empty::new()).unwrap();
        responses.push(soon(client.send_request(request)).await.unwrap());
    }
    sleep(Duration::from_millis(500)).await;
    assert_eq!(pool.in_flight(), CALLERS);
    drop(responses);
    until(|| pool.in_flight() == 0).await;
    drop(client);
}

#[tokio::test]
async fn p04_a_response_of_64_mib_arrives_whole() {
    let pool = Budget::fixed(1_000);
    let address = start(&pool).await;
    let mut client = http_2(address).await;
    let request = Request::get("http://a/").body(Empty::new()).unwrap();
    let response = soon(client.send_request(request)).await.unwrap();
    let body = soon(response.into_body().collect())
        .await
        .unwrap()
        .to_bytes();
    assert_eq!(body.len(), LENGTH);
    assert!(body.iter().all(|byte| *byte == 7));
    until(|| pool.in_flight() == 0).await;
}
