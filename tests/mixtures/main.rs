//! Promises 11, 12 and 14 for a learned limit over several kinds of work: what is slow by design, what waits for its client and what
//! fails at once takes nothing from the others. In virtual time, with the real layer in the path.

mod cases;
mod overloads;

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{Empty, Full};
use loadshed::LoadShed;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tower::{Layer, Service, service_fn};

/// What a request does.
#[derive(Clone, Copy)]
enum Work {
    /// Takes a worker of the pool for so long.
    Pool(Duration),
    /// Takes so long, and no worker.
    Slow(Duration),
    /// Never ends.
    Silent,
    /// Responds with this status at once.
    Fails(StatusCode),
    /// Takes a worker for so long; its caller cancels it after 5 ms.
    Left(Duration),
}

/// One kind of requests.
#[derive(Clone, Copy)]
struct Kind {
    path: &'static str,
    work: Work,
    arrivals: Arrivals,
}

#[derive(Clone, Copy)]
enum Arrivals {
    /// So many a second, from the first to the second moment, in seconds.
    Rate(f64, f64, f64),
    /// So many at this moment, in seconds.
    Together(usize, f64),
}

impl Kind {
    const fn rate(path: &'static str, work: Work, rate: f64, from: f64, until: f64) -> Self {
        let arrivals = Arrivals::Rate(rate, from, until);
        Self {
            path,
            work,
            arrivals,
        }
    }

    const fn together(path: &'static str, work: Work, count: usize, at: f64) -> Self {
        let arrivals = Arrivals::Together(count, at);
        Self {
            path,
            work,
            arrivals,
        }
    }

    /// When its requests arrive. The gaps are exponential.
    fn arrivals(&self, random: &mut fastrand::Rng) -> Vec<f64> {
        match self.arrivals {
            Arrivals::Together(count, at) => vec![at; count],
            Arrivals::Rate(rate, from, until) => {
                let mut at = from;
                let mut arrivals = Vec::new();
                loop {
                    at -= (1.0 - random.f64()).ln() / rate;
                    if at >= until {
                        return arrivals;
                    }
                    arrivals.push(at);
                }
            }
        }
    }
}

/// The requests of one path from a moment on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Figures {
    sent: usize,
    refused: usize,
    /// Served within the callers' timeout.
    served: usize,
}

/// What came of the requests: the path, when they arrived, and the result.
struct Results(Vec<(&'static str, f64, Came)>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Came {
    Served,
    Refused,
    /// Neither within the callers' timeout.
    Late,
}

impl Results {
    /// The figures of a path, of the requests that arrived from `from` on and before `until`, in seconds.
    fn of(&self, path: &str, from: f64, until: f64) -> Figures {
        let mut figures = Figures::default();
        for &(of, at, came) in &self.0 {
            if of == path && (from..until).contains(&at) {
                figures.sent += 1;
                figures.refused += usize::from(came == Came::Refused);
                figures.served += usize::from(came == Came::Served);
            }
        }
        figures
    }
}

/// How long callers wait.
const TIMEOUT: Duration = Duration::from_secs(2);

async fn respond(work: Work, pool: Arc<Semaphore>) -> StatusCode {
    match work {
        Work::Pool(time) | Work::Left(time) => {
            // Goes on without its caller.
            let job = tokio::spawn(async move {
                let _worker = pool.acquire_owned().await;
                sleep(time).await;
            });
            job.await.unwrap();
        }
        Work::Slow(time) => {
            sleep(time).await;
            return StatusCode::ACCEPTED;
        }
        Work::Silent => pending().await,
        Work::Fails(status) => return status,
    }
    StatusCode::OK
}

/// Sends the requests of all kinds through the layer to a server with a pool of `workers`, and returns what came of them after
/// `seconds`. Requests that are slow by design have no timeout.
async fn run(shed: LoadShed, workers: usize, kinds: &[Kind], seconds: f64) -> Results {
    let pool = Arc::new(Semaphore::new(workers));
    let mut random = fastrand::Rng::with_seed(7);
    let mut arrivals = Vec::new();
    for kind in kinds {
        for at in kind.arrivals(&mut random) {
            arrivals.push((at, *kind));
        }
    }
    arrivals.sort_by(|a, b| a.0.total_cmp(&b.0));
    let inner = service_fn(move |request: Request<Empty<Bytes>>| {
        let work = *request.extensions().get::<Work>().unwrap();
        let pool = Arc::clone(&pool);
        async move {
            let status = respond(work, pool).await;
            let mut response = Response::new(Full::<Bytes>::from("x"));
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        }
    });
    let mut service = shed.layer(inner);
    let (start, mut calls) = (Instant::now(), JoinSet::new());
    for (at, kind) in arrivals {
        sleep_until(start + Duration::from_secs_f64(at)).await;
        let mut request = Request::get(kind.path).body(Empty::new()).unwrap();
        request.extensions_mut().insert(kind.work);
        let call = service.call(request);
        calls.spawn(async move {
            let patience = match kind.work {
                Work::Left(_) => Duration::from_millis(5),
                Work::Slow(_) | Work::Silent => Duration::MAX,
                Work::Pool(_) | Work::Fails(_) => TIMEOUT,
            };
            let came = match timeout(patience, call).await {
                Ok(Ok(response)) if response.extensions().get::<loadshed::Shed>().is_some() => {
                    Came::Refused
                }
                Ok(Ok(_)) => Came::Served,
                Err(_) => Came::Late,
            };
            (kind.path, at, came)
        });
    }
    sleep_until(start + Duration::from_secs_f64(seconds)).await;
    let mut results = Vec::new();
    while let Some(came) = calls.try_join_next() {
        results.push(came.unwrap());
    }
    Results(results)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
