//! Promise 18: what a refused client receives, byte by byte.

use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use tokio::io::AsyncWriteExt;

use crate::{
    Server, content_length, is_a_refusal,
    support::{
        all,
        sockets::{soon, until},
    },
};

#[tokio::test]
async fn p18_an_http_1_0_client_gets_its_429_and_the_connection_is_closed() {
    let (server, _held) = Server::start_full().await;
    for request in [
        "GET / HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.0\r\ncontent-length: 5\r\n\r\nwhole",
    ] {
        let mut client = server.http1().await;
        client.send(request).await;
        let response = client.rest().await;
        assert!(response.starts_with("HTTP/1.0 429 "), "{response}");
        assert!(response.ends_with("\"status\":429}"));
    }
}

#[tokio::test]
async fn p18_a_client_that_expects_100_continue_gets_429_and_never_100() {
    let (server, held) = Server::start_full().await;
    let request = "POST /read HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n";
    let mut client = server.http1().await;
    client.send(request).await;
    let head = client.head().await;
    is_a_refusal(&head);
    // As clients do: after the refusal, they send no body and close.
    client.0.shutdown().await.unwrap();
    assert!(!client.rest().await.contains("HTTP/1.1 100"));

    drop(held);
    let mut client = server.http1().await;
    client.send(request).await;
    assert!(
        client.head().await.starts_with("http/1.1 100 "),
        "a permit is free"
    );
    client.send("data").await;
    assert!(client.rest().await.ends_with("data"));
}

#[tokio::test]
async fn p18_a_refused_head_request_gets_the_length_and_no_body() {
    let (server, _held) = Server::start_full().await;
    let mut get = server.http1().await;
    get.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let length = content_length(&get.head().await);
    assert!(length > 0);

    let mut client = server.http1().await;
    client
        .send("HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await;
    let head = client.head().await;
    is_a_refusal(&head);
    assert_eq!(content_length(&head), length);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn p18_a_connection_is_used_again_after_a_refusal() {
    let (server, mut held) = Server::start_full().await;
    let mut client = server.http1().await;
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let head = client.head().await;
        is_a_refusal(&head);
        assert!(!head.contains("connection: close"));
        client.body(&head).await;

        drop(held);
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let head = client.head().await;
        assert!(head.starts_with("http/1.1 200 "));
        assert_eq!(client.body(&head).await, "served");
        // The permit is free although the connection is open.
        until(|| server.budget.in_flight() == 0).await;
        held = server.budget.try_acquire(all()).unwrap();
    }
}

#[tokio::test]
async fn p18_a_connection_is_used_again_after_a_refusal_whose_request_body_had_arrived() {
    let (server, _held) = Server::start_full().await;
    let mut client = server.http1().await;
    for _ in 0..3 {
        client
            .send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nwhole")
            .await;
        let head = client.head().await;
        is_a_refusal(&head);
        client.body(&head).await;
    }
}

#[tokio::test]
async fn p18_a_client_that_expects_100_continue_and_does_not_wait_for_it_sees_the_429() {
    let (server, _held) = Server::start_full().await;
    let mut client = server.http1().await;
    client
        .send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\ndata")
        .await;
    let head = client.head().await;
    is_a_refusal(&head);
    assert!(client.body(&head).await.ends_with("\"status\":429}"));
}

#[tokio::test]
async fn p18_over_http_2_a_refused_head_request_gets_the_length_and_no_body() {
    let (server, _held) = Server::start_full().await;
    let mut client = server.http2().await;
    let mut lengths = Vec::new();
    for (method, has_body) in [("GET", true), ("HEAD", false)] {
        let request = Request::builder().method(method).uri("http://a/");
        let request = request.body(Empty::new()).unwrap();
        let response = soon(client.send_request(request)).await.unwrap();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        lengths.push(response.headers()["content-length"].clone());
        let body = soon(response.into_body().collect()).await.unwrap();
        assert_eq!(!body.to_bytes().is_empty(), has_body);
    }
    assert_eq!(lengths[0], lengths[1]);
}

#[tokio::test]
async fn p18_a_refused_grpc_call_is_one_block_of_headers() {
    let (server, _held) = Server::start_full().await;
    let mut client = server.http2().await;
    let request = Request::post("http://a/test.Any/Call")
        .header("content-type", "application/grpc")
        .body(Empty::new())
        .unwrap();
    let response = soon(client.send_request(request)).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "8");
    // The headers carried END_STREAM: the client waits for no further frame.
    assert!(http_body::Body::is_end_stream(response.body()));
}

#[tokio::test]
async fn p18_a_refused_grpc_web_call_over_http_1_has_its_status_in_the_head_and_no_body() {
    let (server, _held) = Server::start_full().await;
    let mut client = server.http1().await;
    for content_type in ["application/grpc-web+proto", "application/grpc-web-text"] {
        client
            .send(&format!(
                "POST /test.Any/Call HTTP/1.1\r\nhost: a\r\ncontent-type: {content_type}\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0"
            ))
            .await;
        let head = client.head().await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        for line in [
            &format!("content-type: {content_type}"),
            "grpc-status: 8",
            "content-length: 0",
        ] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{head}");
        }
    }
}
