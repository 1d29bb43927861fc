//! axum's server over plain sockets and TLS, and clients that need not read.

use std::{io, net::SocketAddr, sync::Arc};

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
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_native_tls::native_tls;
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
    /// hyper copies what it writes into one buffer, as this transport has no vectored writes.
    NativeTls,
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
    NativeTls(tokio_native_tls::TlsAcceptor),
}

impl Acceptor {
    async fn accept(&self, socket: TcpStream) -> BoxIo {
        let io: BoxIo = match self {
            Self::Plain => Box::new(socket),
            Self::Rustls(tls) => Box::new(tls.accept(socket).await.expect("a handshake")),
            Self::NativeTls(tls) => Box::new(tls.accept(socket).await.expect("a handshake")),
        };
        let is_native = matches!(self, Self::NativeTls(_));
        assert_eq!(io.is_write_vectored(), !is_native, "vectored writes");
        io
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
    transport: Transport,
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
        Self {
            transport,
            address,
            roots,
        }
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
        // The server over native-tls selects no protocol: it knows HTTP/2 by its first bytes.
        let expected = (self.transport == Transport::Rustls).then(|| protocol.alpn());
        assert_eq!(stream.get_ref().1.alpn_protocol(), expected);
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
    let acceptor = if transport == Transport::NativeTls {
        let (certificate, key) = (certificate.pem(), key.serialize_pem());
        let identity = native_tls::Identity::from_pkcs8(certificate.as_bytes(), key.as_bytes());
        let tls = native_tls::TlsAcceptor::new(identity.unwrap()).unwrap();
        Acceptor::NativeTls(tls.into())
    } else {
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let chain = vec![certificate.der().clone()];
        let config = ServerConfig::builder().with_no_client_auth();
        let mut config = config.with_single_cert(chain, key).unwrap();
        let protocols = Protocol::ALL.map(|protocol| protocol.alpn().to_vec());
        config.alpn_protocols = protocols.to_vec();
        Acceptor::Rustls(Arc::new(config).into())
    };
    (acceptor, Some(Arc::new(roots)))
}
