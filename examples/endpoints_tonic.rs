//! A gRPC server, tuned per method by one layer around all of it: tonic has one for the whole
//! server, whatever its services.
//!
//! The health service stands in for yours, as it needs no generated code. Of a pool of 8:
//!
//! | method | up to | why |
//! | --- | --- | --- |
//! | `Watch` | 4 | a stream, which keeps its place for hours |
//! | `Check`, `x-batch` in its metadata | 6 | its caller tries again |
//! | `Check` | 8 | somebody waits |
//! | `grpc.reflection…` | not counted | for people with grpcurl |
//!
//! It serves itself six streams and some calls, and prints what each was answered:
//!
//! ```text
//! cargo run --example endpoints_tonic
//! ```

use std::error::Error;

use loadshed::{Budget, Criticality, LoadShed};
use tokio::net::TcpListener;
use tonic::{
    Request, Streaming,
    metadata::MetadataValue,
    transport::{Channel, Server, server::TcpIncoming},
};
use tonic_health::{
    pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient},
    server::health_reporter,
};

/// What the service carries at once.
pub(crate) const POOL: usize = 8;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = listener.local_addr()?;
    tokio::spawn(serve(listener, Budget::fixed(POOL)));

    let channel = Channel::from_shared(format!("http://{server}"))?;
    let mut caller = Caller(HealthClient::new(channel.connect().await?));
    let mut open = Vec::new();
    for n in 1..=6 {
        open.extend(told(&format!("stream {n}"), caller.watch().await));
    }
    for n in 1..=3 {
        told(&format!("batch call {n}"), caller.check(true).await);
    }
    told("call", caller.check(false).await);
    Ok(())
}

pub(crate) async fn serve(
    listener: TcpListener,
    pool: Budget,
) -> Result<(), tonic::transport::Error> {
    let shed = LoadShed::ratio(0.75)
        .budget(pool)
        .at("/grpc.health.v1.Health/Watch", 0.5)
        .exempt(["/grpc.reflection.v1.ServerReflection/{method}"])
        .classify(|head| match head.headers().get("x-batch") {
            Some(_) => Criticality::Sheddable,
            None => Criticality::CriticalPlus,
        });
    let (_reporter, health) = health_reporter();
    Server::builder()
        .layer(shed)
        .add_service(health)
        .serve_with_incoming(TcpIncoming::from(listener))
        .await
}

/// Calls the methods of the service.
pub(crate) struct Caller(pub(crate) HealthClient<Channel>);

impl Caller {
    pub(crate) async fn watch(&mut self) -> Result<Streaming<HealthCheckResponse>, tonic::Status> {
        let watch = self.0.watch(HealthCheckRequest::default()).await;
        watch.map(tonic::Response::into_inner)
    }

    pub(crate) async fn check(&mut self, is_batch: bool) -> Result<(), tonic::Status> {
        let mut request = Request::new(HealthCheckRequest::default());
        if is_batch {
            let metadata = request.metadata_mut();
            metadata.insert("x-batch", MetadataValue::from_static("1"));
        }
        self.0.check(request).await.map(drop)
    }
}

fn told<T>(what: &str, answer: Result<T, tonic::Status>) -> Option<T> {
    match &answer {
        Ok(_) => println!("{what}: served"),
        Err(status) => {
            let pushback = status.metadata().get("grpc-retry-pushback-ms");
            println!("{what}: {:?}, pushback {pushback:?}", status.code());
        }
    }
    answer.ok()
}
