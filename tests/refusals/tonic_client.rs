//! Promises 4 and 18 with tonic's own client, over real sockets.

use std::time::Duration;

use futures_util::{Stream, stream};
use http::uri::PathAndQuery;
use loadshed::{Budget, LoadShed, RetryAfter};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;

use super::{
    full,
    support::sockets::{bind, soon, until},
};

/// tonic's own health service behind the layer.
async fn health(shed: LoadShed) -> Channel {
    let (_, service) = tonic_health::server::health_reporter();
    let (listener, address) = bind().await;
    let server = Server::builder().layer(shed).add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    soon(endpoint.connect()).await.unwrap()
}

fn health_request() -> HealthCheckRequest {
    HealthCheckRequest::default()
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Unary,
    ServerStreaming,
    ClientStreaming,
    Bidirectional,
}

impl Call {
    const ALL: [Self; 4] = [
        Self::Unary,
        Self::ServerStreaming,
        Self::ClientStreaming,
        Self::Bidirectional,
    ];

    async fn refused(
        self,
        channel: Channel,
        messages: impl Stream<Item = HealthCheckRequest> + Send + 'static,
    ) -> Status {
        let mut client = Grpc::new(channel);
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static("/test.Any/Call");
        let codec = ProstCodec::<_, HealthCheckResponse>::default();
        let messages = Request::new(messages);
        match self {
            Self::Unary => client
                .unary(Request::new(health_request()), path, codec)
                .await
                .err(),
            Self::ServerStreaming => {
                let request = Request::new(health_request());
                client.server_streaming(request, path, codec).await.err()
            }
            Self::ClientStreaming => client.client_streaming(messages, path, codec).await.err(),
            Self::Bidirectional => client.streaming(messages, path, codec).await.err(),
        }
        .expect("the call is refused")
    }
}

#[tokio::test]
async fn p18_a_refused_tonic_client_sees_resource_exhausted_and_the_retry_delay() {
    let (shed, _held) = full();
    let hint = Duration::from_millis(2_345);
    let channel = health(shed.retry_after(RetryAfter::fixed(hint))).await;
    for call in Call::ALL {
        let silent = call.refused(channel.clone(), stream::pending());
        let endless = call.refused(channel.clone(), stream::repeat(health_request()));
        for status in [soon(silent).await, soon(endless).await] {
            assert_eq!(status.code(), Code::ResourceExhausted, "{call:?}");
            assert!(!status.message().is_empty(), "{call:?}");
            let pushback = status.metadata().get("grpc-retry-pushback-ms");
            assert_eq!(pushback.expect("a pushback"), "2345", "{call:?}");
            let retry_info = status.get_details_retry_info().expect("a RetryInfo");
            assert_eq!(retry_info.retry_delay, Some(hint), "{call:?}");
        }
    }
}

#[tokio::test]
async fn p18_a_refused_tonic_client_is_served_once_a_permit_is_free() {
    let (shed, held) = full();
    let budget = shed.handle().budget().clone();
    let mut client = HealthClient::new(health(shed).await);
    assert!(soon(client.check(health_request())).await.is_err());
    drop(held);
    soon(client.check(health_request()))
        .await
        .expect("a permit is free");
    until(|| budget.in_flight() == 0).await;
}

#[tokio::test]
async fn p04_a_grpc_stream_holds_its_permit_until_it_ends() {
    let budget = Budget::fixed(1);
    let channel = health(LoadShed::ratio(1.0).budget(&budget)).await;
    let mut client = HealthClient::new(channel);
    let mut stream = soon(client.watch(health_request()))
        .await
        .unwrap()
        .into_inner();
    assert!(soon(stream.message()).await.unwrap().is_some());
    assert_eq!(budget.in_flight(), 1);
    let refused = soon(client.check(health_request())).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    drop(stream);
    until(|| budget.in_flight() == 0).await;
    soon(client.check(health_request())).await.unwrap();
}
