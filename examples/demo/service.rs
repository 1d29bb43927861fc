//! What is overloaded: a shop on a socket of its own, with a pool of workers and a queue before it.

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

/// How long a worker takes for a request, on average.
const WORK: Duration = Duration::from_millis(50);

/// What the slow dependency adds to each request. No worker is held meanwhile, so as many are served as before.
const SLOW: Duration = Duration::from_millis(150);

/// How late a timer may wake a worker without a loss of capacity.
const LATE: Duration = Duration::from_millis(5);

/// How many wait for a worker before the queue is full: more than anybody wants to wait for, and no more memory than a
/// laptop has.
pub(crate) const QUEUE: usize = 25_000;

/// Any number. It is the same for both services.
const SEED: u64 = 7;

/// Requests a second that so many workers carry.
pub(crate) fn capacity(workers: usize) -> f64 {
    workers as f64 / WORK.as_secs_f64()
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Bare,
    Shed,
}

/// One copy of the service. It has a thread of its own, so that the other one's trouble stays the other one's.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) pool: Arc<Pool>,
    /// Of the layer, where there is one.
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
                // Without it, small answers wait for the acknowledgement of those before.
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
            // All that the two differ in.
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

/// Workers with a queue before them: first come, first served. What is queued is worked off, also where the caller has left
/// meanwhile, as a database goes on with a query and a thread pool with a task.
#[derive(Debug)]
pub(crate) struct Pool {
    jobs: mpsc::Sender<Job>,
    /// How many of the workers there are now.
    workers: watch::Sender<usize>,
    slow: AtomicBool,
    /// Who waits for a worker or has one.
    inside: AtomicUsize,
    /// What was queued in an earlier run is not worked off.
    run: AtomicUsize,
    random: Mutex<Random>,
}

#[derive(Debug)]
struct Job {
    run: usize,
    queued: Instant,
    takes: Duration,
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
            inside: AtomicUsize::new(0),
            run: AtomicUsize::new(0),
            random: Mutex::new(Random::new(SEED)),
        };
        (Arc::new(pool), Arc::new(tokio::sync::Mutex::new(jobs)))
    }

    /// The slow dependency, for the requests that get to it from now on.
    pub(crate) fn set_slow(&self, slow: bool) {
        // Relaxed, as all here: each stands for itself.
        self.slow.store(slow, Ordering::Relaxed);
    }

    pub(crate) fn set_workers(&self, workers: usize) {
        self.workers.send_replace(workers);
    }

    pub(crate) fn capacity(&self) -> f64 {
        capacity(*self.workers.borrow())
    }

    /// Empties the queue, as switching it off and on would.
    pub(crate) fn restart(&self) {
        self.run.fetch_add(1, Ordering::Relaxed);
    }

    /// Who waits for a worker or has one.
    pub(crate) fn inside(&self) -> usize {
        self.inside.load(Ordering::Relaxed)
    }

    /// `None` if the queue is full.
    fn queue(&self) -> Option<oneshot::Receiver<()>> {
        let (done, is_done) = oneshot::channel();
        let job = Job {
            run: self.run.load(Ordering::Relaxed),
            queued: Instant::now(),
            takes: self.draw(),
            done,
        };
        self.inside.fetch_add(1, Ordering::Relaxed);
        if self.jobs.try_send(job).is_err() {
            self.inside.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(is_done)
    }

    /// Half of it is the same for all, half is left to chance.
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
                self.inside.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            // Counted from when the work before should have ended, or its lateness would add up.
            free = free.max(job.queued).max(Instant::now() - LATE) + job.takes;
            sleep_until(free).await;
            self.inside.fetch_sub(1, Ordering::Relaxed);
            // The caller may have left.
            let _ = job.done.send(());
        }
    }
}
