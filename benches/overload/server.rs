//! What is overloaded: a service behind axum, on a real socket.

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

/// The header that tells how long a request's work takes, in microseconds. It is drawn with the arrival, so that all
/// variants are offered the same work, whatever they refuse.
pub(crate) const WORK: &str = "work-micros";

/// Workers with a queue before them: first come, first served, and no bound.
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

/// How many times longer work takes than it should. Its clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Slowness(Arc<AtomicU32>);

impl Slowness {
    fn none() -> Self {
        Self(Arc::new(AtomicU32::new(1)))
    }

    /// For the work that is begun from now on.
    pub(crate) fn set(&self, times: u32) {
        // Relaxed, as where it is read: it stands for itself.
        self.0.store(times, Ordering::Relaxed);
    }

    fn of(&self, time: Duration) -> Duration {
        time * self.0.load(Ordering::Relaxed)
    }
}

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// One of eight workers, also for a caller who has left: a query that was sent to a database goes on there.
    WorkGoesOn,
    /// One of eight workers, who stops, or is no longer waited for, when the caller leaves.
    WorkStops,
    /// The one processor that the server has.
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

/// A server of its own, with nothing left of the one before: no queue, no learned limit.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) slowness: Slowness,
    runtime: Runtime,
}

impl Server {
    pub(crate) fn start(service: Service, app: fn(Handler) -> Router) -> Self {
        // Where the processor is short, the callers keep the other one for themselves.
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
        // Without it, small answers wait for the acknowledgement of those before.
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

    /// Waits until its threads are gone, or they would slow the next one.
    pub(crate) fn stop(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

/// How much work the pool does in a second, of a queue that is never empty.
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
