//! A gRPC server, tuned per method by one layer: tonic has one layer for the whole server, with all
//! of its services.
//!
//! The health service stands in for yours, as it needs no generated code. Of a pool of 8:
//!
//! | method | up to | why |
//! | --- | --- | --- |
//! | `Watch` | 4 | a stream, which holds its permit for hours |
//! | `Check`, `x-batch` in its metadata | 6 | its caller retries |
//! | `Check` | 8 | a person waits |
//! | `grpc.reflection…` | not counted | for people with grpcurl |
//!
//! It opens six streams and makes some calls to itself, and prints the response to each:
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

/// Calls that the service carries at once.
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
        open.extend(print_result(&format!("stream {n}"), caller.watch().await));
    }
    for n in 1..=3 {
        print_result(&format!("batch call {n}"), caller.check(true).await);
    }
    print_result("call", caller.check(false).await);
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

fn print_result<T>(what: &str, result: Result<T, tonic::Status>) -> Option<T> {
    match &result {
        Ok(_) => println!("{what}: served"),
        Err(status) => {
            let pushback = status.metadata().get("grpc-retry-pushback-ms");
            println!("{what}: {:?}, pushback {pushback:?}", status.code());
        }
    }
    result.ok()
}
