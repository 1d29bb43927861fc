//! Work that goes on when its caller has left, within the limit.
//!
//! A handler's future is dropped when its caller leaves, and so is the permit of the request. A job
//! that the handler has spawned goes on. Without a [`RequestPermit`] that goes along, the layer
//! admits the next request, and the jobs at work grow without bound. Here each of four kinds of work takes one along:
//!
//! | route | work | the permit is held until |
//! | --- | --- | --- |
//! | `POST /report` | `spawn_blocking` | the closure ends |
//! | `POST /import` | `tokio::spawn` | the task ends |
//! | `GET /export` | a streamed response, with a producer of its own | the producer ends |
//! | `/ws` | a WebSocket, over HTTP/1 and HTTP/2 | the task of the socket ends |
//!
//! ```text
//! cargo run --features axum --example detached_work
//! ```
//!
//! In another terminal, 40 callers that leave after 50 ms. The limit is 8 and each job takes 2 s, so
//! 8 jobs run and the callers after them get a 429:
//!
//! ```text
//! curl -Z --parallel-immediate --parallel-max 40 --no-progress-meter -o /dev/null --max-time 0.05 \
//!     -w '%{http_code}\n' -X POST 'http://127.0.0.1:3002/report?[1-40]' 2>/dev/null | sort | uniq -c
//! curl http://127.0.0.1:3002/jobs
//! ```
//!
//! A WebSocket, which is in flight for 5 seconds:
//!
//! ```text
//! curl -si --max-time 5 -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
//!     -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' \
//!     --http1.1 http://127.0.0.1:3002/ws
//! ```

use std::{
    convert::Infallible,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::StatusCode,
    response::Response,
    routing::{any, get, post},
};
use futures_util::stream;
use loadshed::{Budget, LoadShed, RequestPermit};
use tokio::{
    net::TcpListener,
    runtime::Handle,
    sync::{mpsc, watch},
    task::{JoinError, spawn_blocking},
    time::{sleep, timeout},
};

const ADDRESS: &str = "127.0.0.1:3002";

/// Jobs that the back end carries at once.
pub(crate) const LIMIT: usize = 8;

/// Time that the back end takes for a job.
const JOB: Duration = Duration::from_secs(2);

/// Items that an export has.
const ITEMS: usize = 3;

/// Idle timeout: a client that disappears without a close would hold its permit for good.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(ADDRESS)
        .await
        .map_err(|error| format!("cannot listen on {ADDRESS}: {error}"))?;
    println!("listening on http://{ADDRESS}");
    let jobs = Budget::fixed(LIMIT).named("jobs");
    let (_, is_paused) = watch::channel(false);
    axum::serve(listener, app(&jobs, BackEnd::new(JOB, is_paused))).await?;
    Ok(())
}

pub(crate) fn app(jobs: &Budget, back_end: BackEnd) -> Router {
    let shed = LoadShed::ratio(1.0)
        .budget(jobs)
        .exempt(["/jobs"])
        // Puts a `RequestPermit` into each request.
        .share_permit();
    Router::new()
        .route("/report", post(report))
        .route("/import", post(import))
        .route("/export", get(export))
        // `any`: the method of a WebSocket is GET over HTTP/1 and CONNECT over HTTP/2.
        .route("/ws", any(open))
        .with_state(back_end.clone())
        .route("/jobs", get(show))
        .with_state((jobs.clone(), back_end))
        .layer(shed)
}

/// A blocking job, which cannot be cancelled once it runs.
async fn report(State(back_end): State<BackEnd>, permit: RequestPermit) -> Done {
    let job = spawn_blocking(move || {
        back_end.work_blocking();
        drop(permit);
    });
    done(job.await)
}

/// A task. To drop its handle does not cancel it.
async fn import(State(back_end): State<BackEnd>, permit: RequestPermit) -> Done {
    let job = tokio::spawn(async move {
        back_end.work().await;
        drop(permit);
    });
    done(job.await)
}

type Done = Result<&'static str, StatusCode>;

fn done(job: Result<(), JoinError>) -> Done {
    match job {
        Ok(()) => Ok("done\n"),
        Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// A stream. The body is dropped when its caller leaves, while the producer still works on an item.
async fn export(State(back_end): State<BackEnd>, permit: RequestPermit) -> Body {
    let (items, mut received) = mpsc::channel(1);
    tokio::spawn(async move {
        for item in 0..ITEMS {
            back_end.work().await;
            // No receiver: the caller has left.
            let item = Ok::<_, Infallible>(format!("item {item}\n"));
            if items.send(item).await.is_err() {
                break;
            }
        }
        drop(permit);
    });
    Body::from_stream(stream::poll_fn(move |cx| received.poll_recv(cx)))
}

/// A WebSocket. The response to the upgrade has an empty body, and ends before the socket is open.
async fn open(
    State(back_end): State<BackEnd>,
    permit: RequestPermit,
    upgrade: WebSocketUpgrade,
) -> Response {
    // If the upgrade fails, the closure is dropped without a call, and its permit with it.
    upgrade.on_upgrade(move |socket| echo(socket, back_end, permit))
}

/// Echoes each message once the back end has worked on it. The permit is released however this future ends.
async fn echo(mut socket: WebSocket, back_end: BackEnd, _permit: RequestPermit) {
    while let Ok(Some(Ok(message))) = timeout(IDLE_TIMEOUT, socket.recv()).await {
        // axum responds to pings and closes.
        if !matches!(message, Message::Text(_) | Message::Binary(_)) {
            continue;
        }
        back_end.work().await;
        if socket.send(message).await.is_err() {
            break;
        }
    }
}

async fn show(State((jobs, back_end)): State<(Budget, BackEnd)>) -> String {
    let (in_flight, at_work, most) = (jobs.in_flight(), back_end.at_work(), back_end.most());
    format!("in flight: {in_flight}\njobs at work: {at_work}, at most {most}\n")
}

/// A back end with a count of its own of the jobs that it works on.
#[derive(Clone, Debug)]
pub(crate) struct BackEnd {
    job: Duration,
    /// No job ends while it is paused.
    is_paused: watch::Receiver<bool>,
    jobs: Arc<JobCount>,
}

#[derive(Debug, Default)]
struct JobCount {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl BackEnd {
    /// Creates a back end that takes `job` for each job, and no job ends while it is paused.
    pub(crate) fn new(job: Duration, is_paused: watch::Receiver<bool>) -> Self {
        let jobs = Arc::default();
        Self {
            job,
            is_paused,
            jobs,
        }
    }

    async fn work(&self) {
        let now = self.jobs.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.jobs.most.fetch_max(now, Ordering::Relaxed);
        sleep(self.job).await;
        // Without a sender it goes on.
        let _ = self
            .is_paused
            .clone()
            .wait_for(|is_paused| !is_paused)
            .await;
        self.jobs.now.fetch_sub(1, Ordering::Relaxed);
    }

    /// Works on a thread that may block.
    fn work_blocking(&self) {
        Handle::current().block_on(self.work());
    }

    pub(crate) fn at_work(&self) -> usize {
        self.jobs.now.load(Ordering::Relaxed)
    }

    /// Returns the most jobs that were at work at once.
    pub(crate) fn most(&self) -> usize {
        self.jobs.most.load(Ordering::Relaxed)
    }
}
