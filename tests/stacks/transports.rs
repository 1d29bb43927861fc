//! axum's server over plain sockets and TLS, and clients that need not read.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{Router, serve::Listener};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        pki_types::{PrivateKeyDer, ServerName},
    },
};

use crate::support::sockets::{bind, soon};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Plain,
    Rustls,
    /// rustls behind an IO without vectored writes, as native-tls is: hyper copies what it writes into one buffer.
    RustlsCopied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    pub(crate) const ALL: [Self; 2] = [Self::Http1, Self::Http2];

    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

type BoxIo = Box<dyn Io>;

enum Acceptor {
    Plain,
    Rustls(TlsAcceptor),
    RustlsCopied(TlsAcceptor),
}

impl Acceptor {
    async fn accept(&self, socket: TcpStream) -> BoxIo {
        let io: BoxIo = match self {
            Self::Plain => Box::new(socket),
            Self::Rustls(tls) => Box::new(tls.accept(socket).await.expect("a handshake")),
            Self::RustlsCopied(tls) => {
                Box::new(NotVectored(tls.accept(socket).await.expect("a handshake")))
            }
        };
        let is_copied = matches!(self, Self::RustlsCopied(_));
        assert_eq!(io.is_write_vectored(), !is_copied, "vectored writes");
        io
    }
}

/// A stream that takes one buffer at a time.
struct NotVectored<T>(T);

impl<T: AsyncRead + Unpin> AsyncRead for NotVectored<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for NotVectored<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

struct Accepting {
    listener: TcpListener,
    acceptor: Acceptor,
}

impl Listener for Accepting {
    type Io = BoxIo;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoxIo, SocketAddr) {
        let (socket, address) = self.listener.accept().await.expect("a connection");
        (self.acceptor.accept(socket).await, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

pub(crate) struct Server {
    address: SocketAddr,
    /// The certificates that clients trust. Without TLS, there are none.
    roots: Option<Arc<RootCertStore>>,
}

impl Server {
    pub(crate) async fn start(transport: Transport, app: Router) -> Self {
        let (listener, address) = bind().await;
        let (acceptor, roots) = acceptor(transport);
        let accepting = Accepting { listener, acceptor };
        tokio::spawn(async { axum::serve(accepting, app).await });
        Self { address, roots }
    }

    async fn connect(&self, protocol: Protocol) -> BoxIo {
        let socket = soon(TcpStream::connect(self.address)).await.unwrap();
        let Some(roots) = &self.roots else {
            return Box::new(socket);
        };
        let config = ClientConfig::builder().with_root_certificates(Arc::clone(roots));
        let mut config = config.with_no_client_auth();
        config.alpn_protocols = vec![protocol.alpn().to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        let tls = TlsConnector::from(Arc::new(config)).connect(name, socket);
        let stream = soon(tls).await.expect("a handshake");
        let selected = stream.get_ref().1.alpn_protocol();
        assert_eq!(selected, Some(protocol.alpn()));
        Box::new(stream)
    }

    pub(crate) async fn client(&self, protocol: Protocol) -> Client<'_> {
        let http2 = match protocol {
            Protocol::Http1 => None,
            Protocol::Http2 => {
                let io = TokioIo::new(self.connect(protocol).await);
                let handshake = http2::handshake(TokioExecutor::new(), io);
                let (client, connection) = soon(handshake).await.unwrap();
                tokio::spawn(connection);
                Some(client)
            }
        };
        let server = self;
        Client { server, http2 }
    }
}

/// A client with one connection for all requests over HTTP/2, and one for each request over HTTP/1.
pub(crate) struct Client<'a> {
    server: &'a Server,
    http2: Option<http2::SendRequest<Empty<Bytes>>>,
}

impl Client<'_> {
    /// Returns a response of which the head is read.
    pub(crate) async fn get(&mut self) -> Response<Incoming> {
        let request = Request::get("https://localhost/").header("host", "localhost");
        let request = request.body(Empty::new()).unwrap();
        if let Some(client) = &mut self.http2 {
            return soon(client.send_request(request)).await.unwrap();
        }
        let io = TokioIo::new(self.server.connect(Protocol::Http1).await);
        let (mut client, connection) = soon(http1::handshake(io)).await.unwrap();
        tokio::spawn(connection);
        soon(client.send_request(request)).await.unwrap()
    }
}

/// Returns the server's side of a transport, and the certificates that its clients trust.
fn acceptor(transport: Transport) -> (Acceptor, Option<Arc<RootCertStore>>) {
    if transport == Transport::Plain {
        return (Acceptor::Plain, None);
    }
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (own.cert, own.signing_key);
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let chain = vec![certificate.der().clone()];
    let config = ServerConfig::builder().with_no_client_auth();
    let mut config = config.with_single_cert(chain, key).unwrap();
    let protocols = Protocol::ALL.map(|protocol| protocol.alpn().to_vec());
    config.alpn_protocols = protocols.to_vec();
    let tls = Arc::new(config).into();
    let acceptor = match transport {
        Transport::RustlsCopied => Acceptor::RustlsCopied(tls),
        _ => Acceptor::Rustls(tls),
    };
    (acceptor, Some(Arc::new(roots)))
}
