//! Over real sockets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::serve::ListenerExt;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use loadshed::{Budget, LoadShed, RetryAfter, Threshold};
use loadshed_client::{Backpressure, BackpressureService, Deadline, Replayed};
use tokio::time::Instant;
use tonic::{
    Code,
    transport::{Channel, Server as GrpcServer, server::TcpIncoming},
};
use tonic_health::{
    pb::{HealthCheckRequest, health_client::HealthClient},
    server::health_reporter,
};
use tower::{Layer, ServiceBuilder, ServiceExt};

use crate::support::{bind, soon, until};

/// Waits until a call was refused, and makes room.
async fn free(budget: Budget, permit: loadshed::Permit) {
    until(|| budget.snapshot().refused > 0).await;
    drop(permit);
}

#[tokio::test]
async fn over_sockets_a_refused_upload_waits_and_succeeds_once_there_is_room() {
    let budget = Budget::fixed(1);
    let app = axum::Router::new()
        .route("/", axum::routing::post(async |body: String| body))
        .layer(LoadShed::ratio(1.0).budget(&budget));
    let (listener, address) = bind().await;
    let url = format!("http://{address}");
    let connections = Arc::new(AtomicUsize::new(0));
    let listener = listener.tap_io({
        let connections = Arc::clone(&connections);
        move |_| {
            connections.fetch_add(1, Ordering::Relaxed);
        }
    });
    tokio::spawn(axum::serve(listener, app).into_future());

    let permit = budget.try_acquire(Threshold::ratio(1.0)).unwrap();
    tokio::spawn(free(budget.clone(), permit));
    let http = Client::builder(TokioExecutor::new()).build_http();
    let client = ServiceBuilder::new()
        .layer(Backpressure::new())
        .service(http);
    let request = Request::post(&url)
        .body(Full::new(Bytes::from("text")))
        .unwrap();
    let start = Instant::now();
    let answer = soon(client.oneshot(request)).await.unwrap();

    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.into_body().collect().await.unwrap().to_bytes(),
        "text"
    );
    let waited = start.elapsed();
    println!("waited {waited:?}");
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
    assert_eq!(budget.snapshot().refused, 1);
    // The answer that nobody read does not cost the connection.
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

type Grpc = HealthClient<BackpressureService<Channel, Replayed<tonic::body::Body>>>;

async fn grpc_client(budget: &Budget) -> Grpc {
    let (listener, address) = bind().await;
    let url = format!("http://{address}");
    let (_reporter, health) = health_reporter();
    let shed = LoadShed::ratio(1.0).retry_after(RetryAfter::fixed(Duration::from_secs(1)));
    let shed = shed.budget(budget);
    let server = GrpcServer::builder()
        .layer(shed)
        .add_service(health)
        .serve_with_incoming(TcpIncoming::from(listener));
    tokio::spawn(server);
    let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
    let layer = Backpressure::new().replay(tonic::body::Body::new);
    HealthClient::new(layer.layer(channel))
}

#[tokio::test]
async fn a_tonic_channel_waits_for_the_pushback_and_succeeds_once_there_is_room() {
    let budget = Budget::fixed(1);
    let mut client = grpc_client(&budget).await;
    let permit = budget.try_acquire(Threshold::ratio(1.0)).unwrap();
    tokio::spawn(free(budget.clone(), permit));
    let start = Instant::now();
    let check = client.check(HealthCheckRequest::default());
    let answer = soon(check).await.unwrap();
    println!("waited {:?}", start.elapsed());

    // SERVING
    assert_eq!(answer.into_inner().status, 1);
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(budget.snapshot().refused, 1);
}

#[tokio::test]
async fn a_tonic_call_without_the_time_to_wait_is_refused_at_once() {
    let budget = Budget::fixed(1);
    let mut client = grpc_client(&budget).await;
    let _permit = budget.try_acquire(Threshold::ratio(1.0)).unwrap();
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    request.set_timeout(Duration::from_millis(900));
    let start = Instant::now();
    let status = client.check(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(start.elapsed() < Duration::from_millis(900));

    let mut late = tonic::Request::new(HealthCheckRequest::default());
    late.extensions_mut()
        .insert(Deadline::after(Duration::ZERO));
    let status = client.check(late).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(budget.snapshot().refused, 1);
}
