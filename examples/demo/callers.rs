//! The callers: an open loop, which sends each request at its due time, independent of earlier responses.
//!
//! The latency of a request is measured from its due time, so that a generator that falls behind does not hide the wait
//! (coordinated omission). The lateness of each request is recorded.
//!
//! A request times out one second after it was sent. Counted from its due time, a machine that stalls for a second would
//! time out all requests, and their retries would overload a healthy server. A caller retries at most twice: at once after
//! a failure or a timeout, and after the retry hint when refused. Both services have the same callers.
//!
//! They use HTTP/2, where a timeout resets the stream, as gRPC clients and proxies do. Over HTTP/1 it would close the
//! connection, and the demo would measure connection setup.

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

use super::{counters::Counters, random::Random};

/// Timeout of a request.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);

/// Times that a request is sent at most, the first time included.
pub(crate) const TRIES: u8 = 3;

/// One in this many requests is a payment.
pub(crate) const PAYMENT_EVERY: usize = 50;

/// hyper's server accepts 200 streams per connection; more would wait at the client, which would limit the load. 20 × the
/// capacity, each request sent three times within its timeout, is 12,000 requests at once.
const CONNECTIONS: usize = 80;

/// The resolution of tokio's timer.
const TICK: Duration = Duration::from_millis(1);

/// An arbitrary seed, the same for both services.
const SEED: u64 = 17;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Criticality `Sheddable`.
    Browse,
    /// Criticality `Critical`.
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
    /// Callers of an earlier run do not retry.
    run: usize,
    /// Retries that are due later.
    retries: BinaryHeap<Reverse<Call>>,
    counters: Counters,
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
    /// Starts the callers on a thread of their own, so that no other work delays them.
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
            state.retries.clear();
        }
    }

    /// Drops all retries; new callers take over.
    pub(crate) fn restart(&self) {
        let mut state = self.locked();
        state.run += 1;
        state.retries.clear();
    }

    /// Takes the counters since the last call.
    pub(crate) fn take(&self) -> Counters {
        mem::take(&mut self.locked().counters)
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
        state.counters.fresh += calls.len();
        while let Some(Reverse(call)) = state.retries.peek().filter(|Reverse(call)| call.due <= now)
        {
            calls.push(*call);
            state.retries.pop();
        }
        for call in &calls {
            state.counters.class(call.class).sent += 1;
        }
        calls
    }

    async fn call(self, http: Http, server: SocketAddr, call: Call) {
        let sent = Instant::now();
        let result = timeout_at(sent + TIMEOUT, send(http, server, call.class)).await;
        let latency = call.due.elapsed();

        let mut state = self.locked();
        let counters = &mut state.counters;
        counters.lateness.record(sent - call.due);
        let counts = counters.class(call.class);
        match result {
            Ok(Response::Success) => counts.succeeded += 1,
            Ok(Response::Refused(hint)) => {
                counts.refused += 1;
                counters.hints.record(hint);
                return state.retry(call, hint);
            }
            Ok(Response::Failed) => {
                counts.failed += 1;
                return state.retry(call, Duration::ZERO);
            }
            Err(_) => {
                counts.timed_out += 1;
                state.retry(call, Duration::ZERO);
            }
        }
        state.counters.latency.record(latency);
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn retry(&mut self, call: Call, after: Duration) {
        if self.retry && call.run == self.run && call.nth < TRIES {
            self.retries.push(Reverse(Call {
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
            let class = match self.count % PAYMENT_EVERY {
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

enum Response {
    Success,
    Refused(Duration),
    Failed,
}

fn http() -> Http {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new())
        .http2_only(true)
        // A response can cross the reset that a timeout sends, and h2 remembers only ten reset streams by default.
        .http2_max_concurrent_reset_streams(1 << 12)
        .build(connector)
}

async fn send(http: Http, server: SocketAddr, class: Class) -> Response {
    let path = match class {
        Class::Browse => "/browse",
        Class::Pay => "/pay",
    };
    let request = Request::post(format!("http://{server}{path}")).body(Body::empty());
    let Ok(request) = request else {
        return Response::Failed;
    };
    let Ok(response) = http.request(request).await else {
        return Response::Failed;
    };
    let (head, body) = response.into_parts();
    if body.collect().await.is_err() {
        return Response::Failed;
    }
    match (head.status, hint(&head.headers)) {
        (StatusCode::OK, _) => Response::Success,
        (StatusCode::TOO_MANY_REQUESTS, Some(hint)) => Response::Refused(hint),
        _ => Response::Failed,
    }
}

fn hint(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
