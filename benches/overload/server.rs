//! The overloaded server: a service behind axum, on a real socket.

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

use crate::{
    processor::{SERVER, burn},
    random::{Random, Work},
};

const WORKERS: usize = 8;

/// The header with the service time of a request, in microseconds. It is drawn with the arrival, so that all variants are
/// offered the same work, independent of what they refuse.
pub(crate) const WORK: &str = "work-micros";

/// Workers behind an unbounded first-in, first-out queue.
#[derive(Clone, Debug)]
struct Pool {
    workers: Arc<Semaphore>,
    slowness: Slowness,
}

impl Pool {
    fn new(slowness: Slowness) -> Self {
        Self {
            workers: Arc::new(Semaphore::new(WORKERS)),
            slowness,
        }
    }

    async fn work(self, time: Duration) {
        let _worker = self.workers.acquire().await;
        sleep(self.slowness.of(time)).await;
    }
}

/// Factor of the service times. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Slowness(Arc<AtomicU32>);

impl Slowness {
    fn none() -> Self {
        Self(Arc::new(AtomicU32::new(1)))
    }

    /// Sets the factor for work that begins from now on.
    pub(crate) fn set(&self, times: u32) {
        // Relaxed, as the read: the factor orders no other memory.
        self.0.store(times, Ordering::Relaxed);
    }

    fn of(&self, time: Duration) -> Duration {
        time * self.0.load(Ordering::Relaxed)
    }
}

/// The resource that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// One of eight workers, which goes on after the deadline, as a database goes on with a query.
    WorkGoesOn,
    /// One of eight workers, which stops at the deadline. A queued request leaves the queue.
    WorkStops,
    /// The only processor of the server.
    Processor,
}

/// The handler: the service inside of every limiter.
#[derive(Clone, Debug)]
pub(crate) struct Handler {
    service: Service,
    pool: Pool,
    slowness: Slowness,
}

impl tower::Service<Request> for Handler {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (service, pool) = (self.service, self.pool.clone());
        let slowness = self.slowness.clone();
        Box::pin(async move {
            let Some(time) = work(&request) else {
                return Ok(StatusCode::BAD_REQUEST.into_response());
            };
            match service {
                Service::WorkGoesOn => {
                    if tokio::spawn(pool.work(time)).await.is_err() {
                        return Ok(StatusCode::INTERNAL_SERVER_ERROR.into_response());
                    }
                }
                Service::WorkStops => pool.work(time).await,
                Service::Processor => burn(slowness.of(time)).await,
            }
            Ok(Response::new(Body::empty()))
        })
    }
}

fn work(request: &Request) -> Option<Duration> {
    let micros = request.headers().get(WORK)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_micros(micros))
}

/// A fresh server, without the queue and the learned limit of the one before.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) slowness: Slowness,
    runtime: Runtime,
}

impl Server {
    pub(crate) fn start(service: Service, app: fn(Handler) -> Router) -> Self {
        // Where the processor is the bottleneck, the callers have the other processor for themselves.
        let threads = (service == Service::Processor).then_some(1);
        let runtime = runtime(threads);
        let slowness = Slowness::none();
        let handler = Handler {
            service,
            pool: Pool::new(slowness.clone()),
            slowness: slowness.clone(),
        };
        let app = app(handler);
        let listen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = runtime.block_on(listen).expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        // Without it, small responses wait for the acknowledgement of earlier ones (Nagle's algorithm).
        let listener = listener.tap_io(|socket| {
            let _ = socket.set_nodelay(true);
        });
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self {
            address,
            slowness,
            runtime,
        }
    }

    /// Waits until the threads have ended; otherwise, they would slow the next server.
    pub(crate) fn stop(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

/// Measures the capacity of the pool, in requests a second, with a queue that is never empty.
pub(crate) fn capacity(work: Work, span: Duration) -> f64 {
    let pool = Pool::new(Slowness::none());
    let done = Arc::new(AtomicUsize::new(0));
    let runtime = runtime(None);
    for seed in 0..4 * WORKERS as u64 {
        let (pool, done) = (pool.clone(), Arc::clone(&done));
        runtime.spawn(async move {
            let mut random = Random::new(seed);
            loop {
                pool.clone().work(work.draw(&mut random)).await;
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let _ = runtime.block_on(async { timeout(span, pending::<()>()).await });
    done.load(Ordering::Relaxed) as f64 / span.as_secs_f64()
}

fn runtime(threads: Option<usize>) -> Runtime {
    let mut runtime = Builder::new_multi_thread();
    if let Some(threads) = threads {
        runtime.worker_threads(threads);
    }
    let runtime = runtime.enable_all().thread_name(SERVER).build();
    runtime.expect("the system has threads")
}
