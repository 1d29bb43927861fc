//! A gRPC server with a limit of one call, which refuses a second call of a method that is opted in.
//!
//! The health service stands in for yours, as it needs no generated code. Its `Watch` is a stream
//! that holds its permit until it ends, and is never refused; `Check` is opted in. (In production,
//! exempt health checks: `.exempt(["/grpc.health.v1.Health/{method}"])`.)
//!
//! ```text
//! cargo run --example tonic
//! ```
//!
//! In another terminal, a client that watches, makes a second call, and prints its refusal:
//!
//! ```text
//! cargo run --example tonic -- --client
//! ```
//!
//! By hand, with a watch in the background. The server has no reflection, so grpcurl needs
//! `health.proto` (from <https://github.com/grpc/grpc-proto>); curl needs five zero bytes, which
//! are an empty message:
//!
//! ```text
//! grpcurl -plaintext -proto grpc/health/v1/health.proto 127.0.0.1:50051 \
//!     grpc.health.v1.Health/Watch &
//! grpcurl -v -plaintext -proto grpc/health/v1/health.proto 127.0.0.1:50051 \
//!     grpc.health.v1.Health/Check
//!
//! health() { printf '\0\0\0\0\0' | curl -s --http2-prior-knowledge -H 'te: trailers' \
//!     -H 'content-type: application/grpc' --data-binary @- "$@"; }
//! health http://127.0.0.1:50051/grpc.health.v1.Health/Watch --max-time 5 -o watch.bin &
//! sleep 1; health http://127.0.0.1:50051/grpc.health.v1.Health/Check -i
//! ```

use std::{env, error::Error};

use loadshed::{Budget, LoadShed};
use tokio::net::TcpListener;
use tonic::transport::{Channel, Server, server::TcpIncoming};
use tonic_health::{
    pb::{HealthCheckRequest, health_client::HealthClient},
    server::health_reporter,
};

const ADDRESS: &str = "127.0.0.1:50051";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if env::args().any(|arg| arg == "--client") {
        return call_twice().await;
    }
    let listener = TcpListener::bind(ADDRESS)
        .await
        .map_err(|error| format!("cannot listen on {ADDRESS}: {error}"))?;
    println!("listening on http://{ADDRESS}");
    serve(listener, Budget::fixed(1)).await?;
    Ok(())
}

pub(crate) async fn serve(
    listener: TcpListener,
    budget: Budget,
) -> Result<(), tonic::transport::Error> {
    let (_reporter, health) = health_reporter();
    Server::builder()
        // tonic has one layer for the whole server, with all of its services.
        .layer(
            LoadShed::ratio(1.0)
                .budget(budget)
                .only(["/grpc.health.v1.Health/Check"]),
        )
        .add_service(health)
        .serve_with_incoming(TcpIncoming::from(listener))
        .await
}

async fn call_twice() -> Result<(), Box<dyn Error>> {
    let channel = Channel::from_shared(format!("http://{ADDRESS}"))?
        .connect()
        .await
        .map_err(|error| format!("is the server running on {ADDRESS}? {error}"))?;
    let mut health = HealthClient::new(channel);

    let mut watch = health
        .watch(HealthCheckRequest::default())
        .await?
        .into_inner();
    println!("watching: {:?}", watch.message().await?);

    match health.check(HealthCheckRequest::default()).await {
        Ok(response) => println!("not refused: {response:?}"),
        Err(status) => {
            let pushback = status.metadata().get("grpc-retry-pushback-ms");
            println!("refused: {:?}: {}", status.code(), status.message());
            println!("grpc-retry-pushback-ms: {pushback:?}");
        }
    }
    Ok(())
}
