//! Promises 3 and 11 for uploads, with axum and tonic over real sockets.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use loadshed::{Budget, LoadShed};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tonic::{
    Code,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    millis, seconds,
    support::sockets::{bind, soon, until},
};

/// Calls a second of honest callers.
const HONEST: u32 = 70;
const SILENT: usize = 80;
const POOL: usize = 200;

/// 16 workers, each busy with a request for 20 ms.
#[derive(Clone)]
struct Workers(Arc<Semaphore>);

impl Workers {
    fn new() -> Self {
        Self(Arc::new(Semaphore::new(16)))
    }

    async fn work(&self) {
        let _worker = self.0.acquire().await;
        sleep(millis(20)).await;
    }
}

/// Calls for so many seconds, and returns the share of the calls that are served, in percent.
async fn share<F: Future<Output = bool> + Send + 'static>(
    seconds: u32,
    mut call: impl FnMut() -> F,
) -> usize {
    let calls = (HONEST * seconds) as usize;
    let mut served = JoinSet::new();
    let begin = Instant::now();
    for nth in 0..calls {
        sleep_until(begin + Duration::from_secs(1) * nth as u32 / HONEST).await;
        served.spawn(call());
    }
    let served = served.join_all().await;
    served.into_iter().filter(|served| *served).count() * 100 / calls
}

async fn axum(app: Router) -> SocketAddr {
    let (listener, address) = bind().await;
    tokio::spawn(async { axum::serve(listener, app).await });
    address
}

/// Calls a path of a server by HTTP/1.
fn honest(
    address: SocketAddr,
    path: &'static str,
) -> impl FnMut() -> std::pin::Pin<Box<dyn Future<Output = bool> + Send>> {
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    move || {
        let request = Request::post(format!("http://{address}{path}"));
        let call = client.request(request.body(Full::from("text")).unwrap());
        Box::pin(async { soon(call).await.unwrap().status() == StatusCode::OK })
    }
}

/// Begins an upload of 1,000 bytes, of which it sends 100.
async fn half_upload(address: SocketAddr, path: &str) -> TcpStream {
    let mut socket = soon(TcpStream::connect(address)).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n");
    let text = head + &"x".repeat(100);
    soon(socket.write_all(text.as_bytes())).await.unwrap();
    socket
}

/// The share of honest callers of an axum server while uploads are silent, and how many of the uploads are in flight.
async fn axum_with_silent_uploads(shed: LoadShed) -> (usize, usize) {
    let workers = Workers::new();
    let handler = async move |_: Bytes| workers.work().await;
    let app = Router::new().route("/", post(handler)).layer(shed.clone());
    let address = axum(app).await;
    assert_eq!(share(2, honest(address, "/")).await, 100);
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(half_upload(address, "/").await);
    }
    let share = share(6, honest(address, "/")).await;
    let budget = shed.handle().budget().clone();
    (share, budget.in_flight())
}

#[tokio::test]
async fn p11_silent_uploads_to_axum_cause_no_refusals_under_a_learned_limit() {
    let shed = LoadShed::ratio(0.85).watch_uploads(axum::body::Body::new);
    assert_eq!(axum_with_silent_uploads(shed).await, (100, SILENT));
}

#[tokio::test]
async fn p03_trickled_uploads_to_axum_are_ended_while_requests_are_refused() {
    const TRICKLED: usize = 170;
    let pool = Budget::fixed(POOL);
    let receive = LoadShed::ratio(0.85)
        .budget(&pool)
        .watch_uploads(axum::body::Body::new)
        .min_upload_rate(240, seconds(1));
    let workers = Workers::new();
    let handler = async move |_: Bytes| workers.work().await;
    let app = Router::new()
        .route("/mail/receive", post(handler).route_layer(receive))
        .route("/mail/list", get(async || "list"))
        .layer(LoadShed::observe().budget(&pool));
    let address = axum(app).await;
    let ended = Arc::new(AtomicUsize::new(0));
    for _ in 0..TRICKLED {
        let mut socket = half_upload(address, "/mail/receive").await;
        let ended = Arc::clone(&ended);
        tokio::spawn(async move {
            let (mut read, mut write) = socket.split();
            let trickle = async {
                while write.write_all(b"x").await.is_ok() {
                    sleep(seconds(1)).await;
                }
                std::future::pending::<()>().await;
            };
            let mut response = String::new();
            tokio::select! { () = trickle => {}, _ = read.read_to_string(&mut response) => {} }
            let head = response.to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 408 "), "{head}");
            assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
            ended.fetch_add(1, Ordering::Relaxed);
        });
    }
    until(|| pool.in_flight() == TRICKLED).await;
    let first = share(4, honest(address, "/mail/receive")).await;
    assert!(first < 100, "the pool was full: {first} %");
    assert_eq!(share(2, honest(address, "/mail/receive")).await, 100);
    until(|| ended.load(Ordering::Relaxed) == TRICKLED).await;
    until(|| pool.in_flight() == 0).await;
}

#[tokio::test]
async fn a_client_that_expects_a_continue_is_asked_for_its_body_by_the_handler_alone() {
    let shed = LoadShed::ratio(1.0)
        .watch_uploads(axum::body::Body::new)
        .min_upload_rate(240, seconds(5));
    let app = Router::new()
        .route("/read", post(async |text: String| text))
        .route("/ignore", post(async || "ignored"))
        .layer(shed);
    let address = axum(app).await;
    for (path, first) in [("/read", "HTTP/1.1 100 "), ("/ignore", "HTTP/1.1 200 ")] {
        let mut socket = soon(TcpStream::connect(address)).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n"
        );
        soon(socket.write_all(head.as_bytes())).await.unwrap();
        let mut line = vec![0; first.len()];
        soon(socket.read_exact(&mut line)).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&line), first);
    }
}

#[tokio::test]
async fn the_body_limits_of_axum_hold_for_a_watched_upload() {
    use axum::extract::DefaultBodyLimit;

    let shed = || {
        LoadShed::ratio(1.0)
            .watch_uploads(axum::body::Body::new)
            .min_upload_rate(240, seconds(5))
    };
    let routes = || Router::new().route("/", post(async |text: String| text));
    let inside = routes().layer(DefaultBodyLimit::max(3)).layer(shed());
    let outside = routes().layer(shed()).layer(DefaultBodyLimit::max(3));
    let chunked = || {
        let frame = Frame::data(Bytes::from_static(b"text"));
        axum::body::Body::new(StreamBody::new(stream::iter([Ok::<_, Infallible>(frame)])))
    };
    for app in [inside, outside] {
        for body in [axum::body::Body::from("text"), chunked()] {
            let request = Request::post("/").body(body).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        }
    }
}

type Pending = UnsyncBoxBody<Bytes, Infallible>;

/// One HTTP/2 connection, for gRPC calls whose message does not come.
async fn http2(address: SocketAddr) -> SendRequest<Pending> {
    let stream = soon(TcpStream::connect(address)).await.unwrap();
    let (client, connection) = soon(http2::handshake(TokioExecutor::new(), TokioIo::new(stream)))
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

fn without_message(address: SocketAddr) -> Request<Pending> {
    Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(StreamBody::new(stream::pending()).boxed_unsync())
        .unwrap()
}

/// tonic's health service behind the layer, with workers.
async fn tonic(shed: LoadShed) -> (SocketAddr, Channel) {
    let (_, health) = tonic_health::server::health_reporter();
    let (listener, address) = bind().await;
    let workers = Workers::new();
    let work = tower::layer::layer_fn(move |inner: tonic::service::Routes| {
        let workers = workers.clone();
        service_fn(move |request: Request<tonic::body::Body>| {
            let (inner, workers) = (inner.clone(), workers.clone());
            async move {
                let response = inner.oneshot(request).await;
                workers.work().await;
                response
            }
        })
    });
    let both = tower::layer::layer_fn(move |inner| shed.layer(work.layer(inner)));
    let server = Server::builder().layer(both).add_service(health);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    (address, soon(endpoint.connect()).await.unwrap())
}

fn check(channel: &Channel) -> impl Future<Output = Result<(), Code>> + Send + use<> {
    let mut client = HealthClient::new(channel.clone());
    async move {
        let checked = soon(client.check(HealthCheckRequest::default())).await;
        checked.map(|_| ()).map_err(|status| status.code())
    }
}

async fn share_of_checks(seconds: u32, channel: &Channel) -> usize {
    share(seconds, || {
        let check = check(channel);
        async { check.await.is_ok() }
    })
    .await
}

/// The share of honest callers of a tonic server while calls without a message are in flight, and the number of all calls in
/// flight.
async fn tonic_with_silent_calls(shed: LoadShed) -> (usize, usize) {
    let (address, channel) = tonic(shed.clone()).await;
    assert_eq!(share_of_checks(2, &channel).await, 100);
    let mut attacker = http2(address).await;
    let mut calls = JoinSet::new();
    for _ in 0..SILENT {
        calls.spawn(attacker.send_request(without_message(address)));
    }
    let share = share_of_checks(6, &channel).await;
    let budget = shed.handle().budget().clone();
    (share, budget.in_flight())
}

#[tokio::test]
async fn p11_calls_without_a_message_to_tonic_cause_no_refusals_under_a_learned_limit() {
    let shed = LoadShed::ratio(0.85).watch_uploads(tonic::body::Body::new);
    assert_eq!(tonic_with_silent_calls(shed).await, (100, SILENT));
}

#[tokio::test]
async fn p03_calls_without_a_message_to_tonic_are_ended_while_calls_are_refused() {
    let pool = Budget::fixed(100);
    let shed = LoadShed::ratio(0.8)
        .budget(&pool)
        .watch_uploads(tonic::body::Body::new)
        .min_upload_rate(240, seconds(1));
    let (address, channel) = tonic(shed).await;
    let mut attacker = http2(address).await;
    let mut calls = JoinSet::new();
    for _ in 0..SILENT {
        calls.spawn(attacker.send_request(without_message(address)));
    }
    until(|| pool.in_flight() == SILENT).await;
    assert_eq!(check(&channel).await, Err(Code::ResourceExhausted));
    let first = share_of_checks(3, &channel).await;
    assert!(first < 100, "the pool was full: {first} %");
    assert_eq!(share_of_checks(2, &channel).await, 100);
    for response in soon(calls.join_all()).await {
        let response: Response<_> = response.unwrap();
        assert_eq!(response.headers()["grpc-status"], "1");
        assert_eq!(response.headers()["content-type"], "application/grpc");
    }
    until(|| pool.in_flight() == 0).await;
}
