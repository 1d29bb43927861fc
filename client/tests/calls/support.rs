//! What several test files share.

use std::{error::Error, fmt, future::Future, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};

pub(crate) type Req = Request<Empty<Bytes>>;

pub(crate) fn get(path: &str) -> Req {
    Request::get(path).body(Empty::new()).unwrap()
}

/// An error of the inner service, which is not `Clone`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) &'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Broken {}

/// Waits in real time, for tests over sockets: at most 20 seconds, far longer than any of them takes.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    let waited = timeout(Duration::from_secs(20), future).await;
    waited.expect("it takes too long")
}

pub(crate) async fn until(is_so: impl Fn() -> bool) {
    soon(async {
        while !is_so() {
            sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub(crate) async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}
