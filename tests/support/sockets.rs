//! For tests over real sockets, which run in real time: a socket's peer does not follow a paused clock.

use std::{future::Future, net::SocketAddr, time::Duration};

use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};

/// Time after which a test fails: far longer than any step takes.
const LONG: Duration = Duration::from_secs(20);

pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(LONG, future)
        .await
        .expect("the future takes longer than 20 s")
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
