//! Promises 3, 4 and 6: when a permit is given back as a client disconnects, and one limit for all connections.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, routing};
use http::{Request, StatusCode};
use http_body_util::Empty;
use loadshed::{Budget, LoadShed};
use tokio::{
    net::TcpStream,
    sync::{Notify, mpsc},
};

use crate::{
    Http1, Server, is_a_refusal,
    support::sockets::{bind, soon, until},
};

#[tokio::test]
async fn p03_a_client_that_disconnects_in_the_middle_of_a_response_gives_its_permit_back() {
    let server = Server::start().await;
    for _ in 0..3 {
        let mut client = server.http1().await;
        client
            .send("GET /endless HTTP/1.1\r\nhost: a\r\n\r\n")
            .await;
        client.head().await;
        // The permit is held although the client has read the response head.
        let mut other = server.http1().await;
        other.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        is_a_refusal(&other.head().await);
        assert_eq!(server.budget.in_flight(), 1);
        drop(client);
        until(|| server.budget.in_flight() == 0).await;
    }
}

#[tokio::test]
async fn p03_a_client_that_disconnects_before_the_response_gives_its_permit_back() {
    let server = Server::start().await;
    let mut client = server.http1().await;
    client.send("GET /never HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until(|| server.budget.in_flight() == 1).await;
    drop(client);
    until(|| server.budget.in_flight() == 0).await;
}

#[tokio::test]
async fn p03_a_stream_that_is_reset_gives_its_permit_back_while_the_connection_lives() {
    let server = Server::start().await;
    let mut client = server.http2().await;
    let request = |path: &str| {
        Request::get(format!("http://a{path}"))
            .body(Empty::new())
            .unwrap()
    };
    let response = soon(client.send_request(request("/endless")))
        .await
        .unwrap();
    assert_eq!(server.budget.in_flight(), 1);
    let refused = soon(client.send_request(request("/"))).await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    drop(response);
    until(|| server.budget.in_flight() == 0).await;

    let pending = tokio::spawn(client.send_request(request("/never")));
    until(|| server.budget.in_flight() == 1).await;
    pending.abort();
    until(|| server.budget.in_flight() == 0).await;
    let served = soon(client.send_request(request("/"))).await.unwrap();
    assert_eq!(served.status(), StatusCode::OK);
}

#[tokio::test]
async fn p04_the_response_to_a_head_request_holds_no_permit_as_no_body_is_read() {
    let server = Server::start().await;
    let mut client = server.http1().await;
    client
        .send("HEAD /endless HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    assert!(client.head().await.starts_with("http/1.1 200 "));
    until(|| server.budget.in_flight() == 0).await;
}

#[tokio::test]
async fn p06_of_four_requests_on_four_connections_to_two_routes_one_runs_under_a_limit_of_1() {
    let (running, most, go_on) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(Notify::new()),
    );
    let handler = {
        let (running, most, go_on) = (Arc::clone(&running), Arc::clone(&most), Arc::clone(&go_on));
        move || async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            go_on.notified().await;
            running.fetch_sub(1, Ordering::SeqCst);
            "served"
        }
    };
    let budget = Budget::fixed(1);
    let app = Router::new()
        .route("/a", routing::get(handler.clone()))
        .route("/b", routing::get(handler))
        .layer(LoadShed::ratio(1.0).budget(&budget));
    let (listener, address) = bind().await;
    tokio::spawn(axum::serve(listener, app).into_future());

    for _ in 0..5 {
        let (heads, mut received) = mpsc::unbounded_channel();
        for path in ["/a", "/b", "/a", "/b"] {
            let mut client = Http1(soon(TcpStream::connect(address)).await.unwrap());
            let heads = heads.clone();
            tokio::spawn(async move {
                client
                    .send(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"))
                    .await;
                heads.send(client.head().await).unwrap();
                // The connection stays open: its end is not what gives the permit back.
                std::future::pending::<()>().await;
                drop(client);
            });
        }
        for _ in 0..3 {
            is_a_refusal(&soon(received.recv()).await.unwrap());
        }
        // The refusals may arrive before the admitted request has begun to run.
        until(|| running.load(Ordering::SeqCst) == 1).await;
        go_on.notify_one();
        assert!(
            soon(received.recv())
                .await
                .unwrap()
                .starts_with("http/1.1 200 ")
        );
        assert_eq!(most.load(Ordering::SeqCst), 1);
        until(|| budget.in_flight() == 0).await;
    }
}
