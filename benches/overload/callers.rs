//! The client side of the sockets.
//!
//! A request is cancelled at its deadline. Over HTTP/2 that resets the stream, as gRPC clients and proxies do. Over HTTP/1
//! it closes the connection, and the next request opens another: a server whose responses are all late has to accept a
//! connection for each request.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::{Request, StatusCode, Uri, header::HOST};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, sync::Mutex as AsyncMutex, task::AbortHandle};
use tower::BoxError;

use crate::server::WORK;

/// hyper's server accepts 200 streams per connection, and more would wait at the client, which would limit the load. At
/// 14,600 requests a second of 100 ms each, each of these connections has 91 open streams.
const CONNECTIONS: usize = 16;

type Body = Empty<Bytes>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    H1,
    H2,
}

/// The connections to a server.
#[derive(Debug)]
pub(crate) enum Connections {
    H1(Arc<Idle>),
    H2(Vec<Arc<Shared>>),
}

/// The connection for one request.
#[derive(Debug)]
pub(crate) enum Channel {
    H1(Arc<Idle>),
    H2(Arc<Shared>),
}

impl Connections {
    pub(crate) async fn to(server: SocketAddr, protocol: Protocol) -> Self {
        if protocol == Protocol::H1 {
            let connections = Mutex::default();
            return Self::H1(Arc::new(Idle {
                server,
                connections,
            }));
        }
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            let http = open_h2(server).await.expect("HTTP/2");
            let http = AsyncMutex::new(http);
            connections.push(Arc::new(Shared { server, http }));
        }
        Self::H2(connections)
    }

    pub(crate) fn channel(&self, nth: usize) -> Channel {
        match self {
            Self::H1(idle) => Channel::H1(Arc::clone(idle)),
            Self::H2(connections) => Channel::H2(Arc::clone(&connections[nth % connections.len()])),
        }
    }
}

impl Channel {
    /// Sends a request; returns the status once the whole response has arrived.
    pub(crate) async fn send(self, work: Duration) -> Result<StatusCode, BoxError> {
        let mut request = Request::new(Empty::new());
        let micros = work.as_micros() as u64;
        request.headers_mut().insert(WORK, micros.into());
        match self {
            Self::H1(idle) => {
                request.headers_mut().insert(HOST, "pool".parse()?);
                let mut connection = idle.connection().await?;
                let response = connection.http.send_request(request).await?;
                let status = response.status();
                response.into_body().collect().await?;
                idle.give_back(connection);
                Ok(status)
            }
            Self::H2(shared) => {
                let mut http = shared.connection().await?;
                *request.uri_mut() = Uri::from_static("http://pool/");
                let response = http.send_request(request).await?;
                let status = response.status();
                response.into_body().collect().await?;
                Ok(status)
            }
        }
    }
}

async fn open_h2(server: SocketAddr) -> Result<http2::SendRequest<Body>, BoxError> {
    let socket = TcpStream::connect(server).await?;
    socket.set_nodelay(true)?;
    let (http, connection) = http2::Builder::new(TokioExecutor::new())
        // A response can cross the reset that a deadline sends. h2 remembers ten reset streams by default, treats a
        // response for an older one as an error of the server, and tolerates 1,024 of these.
        .max_concurrent_reset_streams(1 << 16)
        .max_local_error_reset_streams(None)
        .handshake(TokioIo::new(socket))
        .await?;
    tokio::spawn(connection);
    Ok(http)
}

/// A connection for many concurrent requests, replaced when it is lost. If a server is too busy to see the streams of
/// cancelled requests before their resets, h2 closes the connection after twenty of them (protection from CVE-2023-44487).
#[derive(Debug)]
pub(crate) struct Shared {
    server: SocketAddr,
    http: AsyncMutex<http2::SendRequest<Body>>,
}

impl Shared {
    async fn connection(&self) -> Result<http2::SendRequest<Body>, BoxError> {
        let mut http = self.http.lock().await;
        if http.is_closed() {
            *http = open_h2(self.server).await?;
        }
        Ok(http.clone())
    }
}

/// Idle connections.
#[derive(Debug)]
pub(crate) struct Idle {
    server: SocketAddr,
    connections: Mutex<Vec<Connection>>,
}

/// A connection that is closed on drop.
#[derive(Debug)]
struct Connection {
    http: http1::SendRequest<Body>,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Idle {
    async fn connection(&self) -> Result<Connection, BoxError> {
        while let Some(mut connection) = self.take() {
            if connection.http.ready().await.is_ok() {
                return Ok(connection);
            }
        }
        let socket = TcpStream::connect(self.server).await?;
        socket.set_nodelay(true)?;
        // Thousands of connections are closed a second, and each would keep its port for a minute.
        socket.set_zero_linger()?;
        let (http, connection) = http1::handshake(TokioIo::new(socket)).await?;
        let task = tokio::spawn(connection).abort_handle();
        Ok(Connection { http, task })
    }

    fn take(&self) -> Option<Connection> {
        let connections = self.connections.lock();
        connections.unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give_back(&self, connection: Connection) {
        let connections = self.connections.lock();
        let mut connections = connections.unwrap_or_else(PoisonError::into_inner);
        connections.push(connection);
    }
}
