//! For tests over real sockets, and so in real time: the other side has no other.

use std::{future::Future, net::SocketAddr, time::Duration};

use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};

/// Far more than anything here takes: what does not come within it does not come.
const LONG: Duration = Duration::from_secs(20);

pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(LONG, future).await.expect("it takes too long")
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
