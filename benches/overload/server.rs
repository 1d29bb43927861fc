//! What is overloaded: a pool of eight workers behind axum, on a real socket.

use std::{
    convert::Infallible,
    future::pending,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use futures_util::future::BoxFuture;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tower::Service;

use crate::random::{Random, ServiceTime};

const WORKERS: usize = 8;

/// The header that tells how long a request's work takes, in microseconds. It is drawn with the arrival, so that all
/// variants are offered the same work, whatever they refuse.
pub(crate) const WORK: &str = "work-micros";

/// Workers with a queue before them: first come, first served, and no bound.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    workers: Arc<Semaphore>,
    /// How many times longer work takes than it should.
    slowness: Arc<AtomicU32>,
}

impl Pool {
    pub(crate) fn new() -> Self {
        Self {
            workers: Arc::new(Semaphore::new(WORKERS)),
            slowness: Arc::new(AtomicU32::new(1)),
        }
    }

    /// For the work that a worker begins from now on.
    pub(crate) fn slow_down(&self, slowness: u32) {
        // Relaxed: it stands for itself.
        self.slowness.store(slowness, Ordering::Relaxed);
    }

    async fn work(self, time: Duration) {
        let _worker = self.workers.acquire().await;
        sleep(time * self.slowness.load(Ordering::Relaxed)).await;
    }
}

/// The handler: the service inside of every limiter.
#[derive(Clone, Debug)]
pub(crate) struct Handler(Pool);

impl Service<Request> for Handler {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let pool = self.0.clone();
        Box::pin(async move {
            let Some(time) = work(&request) else {
                return Ok(StatusCode::BAD_REQUEST.into_response());
            };
            // Spawned: a query that was sent to a database goes on there after the caller has left.
            let done = tokio::spawn(pool.work(time)).await;
            Ok(done.map_or_else(
                |_| StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                |()| Response::new(Body::empty()),
            ))
        })
    }
}

fn work(request: &Request) -> Option<Duration> {
    let micros = request.headers().get(WORK)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_micros(micros))
}

/// A server of its own, with nothing left of the one before: no queue, no learned limit.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) pool: Pool,
    runtime: Runtime,
}

impl Server {
    pub(crate) fn start(app: fn(Handler) -> Router) -> Self {
        let runtime = runtime();
        let pool = Pool::new();
        let app = app(Handler(pool.clone()));
        let listen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = runtime.block_on(listen).expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        // Without it, small answers wait for the acknowledgement of those before.
        let listener = listener.tap_io(|socket| {
            let _ = socket.set_nodelay(true);
        });
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self {
            address,
            pool,
            runtime,
        }
    }

    /// Waits until its threads are gone, or they would slow the next one.
    pub(crate) fn stop(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

/// How much work the pool does in a second, of a queue that is never empty.
pub(crate) fn capacity(service_time: ServiceTime, span: Duration) -> f64 {
    let (pool, done) = (Pool::new(), Arc::new(AtomicUsize::new(0)));
    let runtime = runtime();
    for seed in 0..4 * WORKERS as u64 {
        let (pool, done) = (pool.clone(), Arc::clone(&done));
        runtime.spawn(async move {
            let mut random = Random::new(seed);
            loop {
                pool.clone().work(service_time.draw(&mut random)).await;
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let _ = runtime.block_on(async { timeout(span, pending::<()>()).await });
    done.load(Ordering::Relaxed) as f64 / span.as_secs_f64()
}

fn runtime() -> Runtime {
    let runtime = Builder::new_multi_thread().enable_all().build();
    runtime.expect("the system has threads")
}
