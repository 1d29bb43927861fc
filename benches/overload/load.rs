//! An open loop, which offers its requests at their times whatever became of those before.
//!
//! A request's latency is taken from the moment at which it was due, so that a generator that falls behind does not
//! hide the wait (coordinated omission). It falls behind visibly: it is one thread, all of whose work is in the path of
//! the next request, and how late each one left is recorded.

use std::{net::SocketAddr, ops::Range, sync::Arc, time::Duration};

use axum::http::StatusCode;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    callers::{Line, Lines, Protocol},
    random::{Random, Work},
};

/// How long a caller waits.
pub(crate) const DEADLINE: Duration = Duration::from_millis(100);

/// Any number. It is the same for all variants.
const SEED: u64 = 17;

/// What is offered.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) protocol: Protocol,
    pub(crate) work: Work,
    /// One after the other: how long, and how many requests a second.
    pub(crate) stretches: Vec<(Duration, f64)>,
}

/// What one caller saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// When the request was due, since the start.
    pub(crate) due: Duration,
    /// How long after that it was sent.
    pub(crate) lateness: Duration,
    /// How long after that it ended.
    pub(crate) latency: Duration,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered before the deadline.
    Good,
    /// The deadline came first.
    Late,
    Refused,
    /// With its connection, which the server closed.
    Lost,
    /// None of these: the benchmark is broken.
    Failed,
}

impl Load {
    /// Offers it, and waits for what became of every request. `start` is called when the first one is due.
    pub(crate) async fn offer(&self, server: SocketAddr, start: impl FnOnce(Instant)) -> Vec<Seen> {
        let lines = Lines::to(server, self.protocol).await;
        let began = Instant::now();
        start(began);
        let mut random = Random::new(SEED);
        let mut callers = JoinSet::new();
        for (span, rate) in self.spans() {
            // No matter when the one before was due: these arrivals have no memory.
            let mut due = span.start;
            loop {
                due += random.exponential(Duration::from_secs(1).div_f64(rate));
                if due >= span.end {
                    break;
                }
                let work = self.work.draw(&mut random);
                sleep_until(began + due).await;
                let line = lines.line(callers.len());
                callers.spawn(call(line, began, due, work));
            }
        }
        callers.join_all().await
    }

    fn spans(&self) -> impl Iterator<Item = (Range<Duration>, f64)> {
        let mut end = Duration::ZERO;
        self.stretches.iter().map(move |&(lasts, rate)| {
            let start = end;
            end += lasts;
            (start..end, rate)
        })
    }
}

/// Good answers a second when as many callers ask again and again as keep a server of one processor busy.
pub(crate) async fn closed_loop(server: SocketAddr, work: Work, span: Duration) -> f64 {
    const CALLERS: usize = 4;
    let lines = Arc::new(Lines::to(server, Protocol::H2).await);
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for nth in 0..CALLERS {
        let lines = Arc::clone(&lines);
        callers.spawn(async move {
            let (mut random, mut done) = (Random::new(nth as u64), 0);
            while began.elapsed() < span {
                let work = work.draw(&mut random);
                let answer = lines.line(nth).ask(work).await;
                done += usize::from(answer.is_ok_and(|status| status == StatusCode::OK));
            }
            done
        });
    }
    let done: usize = callers.join_all().await.into_iter().sum();
    done as f64 / began.elapsed().as_secs_f64()
}

async fn call(line: Line, began: Instant, due: Duration, work: Duration) -> Seen {
    let at = began + due;
    let lateness = at.elapsed();
    let answer = timeout_at(at + DEADLINE, line.ask(work)).await;
    let latency = at.elapsed();
    let outcome = match answer {
        // The timer goes by milliseconds, and may have let a late one through.
        Ok(Ok(StatusCode::OK)) if latency <= DEADLINE => Outcome::Good,
        Err(_) | Ok(Ok(StatusCode::OK)) => Outcome::Late,
        Ok(Ok(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)) => Outcome::Refused,
        Ok(Err(_)) => Outcome::Lost,
        Ok(Ok(_)) => Outcome::Failed,
    };
    Seen {
        due,
        lateness,
        latency,
        outcome,
    }
}
