//! Promise 17: a refusal does not wait for the request body, which is read afterwards.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use loadshed::RefusedUpload;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    Server, is_a_refusal,
    support::{
        all,
        sockets::{soon, until},
    },
};

#[tokio::test]
async fn p17_the_refusal_arrives_before_the_request_body_is_sent() {
    let (server, _held) = Server::start_full().await;
    for head in [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\nsome of it",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nsome\r\n",
    ] {
        let mut client = server.http1().await;
        client.send(head).await;
        let head = client.head().await;
        is_a_refusal(&head);
        assert!(client.body(&head).await.ends_with("\"status\":429}"));
    }
}

#[tokio::test]
async fn p17_over_http_2_the_refusal_arrives_before_the_request_body_is_sent_and_the_connection_stays()
 {
    let (server, held) = Server::start_full().await;
    let mut client = server.http2().await;
    let endless = || StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
    for _ in 0..3 {
        let request = Request::post("http://a/").body(endless()).unwrap();
        let response = soon(client.send_request(request)).await.unwrap();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        let body = soon(response.into_body().collect())
            .await
            .unwrap()
            .to_bytes();
        assert!(body.ends_with(b"\"status\":429}"));
    }
    drop(held);
    let request = Request::post("http://a/").body(endless()).unwrap();
    let response = soon(client.send_request(request)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn p17_a_connection_is_used_again_once_the_rest_of_a_refused_upload_has_arrived() {
    const LENGTH: usize = 200_000;
    let (server, _held) = Server::start_full().await;
    let data = "x".repeat(LENGTH);
    let chunked = format!("{LENGTH:x}\r\n{data}\r\n0\r\nx-trailer: 1\r\n\r\n");
    let length = format!("content-length: {LENGTH}");
    for (framing, body) in [
        (length.as_str(), &data),
        ("transfer-encoding: chunked", &chunked),
    ] {
        let mut client = server.http1().await;
        for _ in 0..3 {
            let head = format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n");
            client.send(&head).await;
            let head = client.head().await;
            is_a_refusal(&head);
            client.body(&head).await;
            client.send(body).await;
        }
    }
}

#[tokio::test]
async fn p17_many_slow_uploads_see_their_429_and_are_cut_off_while_the_server_serves_on() {
    const UPLOADS: usize = 300;
    let bounds = RefusedUpload::default()
        .timeout(Duration::from_secs(1))
        .max_concurrent(100);
    let server = Server::start_with(bounds).await;
    let held = server.budget.try_acquire(all()).unwrap();
    let (refused, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for _ in 0..UPLOADS {
        let mut client = server.http1().await;
        let (refused, over) = (Arc::clone(&refused), Arc::clone(&over));
        tokio::spawn(async move {
            client
                .send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n")
                .await;
            is_a_refusal(&client.head().await);
            refused.fetch_add(1, Ordering::SeqCst);
            // A byte every 50 ms, until the server closes the connection.
            let (mut read, mut write) = client.0.split();
            let send = async {
                while write.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            let close = async { while read.read_u8().await.is_ok() {} };
            tokio::select! { () = send => {}, () = close => {} }
            over.fetch_add(1, Ordering::SeqCst);
        });
    }
    until(|| refused.load(Ordering::SeqCst) == UPLOADS).await;
    drop(held);
    let mut client = server.http1().await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(client.head().await.starts_with("http/1.1 200 "));
    until(|| over.load(Ordering::SeqCst) == UPLOADS).await;
}

#[tokio::test]
async fn p17_over_http_2_a_refused_upload_is_read_to_its_end_and_not_reset() {
    const PIECES: usize = 64;
    let (server, _held) = Server::start_full().await;
    let mut client = server.http2().await;
    for _ in 0..3 {
        let sent = Arc::new(AtomicUsize::new(0));
        let upload = {
            let sent = Arc::clone(&sent);
            // Many times the flow-control window of a stream: without reads, the client could not send all of it.
            StreamBody::new(stream::iter((0..PIECES).map(move |_| {
                sent.fetch_add(1, Ordering::Relaxed);
                Ok(Frame::data(Bytes::from_static(&[0; 64 << 10])))
            })))
        };
        let request = Request::post("http://a/").body(upload).unwrap();
        let response = soon(client.send_request(request)).await.unwrap();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        until(|| sent.load(Ordering::Relaxed) == PIECES).await;
    }
}
