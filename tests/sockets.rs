//! Promises 3, 4, 6, 17 and 18 over real sockets: what clients see, and what becomes of those who go away.

mod support;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::{self, SendRequest},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use loadshed::{Budget, Drain, LoadShed, Permit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
    time::timeout,
};
use tower::{Layer, Service, service_fn};

use support::all;

/// Far more than anything here takes: what does not come within it does not come.
const LONG: Duration = Duration::from_secs(20);

async fn soon<F: Future>(future: F) -> F::Output {
    timeout(LONG, future).await.expect("it takes too long")
}

async fn until(happened: impl Fn() -> bool) {
    soon(async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

type Body = BoxBody<Bytes, Infallible>;

/// `/endless` answers with a body without an end, `/never` does not answer, `/read` once the request body has come.
async fn handle(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let body = match request.uri().path() {
        "/endless" => StreamBody::new(stream::repeat_with(|| {
            Ok(Frame::data(Bytes::from_static(&[0; 1024])))
        }))
        .boxed(),
        "/never" => std::future::pending().await,
        "/read" => Full::new(request.into_body().collect().await.unwrap().to_bytes()).boxed(),
        _ => Full::from("served").boxed(),
    };
    Ok(Response::new(body))
}

/// A hyper server for HTTP/1 and HTTP/2.
async fn serve<S, B>(service: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let connection = auto::Builder::new(TokioExecutor::new());
                // A client that went away is an error here, and what some of the tests are about.
                let _ = connection
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    address
}

struct Server {
    address: SocketAddr,
    budget: Budget,
}

impl Server {
    /// With room for one.
    async fn start() -> Self {
        Self::start_with(Drain::default()).await
    }

    async fn start_with(drain: Drain) -> Self {
        let budget = Budget::fixed(1);
        let shed = LoadShed::ratio(1.0).budget(&budget).drain(drain);
        let address = serve(shed.layer(service_fn(handle))).await;
        Self { address, budget }
    }

    async fn start_full() -> (Self, Permit) {
        let server = Self::start().await;
        let permit = server.budget.try_acquire(all()).unwrap();
        (server, permit)
    }

    async fn http1(&self) -> Http1 {
        Http1(soon(TcpStream::connect(self.address)).await.unwrap())
    }

    async fn http2<B>(&self) -> SendRequest<B>
    where
        B: http_body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
    {
        let stream = soon(TcpStream::connect(self.address)).await.unwrap();
        let (client, connection) =
            soon(http2::handshake(TokioExecutor::new(), TokioIo::new(stream)))
                .await
                .unwrap();
        tokio::spawn(connection);
        client
    }
}

/// A client that sends and reads bytes.
struct Http1(TcpStream);

impl Http1 {
    async fn send(&mut self, text: &str) {
        soon(self.0.write_all(text.as_bytes())).await.unwrap();
    }

    /// The head of the next response, up to the empty line.
    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon(self.0.read_u8()).await.expect("a whole head"));
        }
        String::from_utf8(head).unwrap().to_ascii_lowercase()
    }

    async fn body(&mut self, head: &str) -> String {
        let mut body = vec![0; content_length(head)];
        soon(self.0.read_exact(&mut body)).await.unwrap();
        String::from_utf8(body).unwrap()
    }

    async fn rest(mut self) -> String {
        let mut rest = String::new();
        soon(self.0.read_to_string(&mut rest)).await.unwrap();
        rest
    }
}

fn content_length(head: &str) -> usize {
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    line.expect("a length").parse().unwrap()
}

fn is_a_refusal(head: &str) {
    assert!(head.starts_with("http/1.1 429 "), "{head}");
    let hint = head
        .lines()
        .find_map(|line| line.strip_prefix("retry-after: "));
    assert!(hint.unwrap().parse::<u32>().unwrap() >= 1);
    assert!(head.contains("\r\ncache-control: no-store\r\n"));
}

#[tokio::test]
async fn p17_the_refusal_comes_before_the_body_does() {
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
async fn p17_over_http_2_the_refusal_comes_before_the_body_does_and_the_connection_lives_on() {
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
async fn p18_an_http_1_0_client_gets_its_429_and_the_end() {
    let (server, _held) = Server::start_full().await;
    for request in [
        "GET / HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.0\r\ncontent-length: 5\r\n\r\nwhole",
    ] {
        let mut client = server.http1().await;
        client.send(request).await;
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.0 429 "), "{answer}");
        assert!(answer.ends_with("\"status\":429}"));
    }
}

#[tokio::test]
async fn p18_who_asks_before_sending_is_told_429_and_never_100() {
    let (server, held) = Server::start_full().await;
    let ask = "POST /read HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n";
    let mut client = server.http1().await;
    client.send(ask).await;
    let head = client.head().await;
    is_a_refusal(&head);
    // As clients do: what they asked for is refused, so they send nothing and leave.
    client.0.shutdown().await.unwrap();
    assert!(!client.rest().await.contains("HTTP/1.1 100"));

    drop(held);
    let mut client = server.http1().await;
    client.send(ask).await;
    assert!(
        client.head().await.starts_with("http/1.1 100 "),
        "there is room"
    );
    client.send("data").await;
    assert!(client.rest().await.ends_with("data"));
}

#[tokio::test]
async fn p18_a_refused_head_has_the_length_and_not_the_body() {
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
        // Its place is free although the connection is open.
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
async fn p17_a_connection_is_used_again_once_the_rest_of_a_refused_upload_has_come() {
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
async fn p17_many_slow_uploads_see_their_429_and_are_let_go_while_the_server_serves_on() {
    const UPLOADS: usize = 300;
    let bounds = Drain::default().time(Duration::from_secs(1)).at_once(100);
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
            // A byte now and then, for as long as it is taken.
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
async fn p17_over_http_2_a_refused_upload_is_taken_to_its_end_and_not_reset() {
    const PIECES: usize = 64;
    let (server, _held) = Server::start_full().await;
    let mut client = server.http2().await;
    for _ in 0..3 {
        let sent = Arc::new(AtomicUsize::new(0));
        let upload = {
            let sent = Arc::clone(&sent);
            // Many times the window of a stream: what is not read is not sent.
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

#[tokio::test]
async fn p18_who_asks_before_sending_and_does_not_wait_sees_the_429_all_the_same() {
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
async fn p18_over_http_2_a_refused_head_has_the_length_and_not_the_body() {
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
    // END_STREAM came with it: no further frame was waited for.
    assert!(http_body::Body::is_end_stream(response.body()));
}

#[tokio::test]
async fn p18_a_refused_grpc_web_call_over_http_1_has_all_in_its_head_and_no_body() {
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

#[tokio::test]
async fn p03_a_client_that_goes_away_in_the_middle_of_a_response_gives_its_permit_back() {
    let server = Server::start().await;
    for _ in 0..3 {
        let mut client = server.http1().await;
        client
            .send("GET /endless HTTP/1.1\r\nhost: a\r\n\r\n")
            .await;
        client.head().await;
        // The place is held although the head is out, and read.
        let mut other = server.http1().await;
        other.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        is_a_refusal(&other.head().await);
        assert_eq!(server.budget.in_flight(), 1);
        drop(client);
        until(|| server.budget.in_flight() == 0).await;
    }
}

#[tokio::test]
async fn p03_a_client_that_goes_away_before_the_response_gives_its_permit_back() {
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

    let unanswered = tokio::spawn(client.send_request(request("/never")));
    until(|| server.budget.in_flight() == 1).await;
    unanswered.abort();
    until(|| server.budget.in_flight() == 0).await;
    let served = soon(client.send_request(request("/"))).await.unwrap();
    assert_eq!(served.status(), StatusCode::OK);
}

#[tokio::test]
async fn p04_the_body_of_a_head_request_holds_nothing_as_nobody_reads_it() {
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
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, app).into_future());

    for _ in 0..5 {
        let (answered, mut answers) = mpsc::unbounded_channel();
        for path in ["/a", "/b", "/a", "/b"] {
            let mut client = Http1(soon(TcpStream::connect(address)).await.unwrap());
            let answered = answered.clone();
            tokio::spawn(async move {
                client
                    .send(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"))
                    .await;
                answered.send(client.head().await).unwrap();
                // The connection stays: its end is not what frees a place.
                std::future::pending::<()>().await;
                drop(client);
            });
        }
        for _ in 0..3 {
            is_a_refusal(&soon(answers.recv()).await.unwrap());
        }
        // A refused one is answered before the one that runs has begun, perhaps.
        until(|| running.load(Ordering::SeqCst) == 1).await;
        go_on.notify_one();
        assert!(
            soon(answers.recv())
                .await
                .unwrap()
                .starts_with("http/1.1 200 ")
        );
        assert_eq!(most.load(Ordering::SeqCst), 1);
        until(|| budget.in_flight() == 0).await;
    }
}
