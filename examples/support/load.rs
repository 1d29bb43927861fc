//! A constant load of ten times the capacity of the pool, over real sockets.
//!
//! 2,000 clients send a mail every 100 ms, independent of earlier responses: they ignore
//! `Retry-After`, as a bad retry loop does. A client that still waits for a response skips its next
//! mail, so the load is an open loop of up to 2,000 concurrent requests. The clients share 20 HTTP/2
//! connections, as a process can often open no more than 1,024 files.
//!
//! One more client lists mails. Its latency is measured from the due time of the request, so that it
//! includes the delay of a machine that is too busy to send the request in time.
//!
//! The peak is a little above 85 % of the pool: lists are counted as well.

use std::{
    env,
    error::Error,
    fmt, mem,
    net::SocketAddr,
    ops::AddAssign,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Request, StatusCode, header::RETRY_AFTER},
};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use loadshed::Budget;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at},
};

const CONNECTIONS: u32 = 20;
const CLIENTS_PER_CONNECTION: u32 = 100;
/// Interval of the mails of a client. The back end takes as long for a mail, so the pool carries 2,000 mails a second.
const INTERVAL: Duration = Duration::from_millis(100);
const LIST_INTERVAL: Duration = Duration::from_millis(5);
const SECOND: Duration = Duration::from_secs(1);

const HEAD: &str =
    "second admitted/s refused/s  in flight  peak  limit  list ok/s  list p99  Retry-After";

static MAIL: [u8; 1024] = [b'm'; 1024];

/// Duration of the load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) seconds: u32,
}

impl Load {
    /// Parses `--load <seconds>`; returns `None` without arguments.
    pub(crate) fn from_args() -> Result<Option<Self>, String> {
        const USAGE: &str = "usage: axum [--load <seconds>]";
        let mut args = env::args().skip(1);
        match (args.next().as_deref(), args.next(), args.next()) {
            (None, ..) => Ok(None),
            (Some("--load"), Some(seconds), None) => match seconds.parse() {
                Ok(seconds) => Ok(Some(Self { seconds })),
                Err(error) => Err(format!("--load {seconds}: {error}; {USAGE}")),
            },
            _ => Err(USAGE.into()),
        }
    }

    /// Prints a line a second; returns the totals once every request has a response.
    pub(crate) async fn drive(self, server: SocketAddr, pool: &Budget) -> Totals {
        let clients = CONNECTIONS * CLIENTS_PER_CONNECTION;
        let rate = clients * SECOND.as_millis() as u32 / INTERVAL.as_millis() as u32;
        println!("{clients} clients send {rate} mails a second\n\n{HEAD}");

        let counters = SharedCounters::default();
        let start = Instant::now();
        let end = start + SECOND * self.seconds;
        let mut tasks = JoinSet::new();
        for connection in 0..CONNECTIONS {
            let http = Http::new(server, Version::Http2);
            for client in 0..CLIENTS_PER_CONNECTION {
                // Spread over the interval; otherwise the mails would arrive as one wave every 100 ms.
                let nth = client * CONNECTIONS + connection;
                let first = start + INTERVAL * nth / clients;
                tasks.spawn(send_mails(http.clone(), first, end, counters.clone()));
            }
        }
        let http = Http::new(server, Version::Http1);
        tasks.spawn(list_mails(http, start, end, counters.clone()));

        let mut totals = Totals::default();
        let mut seconds = interval_at(start + SECOND, SECOND);
        for second in 1..=self.seconds {
            seconds.tick().await;
            let counters = counters.take();
            println!("{second:>6} {}", counters.line(pool));
            totals += counters;
        }
        tasks.join_all().await;
        totals += counters.take();
        totals
    }
}

async fn send_mails(http: Http, first: Instant, end: Instant, counters: SharedCounters) {
    let mut ticks = interval_at(first, INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while ticks.tick().await < end {
        let mail = Body::from(Bytes::from_static(&MAIL));
        let response = http.send("POST", "/mail/receive", mail).await;
        counters.with(|counters| counters.mail(response));
    }
}

async fn list_mails(http: Http, start: Instant, end: Instant, counters: SharedCounters) {
    let mut ticks = interval_at(start, LIST_INTERVAL);
    let mut tasks = JoinSet::new();
    loop {
        let due = ticks.tick().await;
        if due >= end {
            break;
        }
        let (http, counters) = (http.clone(), counters.clone());
        tasks.spawn(async move {
            let response = http.send("GET", "/mail/list", Body::empty()).await;
            counters.with(|counters| counters.list(response, due.elapsed()));
        });
    }
    tasks.join_all().await;
}

#[derive(Clone)]
struct Http {
    client: Client<HttpConnector, Body>,
    server: SocketAddr,
}

enum Version {
    Http1,
    Http2,
}

/// The head of a complete response, or the error.
type ResponseHead = Result<(StatusCode, HeaderMap), String>;

impl Http {
    fn new(server: SocketAddr, version: Version) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .http2_only(matches!(version, Version::Http2))
            .build_http();
        Self { client, server }
    }

    async fn send(&self, method: &str, path: &str, body: Body) -> ResponseHead {
        let text = |error: &dyn Error| format!("{method} {path}{}", causes(error));
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.server))
            .body(body)
            .map_err(|error| text(&error))?;
        let response = self.client.request(request).await;
        let (head, body) = response.map_err(|error| text(&error))?.into_parts();
        body.collect().await.map_err(|error| text(&error))?;
        Ok((head.status, head.headers))
    }
}

/// Counts of the responses.
#[derive(Debug, Default)]
struct Counters {
    received: usize,
    refused: usize,
    hints: Option<(u64, u64)>,
    listed: Vec<Duration>,
    /// Requests without a response, or with neither a 200 nor a refusal with a retry hint.
    failed: usize,
    first_failure: Option<String>,
}

impl Counters {
    fn mail(&mut self, response: ResponseHead) {
        match response {
            Ok((StatusCode::OK, _)) => self.received += 1,
            Ok((StatusCode::TOO_MANY_REQUESTS, headers)) => match hint(&headers) {
                Some(hint) => {
                    self.refused += 1;
                    self.hints = wider(self.hints, Some((hint, hint)));
                }
                None => self.fail(format!("a refusal without a hint: {headers:?}")),
            },
            other => self.fail_with(other),
        }
    }

    fn list(&mut self, response: ResponseHead, latency: Duration) {
        match response {
            Ok((StatusCode::OK, _)) => self.listed.push(latency),
            other => self.fail_with(other),
        }
    }

    fn fail_with(&mut self, response: ResponseHead) {
        self.fail(match response {
            Ok((status, _)) => format!("unexpected status {status}"),
            Err(text) => text,
        });
    }

    fn fail(&mut self, text: String) {
        self.failed += 1;
        self.first_failure.get_or_insert(text);
    }

    fn line(&self, pool: &Budget) -> String {
        let pool = pool.snapshot();
        format!(
            "{:>10} {:>9} {:>10} {:>5} {:>6} {:>10} {:>9} {:>12}",
            self.received,
            self.refused,
            pool.in_flight,
            pool.peak_in_flight,
            pool.limit,
            self.listed.len(),
            p99(&self.listed),
            span(self.hints),
        )
    }
}

#[derive(Clone, Debug, Default)]
struct SharedCounters(Arc<Mutex<Counters>>);

impl SharedCounters {
    fn with<T>(&self, change: impl FnOnce(&mut Counters) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self) -> Counters {
        self.with(mem::take)
    }
}

/// The counters of the whole load.
#[derive(Debug, Default)]
pub(crate) struct Totals(Counters);

impl Totals {
    /// Returns an error if a request failed.
    pub(crate) fn check(&self) -> Result<(), String> {
        match &self.0.first_failure {
            None => Ok(()),
            Some(first) => Err(format!("{} requests failed, first: {first}", self.0.failed)),
        }
    }
}

impl AddAssign<Counters> for Totals {
    fn add_assign(&mut self, counters: Counters) {
        let Self(sum) = self;
        sum.received += counters.received;
        sum.refused += counters.refused;
        sum.hints = wider(sum.hints, counters.hints);
        sum.listed.extend(counters.listed);
        sum.failed += counters.failed;
        sum.first_failure = sum.first_failure.take().or(counters.first_failure);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(sum) = self;
        write!(
            f,
            "total: {} mails received, {} refused (Retry-After {}), {} lists (p99 {}), {} failed",
            sum.received,
            sum.refused,
            span(sum.hints),
            sum.listed.len(),
            p99(&sum.listed),
            sum.failed,
        )
    }
}

fn causes(error: &dyn Error) -> String {
    let deeper = error.source().map(causes).unwrap_or_default();
    format!(": {error}{deeper}")
}

fn hint(headers: &HeaderMap) -> Option<u64> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()
}

fn wider(one: Option<(u64, u64)>, other: Option<(u64, u64)>) -> Option<(u64, u64)> {
    match (one, other) {
        (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
        (one, other) => one.or(other),
    }
}

fn span(hints: Option<(u64, u64)>) -> String {
    hints.map_or("none".into(), |(min, max)| format!("{min}..{max} s"))
}

fn p99(latencies: &[Duration]) -> String {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    // The position of the percentile: of 100 values, the 99th.
    let at = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
    sorted.get(at).map_or("none".into(), |latency| {
        format!("{:.1} ms", latency.as_secs_f64() * 1_000.0)
    })
}
