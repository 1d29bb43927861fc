//! The callers: an open loop, which offers its requests at their times whatever became of those before.
//!
//! A request's latency is taken from the moment at which it was due, so that a generator that falls behind does not
//! hide the wait (coordinated omission). It falls behind visibly: it is one thread, all of whose work is in the path of
//! the next request, and how late each one left is recorded.
//!
//! Callers leave at their deadline. Over HTTP/1 that closes the connection, and a benchmark of 7,000 a second becomes one
//! of connection setup; over HTTP/2 it resets a stream, which is what gRPC clients and proxies do.

use std::{net::SocketAddr, time::Duration};

use axum::http::{Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    random::{Random, ServiceTime},
    server::WORK,
};

/// How long a caller waits.
pub(crate) const DEADLINE: Duration = Duration::from_millis(100);

/// hyper's server takes 200 streams a connection, and more wait at the client: a limit that no variant should get for
/// free. At 7,300 a second and 100 ms each, 46 are open on each of these.
const CONNECTIONS: usize = 16;

/// Any number. It is the same for all variants.
const SEED: u64 = 17;

type Http = SendRequest<Empty<Bytes>>;

/// What is offered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Requests a second.
    pub(crate) rate: f64,
    pub(crate) service_time: ServiceTime,
    pub(crate) lasts: Duration,
}

/// What one caller saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// When the request was due, since the start.
    pub(crate) due: Duration,
    /// How long after that it was sent.
    pub(crate) lateness: Duration,
    /// How long after that it ended.
    pub(crate) latency: Duration,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered before the deadline.
    Good,
    /// The deadline came first.
    Late,
    Refused,
    /// Neither of these: the benchmark is broken.
    Failed,
}

impl Load {
    /// Offers it, and waits for what became of every request. `start` is called when the first one is due.
    pub(crate) async fn offer(self, server: SocketAddr, start: impl FnOnce(Instant)) -> Vec<Seen> {
        let connections = connect(server).await;
        let began = Instant::now();
        start(began);
        let mut random = Random::new(SEED);
        let mut callers = JoinSet::new();
        let mut due = Duration::ZERO;
        for http in connections.iter().cycle() {
            due += random.exponential(Duration::from_secs(1).div_f64(self.rate));
            if due >= self.lasts {
                break;
            }
            let work = self.service_time.draw(&mut random);
            sleep_until(began + due).await;
            callers.spawn(call(http.clone(), began, due, work));
        }
        callers.join_all().await
    }
}

async fn connect(server: SocketAddr) -> Vec<Http> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let socket = TcpStream::connect(server).await.expect("a connection");
        socket.set_nodelay(true).expect("TCP_NODELAY");
        let (http, connection) = Builder::new(TokioExecutor::new())
            // An answer may cross the reset that a deadline sends. h2 remembers ten reset streams, and takes what comes
            // for an older one for an error of the server, of which it bears 1,024.
            .max_concurrent_reset_streams(1 << 16)
            .max_local_error_reset_streams(None)
            .handshake(TokioIo::new(socket))
            .await
            .expect("HTTP/2");
        tokio::spawn(connection);
        connections.push(http);
    }
    connections
}

async fn call(http: Http, began: Instant, due: Duration, work: Duration) -> Seen {
    let at = began + due;
    let lateness = at.elapsed();
    let answer = timeout_at(at + DEADLINE, answer(http, work)).await;
    let latency = at.elapsed();
    let outcome = match answer {
        // The timer goes by milliseconds, and may have let a late one through.
        Ok(Ok(StatusCode::OK)) if latency <= DEADLINE => Outcome::Good,
        Err(_) | Ok(Ok(StatusCode::OK)) => Outcome::Late,
        Ok(Ok(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)) => Outcome::Refused,
        Ok(_) => Outcome::Failed,
    };
    Seen {
        due,
        lateness,
        latency,
        outcome,
    }
}

/// The status of an answer that came whole.
async fn answer(mut http: Http, work: Duration) -> hyper::Result<StatusCode> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = Uri::from_static("http://pool/");
    let micros = work.as_micros() as u64;
    request.headers_mut().insert(WORK, micros.into());
    let response = http.send_request(request).await?;
    let status = response.status();
    response.into_body().collect().await?;
    Ok(status)
}
