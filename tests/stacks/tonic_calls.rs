//! Promises 4 and 7 with tonic's server and client over real sockets, and an interceptor.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, routing::post};
use bytes::Bytes;
use http::{Response, uri::PathAndQuery};
use loadshed::{Budget, LoadShed, RequestPermit};
use tokio::{sync::Semaphore, time::sleep};
use tonic::{
    Code, Request, Status, Streaming,
    body::Body,
    client::Grpc,
    server,
    service::{InterceptorLayer, Routes},
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::{
    BoxError, Layer, Service, ServiceExt, layer::layer_fn, service_fn, util::BoxCloneSyncService,
};

use crate::support::sockets::{bind, soon, until};

const LENGTH: usize = 64 << 20;
const CALLERS: usize = 4;
const PATH: &str = "/test.Service/Call";
/// Above the longest message. By default a client accepts 4 MiB.
const MAX_MESSAGE: usize = 2 * LENGTH;

/// A unary method whose response has so many bytes. The handler waits for its gate.
#[derive(Clone)]
struct Method {
    pool: Budget,
    length: usize,
    gate: Arc<Semaphore>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// What the handler sees of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    in_flight: usize,
    has_permit: bool,
}

impl Method {
    fn new(length: usize) -> Self {
        Self {
            pool: Budget::fixed(1_000),
            length,
            gate: Arc::new(Semaphore::new(0)),
            seen: Arc::default(),
        }
    }

    async fn respond(self, request: Request<()>) -> Result<tonic::Response<Vec<u8>>, Status> {
        self.seen.lock().unwrap().push(Seen {
            in_flight: self.pool.in_flight(),
            has_permit: request.extensions().get::<RequestPermit>().is_some(),
        });
        self.gate.acquire().await.expect("an open gate").forget();
        Ok(tonic::Response::new(vec![0; self.length]))
    }

    fn routes(&self) -> Routes {
        let method = self.clone();
        let call = async move |request: axum::extract::Request| {
            let respond = service_fn(|request| method.clone().respond(request));
            let server = server::Grpc::new(ProstCodec::<Vec<u8>, ()>::default());
            let mut server = server.max_encoding_message_size(MAX_MESSAGE);
            server.unary(respond, request).await
        };
        Router::new().route(PATH, post(call)).into()
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// Where the interceptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interceptor {
    Inside,
    Outside,
    BetweenTwoLayers,
}

impl Interceptor {
    const ALL: [Self; 3] = [Self::Inside, Self::Outside, Self::BetweenTwoLayers];
}

type Stack = BoxCloneSyncService<http::Request<Body>, Response<Body>, Infallible>;

fn boxed<S, B>(service: S) -> Stack
where
    S: Service<http::Request<Body>, Response = Response<B>, Error = Infallible, Future: Send>,
    S: Clone + Send + Sync + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    BoxCloneSyncService::new(service.map_response(|response| response.map(Body::new)))
}

/// Denies calls with the metadata `deny`.
fn intercept(request: Request<()>) -> Result<Request<()>, Status> {
    match request.metadata().contains_key("deny") {
        true => Err(Status::permission_denied("denied")),
        false => Ok(request),
    }
}

/// Starts a server with the layer and an interceptor.
async fn start(method: &Method, order: Interceptor, shares_permits: bool) -> Caller {
    let pool = method.pool.clone();
    let shed = move |inner| {
        let shed = LoadShed::ratio(1.0).budget(&pool);
        let shed = match shares_permits {
            true => shed.share_permit(),
            false => shed,
        };
        boxed(shed.layer(inner))
    };
    let intercepted = |inner| boxed(InterceptorLayer::new(intercept).layer(inner));
    let stack = layer_fn(move |routes: Routes| {
        let routes = boxed(routes);
        match order {
            Interceptor::Inside => shed(intercepted(routes)),
            Interceptor::Outside => intercepted(shed(routes)),
            Interceptor::BetweenTwoLayers => shed(intercepted(shed(routes))),
        }
    });
    let (listener, address) = bind().await;
    let server = Server::builder().layer(stack).add_routes(method.routes());
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let client = Grpc::new(soon(endpoint.connect()).await.unwrap());
    Caller(client.max_decoding_message_size(MAX_MESSAGE))
}

#[derive(Clone)]
struct Caller(Grpc<Channel>);

impl Caller {
    /// Calls the method, and returns the response once its head has arrived.
    async fn call(mut self, request: Request<()>) -> Result<Streaming<Vec<u8>>, Status> {
        soon(self.0.ready()).await.unwrap();
        let path = PathAndQuery::from_static(PATH);
        let codec = ProstCodec::<(), Vec<u8>>::default();
        let response = soon(self.0.server_streaming(request, path, codec)).await?;
        Ok(response.into_inner())
    }

    /// Calls the method, and returns the length of the message.
    async fn read(self, request: Request<()>) -> Result<usize, Status> {
        let mut messages = self.call(request).await?;
        let message = soon(messages.message()).await?.expect("a message");
        assert!(
            soon(messages.message()).await?.is_none(),
            "a second message"
        );
        Ok(message.len())
    }
}

#[tokio::test]
async fn p04_unread_messages_of_tonic_stay_in_flight() {
    for order in Interceptor::ALL {
        let method = Method::new(LENGTH);
        method.gate.add_permits(CALLERS + 1);
        let caller = start(&method, order, false).await;
        let mut unread = Vec::new();
        for _ in 0..CALLERS {
            unread.push(caller.clone().call(Request::new(())).await.unwrap());
        }
        // Long enough for all that the server and the kernel buffer.
        sleep(Duration::from_millis(500)).await;
        assert_eq!(method.pool.in_flight(), CALLERS, "{order:?}");
        drop(unread);
        until(|| method.pool.in_flight() == 0).await;

        let length = caller.read(Request::new(())).await.unwrap();
        assert_eq!(length, LENGTH, "{order:?}");
        until(|| method.pool.in_flight() == 0).await;
    }
}

#[tokio::test]
async fn p07_with_an_interceptor_of_tonic_a_call_holds_one_permit_and_a_denied_call_none() {
    let settings = Interceptor::ALL.into_iter();
    for (order, shares_permits) in settings.flat_map(|order| [(order, false), (order, true)]) {
        let name = format!("{order:?}, share_permit: {shares_permits}");
        let method = Method::new(100);
        let caller = start(&method, order, shares_permits).await;
        let mut calls = Vec::new();
        for nth in 1..=2 {
            calls.push(tokio::spawn(caller.clone().read(Request::new(()))));
            until(|| method.seen().len() == nth).await;
        }
        let expected = [1, 2].map(|in_flight| Seen {
            in_flight,
            has_permit: shares_permits,
        });
        assert_eq!(method.seen(), expected, "{name}");
        method.gate.add_permits(2);
        for call in calls {
            assert_eq!(soon(call).await.unwrap().unwrap(), 100, "{name}");
        }
        until(|| method.pool.in_flight() == 0).await;

        let mut denied = Request::new(());
        denied.metadata_mut().insert("deny", "1".parse().unwrap());
        let status = caller.read(denied).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{name}");
        until(|| method.pool.in_flight() == 0).await;
        let figures = method.pool.snapshot();
        let reached = 2 + usize::from(order != Interceptor::Outside);
        let counted = (figures.admitted, figures.peak_in_flight);
        assert_eq!(counted, (reached, 2), "{name}");
    }
}
