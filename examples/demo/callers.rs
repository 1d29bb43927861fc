//! The callers: an open loop, which sends its requests at their times whatever became of those before.
//!
//! A request's latency is taken from the moment at which it was due, so that a generator that falls behind does not hide
//! the wait (coordinated omission); how late each one left is recorded.
//!
//! Each waits for a second from when it was sent, then leaves. Were it from when it was due, a machine that stalls for a
//! second would have all of them retry, and bring down a server that had done nothing wrong. Who retries does so at once,
//! twice at most; where they were told to come back later, later. These are the same callers for both services.
//!
//! They use HTTP/2, where to leave is to reset a stream, as gRPC clients and proxies do. Over HTTP/1 it closes the
//! connection, and this would be a demo of connection setup.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io, mem,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderMap, Request, StatusCode, header::RETRY_AFTER},
};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    runtime::Builder,
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};

use super::{random::Random, tally::Tally};

/// How long a caller waits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// The first time counts.
pub(crate) const TRIES: u8 = 3;

/// Of so many visits to a shop one pays.
pub(crate) const PAYS: usize = 50;

/// hyper's server takes 200 streams of each, and more would wait at the client: a limit that no service should get for
/// free. 20 × the capacity, each of them three times, is 12,000 at once.
const CONNECTIONS: usize = 80;

/// As fine as the timer is.
const TICK: Duration = Duration::from_millis(1);

/// Any number. It is the same for both services.
const SEED: u64 = 17;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// `Sheddable`.
    Browse,
    /// `Critical`.
    Pay,
}

/// The callers of one service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Callers(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Fresh requests a second.
    rate: f64,
    retry: bool,
    /// Callers of an earlier run do not come back.
    run: usize,
    /// Those who come back later.
    waiting: BinaryHeap<Reverse<Call>>,
    tally: Tally,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    due: Instant,
    run: usize,
    class: Class,
    nth: u8,
}

type Http = Client<HttpConnector, Body>;

impl Callers {
    /// On a thread of their own: nobody but themselves makes them late.
    pub(crate) fn start(server: SocketAddr) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let callers = Self::default();
        let driven = callers.clone();
        thread::spawn(move || runtime.block_on(driven.drive(server)));
        Ok(callers)
    }

    pub(crate) fn set(&self, rate: f64, retry: bool) {
        let mut state = self.locked();
        state.rate = rate;
        state.retry = retry;
        if !retry {
            state.waiting.clear();
        }
    }

    /// All of them leave for good, and others come.
    pub(crate) fn restart(&self) {
        let mut state = self.locked();
        state.run += 1;
        state.waiting.clear();
    }

    /// What they saw since it was taken last.
    pub(crate) fn take(&self) -> Tally {
        mem::take(&mut self.locked().tally)
    }

    async fn drive(self, server: SocketAddr) {
        let connections: Vec<Http> = (0..CONNECTIONS).map(|_| http()).collect();
        let mut connections = connections.iter().cycle();
        let mut arrivals = Arrivals::new();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            for call in self.due(&mut arrivals) {
                if let Some(http) = connections.next() {
                    tokio::spawn(self.clone().call(http.clone(), server, call));
                }
            }
        }
    }

    fn due(&self, arrivals: &mut Arrivals) -> Vec<Call> {
        let now = Instant::now();
        let mut state = self.locked();
        let mut calls = arrivals.until(now, state.rate, state.run);
        state.tally.fresh += calls.len();
        while let Some(Reverse(call)) = state.waiting.peek().filter(|Reverse(call)| call.due <= now)
        {
            calls.push(*call);
            state.waiting.pop();
        }
        for call in &calls {
            state.tally.class(call.class).sent += 1;
        }
        calls
    }

    async fn call(self, http: Http, server: SocketAddr, call: Call) {
        let sent = Instant::now();
        let answer = timeout_at(sent + PATIENCE, answer(http, server, call.class)).await;
        let latency = call.due.elapsed();

        let mut state = self.locked();
        let tally = &mut state.tally;
        tally.lateness.record(sent - call.due);
        let counts = tally.class(call.class);
        match answer {
            Ok(Answer::Good) => counts.good += 1,
            Ok(Answer::Refused(hint)) => {
                counts.refused += 1;
                tally.hints.record(hint);
                return state.retry(call, hint);
            }
            Ok(Answer::Failed) => {
                counts.failed += 1;
                return state.retry(call, Duration::ZERO);
            }
            Err(_) => {
                counts.late += 1;
                state.retry(call, Duration::ZERO);
            }
        }
        state.tally.latency.record(latency);
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn retry(&mut self, call: Call, after: Duration) {
        if self.retry && call.run == self.run && call.nth < TRIES {
            self.waiting.push(Reverse(Call {
                due: Instant::now() + after,
                nth: call.nth + 1,
                ..call
            }));
        }
    }
}

/// A Poisson process, whose rate may change at any time.
struct Arrivals {
    next: Instant,
    count: usize,
    random: Random,
}

impl Arrivals {
    fn new() -> Self {
        Self {
            next: Instant::now(),
            count: 0,
            random: Random::new(SEED),
        }
    }

    fn until(&mut self, now: Instant, rate: f64, run: usize) -> Vec<Call> {
        let mut calls = Vec::new();
        while self.next <= now {
            self.count += 1;
            let class = match self.count % PAYS {
                0 => Class::Pay,
                _ => Class::Browse,
            };
            calls.push(Call {
                due: self.next,
                run,
                class,
                nth: 1,
            });
            let mean = Duration::from_secs(1).div_f64(rate.max(1.0));
            self.next += self.random.exponential(mean);
        }
        calls
    }
}

enum Answer {
    Good,
    Refused(Duration),
    Failed,
}

fn http() -> Http {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new())
        .http2_only(true)
        // An answer may cross the reset that a deadline sends, and h2 remembers ten reset streams by itself.
        .http2_max_concurrent_reset_streams(1 << 12)
        .build(connector)
}

async fn answer(http: Http, server: SocketAddr, class: Class) -> Answer {
    let path = match class {
        Class::Browse => "/browse",
        Class::Pay => "/pay",
    };
    let request = Request::post(format!("http://{server}{path}")).body(Body::empty());
    let Ok(request) = request else {
        return Answer::Failed;
    };
    let Ok(response) = http.request(request).await else {
        return Answer::Failed;
    };
    let (head, body) = response.into_parts();
    if body.collect().await.is_err() {
        return Answer::Failed;
    }
    match (head.status, hint(&head.headers)) {
        (StatusCode::OK, _) => Answer::Good,
        (StatusCode::TOO_MANY_REQUESTS, Some(hint)) => Answer::Refused(hint),
        _ => Answer::Failed,
    }
}

fn hint(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
