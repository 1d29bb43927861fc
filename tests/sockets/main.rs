//! Promises 3, 4, 6, 17, 18 and 26 over real sockets: what clients receive, and what happens when they disconnect.

mod disconnects;
mod refused_clients;
mod shutdown;
#[path = "../support/mod.rs"]
mod support;
mod unread_responses;
mod upload_connections;

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::{self, SendRequest},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use loadshed::{Budget, LoadShed, Permit, RefusedUpload};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower::{Layer, Service, service_fn};

use support::{
    all,
    sockets::{bind, soon},
};

type Body = BoxBody<Bytes, Infallible>;

/// `/endless` sends a body without an end, `/never` does not respond, `/read` sends the request body back once it is whole.
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
    let (listener, address) = bind().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let connection = auto::Builder::new(TokioExecutor::new());
                // A client that disconnects is an error here; some of the tests do that.
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
    /// Starts a server with a budget of one permit.
    async fn start() -> Self {
        Self::start_with(RefusedUpload::default()).await
    }

    async fn start_with(bounds: RefusedUpload) -> Self {
        let budget = Budget::fixed(1);
        let shed = LoadShed::ratio(1.0).budget(&budget).refused_upload(bounds);
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
