//! The overloaded service: a shop on its own socket, with a pool of workers behind a queue.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, routing::post, serve::ListenerExt};
use loadshed::{Criticality, Handle, LoadShed};
use tokio::{
    net::TcpListener,
    runtime::Builder,
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until},
};

use super::random::Random;

pub(crate) const WORKERS: usize = 10;

/// Mean service time of a worker.
const WORK: Duration = Duration::from_millis(50);

/// Latency that the slow dependency adds to each request. It holds no worker, so the capacity stays the same.
const SLOW: Duration = Duration::from_millis(150);

/// Lateness of a timer that a worker makes up for, so that the capacity stays.
const LATE: Duration = Duration::from_millis(5);

/// Bound of the queue, in requests: far longer than callers wait, and small enough for the memory of a laptop.
pub(crate) const QUEUE: usize = 25_000;

/// An arbitrary seed, the same for both services.
const SEED: u64 = 7;

/// Returns the capacity of this many workers, in requests a second.
pub(crate) fn capacity(workers: usize) -> f64 {
    workers as f64 / WORK.as_secs_f64()
}

/// One of the two copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Bare,
    Shed,
}

/// One copy of the service. It has its own thread, so that an overload of one copy does not slow the other.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) pool: Arc<Pool>,
    /// The handle of the layer, if the copy has a layer.
    pub(crate) shed: Option<Handle>,
}

impl Service {
    pub(crate) fn start(side: Side) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (pool, jobs) = Pool::new();
        let (app, shed) = app(side, &pool);
        let workers = Arc::clone(&pool);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        thread::spawn(move || {
            runtime.block_on(async {
                for worker in 0..WORKERS {
                    tokio::spawn(Arc::clone(&workers).work(worker, Arc::clone(&jobs)));
                }
                // Without it, small responses wait for the acknowledgement of earlier ones (Nagle's algorithm).
                let listener = TcpListener::from_std(listener)?.tap_io(|socket| {
                    let _ = socket.set_nodelay(true);
                });
                axum::serve(listener, app).await
            })
        });
        Ok(Self {
            address,
            pool,
            shed,
        })
    }
}

fn app(side: Side, pool: &Arc<Pool>) -> (Router, Option<Handle>) {
    let shop = Router::new()
        .route("/browse", post(serve))
        .route("/pay", post(serve))
        .with_state(Arc::clone(pool));
    match side {
        Side::Bare => (shop, None),
        Side::Shed => {
            // The only difference between the two copies.
            let shed = LoadShed::ratio(0.85).classify(|head| match head.uri().path() {
                "/pay" => Criticality::Critical,
                _ => Criticality::Sheddable,
            });
            let handle = shed.handle();
            (shop.layer(shed), Some(handle))
        }
    }
}

async fn serve(State(pool): State<Arc<Pool>>) -> StatusCode {
    let Some(done) = pool.queue() else {
        return StatusCode::SERVICE_UNAVAILABLE;
    };
    if done.await.is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    if pool.slow.load(Ordering::Relaxed) {
        sleep(SLOW).await;
    }
    StatusCode::OK
}

/// Workers behind a first-in, first-out queue. A queued request is served even if its caller has timed out, as a database
/// goes on with a query and a thread pool with a task.
#[derive(Debug)]
pub(crate) struct Pool {
    jobs: mpsc::Sender<Job>,
    /// Workers that run at present.
    workers: watch::Sender<usize>,
    slow: AtomicBool,
    /// Requests that are queued or being served.
    in_flight: AtomicUsize,
    /// Requests that were queued in an earlier run are dropped.
    run: AtomicUsize,
    random: Mutex<Random>,
}

#[derive(Debug)]
struct Job {
    run: usize,
    queued: Instant,
    service_time: Duration,
    done: oneshot::Sender<()>,
}

type Jobs = Arc<tokio::sync::Mutex<mpsc::Receiver<Job>>>;

impl Pool {
    fn new() -> (Arc<Self>, Jobs) {
        let (sender, jobs) = mpsc::channel(QUEUE);
        let pool = Self {
            jobs: sender,
            workers: watch::Sender::new(WORKERS),
            slow: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            run: AtomicUsize::new(0),
            random: Mutex::new(Random::new(SEED)),
        };
        (Arc::new(pool), Arc::new(tokio::sync::Mutex::new(jobs)))
    }

    /// Switches the slow dependency, for requests that reach it from now on.
    pub(crate) fn set_slow(&self, slow: bool) {
        // Relaxed, like all atomics here: none orders other memory.
        self.slow.store(slow, Ordering::Relaxed);
    }

    pub(crate) fn set_workers(&self, workers: usize) {
        self.workers.send_replace(workers);
    }

    pub(crate) fn capacity(&self) -> f64 {
        capacity(*self.workers.borrow())
    }

    /// Drops all queued requests, as a restart of the process would.
    pub(crate) fn restart(&self) {
        self.run.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that are queued or being served.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Queues a request; returns `None` if the queue is full.
    fn queue(&self) -> Option<oneshot::Receiver<()>> {
        let (done, is_done) = oneshot::channel();
        let job = Job {
            run: self.run.load(Ordering::Relaxed),
            queued: Instant::now(),
            service_time: self.draw(),
            done,
        };
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        if self.jobs.try_send(job).is_err() {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(is_done)
    }

    /// Draws a service time: half of the mean is constant, the other half is exponential.
    fn draw(&self) -> Duration {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        WORK / 2 + random.exponential(WORK / 2)
    }

    async fn work(self: Arc<Self>, worker: usize, jobs: Jobs) {
        let mut workers = self.workers.subscribe();
        let mut free = Instant::now();
        while workers.wait_for(|workers| worker < *workers).await.is_ok() {
            let Some(job) = jobs.lock().await.recv().await else {
                break;
            };
            if job.run != self.run.load(Ordering::Relaxed) {
                self.in_flight.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            // Counted from when the work before should have ended; otherwise the lateness of timers would add up.
            free = free.max(job.queued).max(Instant::now() - LATE) + job.service_time;
            sleep_until(free).await;
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            // The caller may have timed out.
            let _ = job.done.send(());
        }
    }
}
