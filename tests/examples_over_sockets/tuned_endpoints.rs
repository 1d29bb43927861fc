//! Runs the examples that set a threshold for each endpoint.

#[allow(dead_code, reason = "its main is unused here")]
#[path = "../../examples/endpoints.rs"]
mod axum_example;
#[allow(dead_code, reason = "its main is unused here")]
#[path = "../../examples/endpoints_tonic.rs"]
mod tonic_example;

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{Request, StatusCode},
};
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use loadshed::Budget;
use tonic::{Code, transport::Channel};
use tonic_health::pb::health_client::HealthClient;

use crate::{
    eventually,
    support::sockets::{bind, soon},
};

const NO_TIME: Duration = Duration::ZERO;

async fn until(budget: &Budget, in_flight: usize) {
    let what = format!("{in_flight} in flight");
    eventually(&what, || budget.in_flight() == in_flight).await;
}

struct Mail {
    http: Client<HttpConnector, Body>,
    server: SocketAddr,
}

impl Mail {
    fn request(&self, method: &str, path: &str) -> axum::http::request::Builder {
        let uri = format!("http://{}{path}", self.server);
        Request::builder().method(method).uri(uri)
    }

    async fn status(&self, request: Request<Body>) -> StatusCode {
        soon(self.http.request(request)).await.unwrap().status()
    }

    async fn get(&self, path: &str) -> StatusCode {
        let request = self.request("GET", path).body(Body::empty());
        self.status(request.unwrap()).await
    }

    /// Starts an upload that announces this many bytes and sends none, until it is aborted.
    fn upload(&self, path: &str, bytes: usize) -> tokio::task::JoinHandle<()> {
        let never = stream::pending::<Result<Frame<Bytes>, Infallible>>();
        let request = self.request("POST", path).header("content-length", bytes);
        let request = request.body(Body::new(StreamBody::new(never))).unwrap();
        let http = self.http.clone();
        tokio::spawn(async move { drop(http.request(request).await) })
    }

    async fn send(&self, path: &str, is_batch: bool) -> StatusCode {
        let mut request = self.request("POST", path);
        if is_batch {
            request = request.header("x-batch", "1");
        }
        self.status(request.body("hello".into()).unwrap()).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn axum_fills_its_memory_and_each_endpoint_stops_at_its_own_threshold() {
    let (listener, server) = bind().await;
    let memory = Budget::fixed(axum_example::MEMORY);
    tokio::spawn(axum_example::serve(listener, memory.clone(), NO_TIME));
    let http = Client::builder(TokioExecutor::new()).build_http();
    let mail = Mail { http, server };

    // 39 units each: 117 of 200.
    let large = [0; 3].map(|_| mail.upload("/mail/receive", 40_000_000));
    let mut uploads = Vec::from(large);
    until(&memory, 117).await;
    assert_eq!(
        mail.send("/export/all", false).await,
        StatusCode::TOO_MANY_REQUESTS
    );
    assert_eq!(mail.send("/mail/receive", true).await, StatusCode::OK);

    uploads.push(mail.upload("/mail/receive", 53 << 20));
    until(&memory, 171).await;
    assert_eq!(
        mail.send("/mail/receive", true).await,
        StatusCode::TOO_MANY_REQUESTS
    );
    assert_eq!(mail.send("/mail/receive", false).await, StatusCode::OK);

    uploads.push(mail.upload("/mail/receive", 18 << 20));
    until(&memory, 190).await;
    assert_eq!(
        mail.send("/mail/receive", false).await,
        StatusCode::TOO_MANY_REQUESTS
    );
    assert_eq!(mail.get("/mail/list").await, StatusCode::OK);
    let counted = memory.snapshot().admitted;
    assert_eq!(mail.get("/healthz").await, StatusCode::OK);
    assert_eq!(
        (memory.snapshot().admitted, memory.snapshot().exempt),
        (counted, 1)
    );

    uploads.iter().for_each(tokio::task::JoinHandle::abort);
    until(&memory, 0).await;
    assert_eq!(mail.send("/export/all", false).await, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tonic_opens_streams_in_half_of_its_pool_and_calls_in_the_rest_by_their_class() {
    let (listener, server) = bind().await;
    let pool = Budget::fixed(tonic_example::POOL);
    tokio::spawn(tonic_example::serve(listener, pool.clone()));
    let channel = Channel::from_shared(format!("http://{server}")).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut caller = tonic_example::Caller(HealthClient::new(channel));

    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(caller.watch().await.unwrap());
    }
    let fifth = caller.watch().await.unwrap_err();
    assert_eq!(fifth.code(), Code::ResourceExhausted);
    caller.check(true).await.unwrap();

    // Two more permits fill the share of the pool that batch calls may use; two more fill the pool.
    let more = || pool.try_acquire(loadshed::Threshold::NEVER_SHED).unwrap();
    until(&pool, 4).await;
    let mut held = vec![more(), more()];
    let batch = caller.check(true).await.unwrap_err();
    assert_eq!(batch.code(), Code::ResourceExhausted);
    caller.check(false).await.unwrap();
    until(&pool, 6).await;
    held.extend([more(), more()]);
    let call = caller.check(false).await.unwrap_err();
    assert!(call.metadata().contains_key("grpc-retry-pushback-ms"));

    drop((streams, held));
    until(&pool, 0).await;
}
