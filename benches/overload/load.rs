//! An open loop, which sends each request at its due time, independent of earlier responses.
//!
//! The latency of a request is measured from its due time, so that a generator that falls behind does not hide the wait
//! (coordinated omission). The generator is one thread, and the lateness of each request is recorded.

use std::{net::SocketAddr, ops::Range, sync::Arc, time::Duration};

use axum::http::StatusCode;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    callers::{Channel, Connections, Protocol},
    random::{Random, Work},
};

/// Deadline of a request, from its due time.
pub(crate) const DEADLINE: Duration = Duration::from_millis(100);

/// An arbitrary seed, the same for all variants.
const SEED: u64 = 17;

/// The offered load.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) protocol: Protocol,
    pub(crate) work: Work,
    /// Consecutive segments: duration, and rate in requests a second.
    pub(crate) segments: Vec<(Duration, f64)>,
}

/// The result of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestResult {
    /// Due time, from the start.
    pub(crate) due: Duration,
    /// Time from the due time to the sending.
    pub(crate) lateness: Duration,
    /// Time from the due time to the end.
    pub(crate) latency: Duration,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Successful response within the deadline.
    Good,
    /// No response within the deadline.
    Late,
    Refused,
    /// Lost with its connection, which the server closed.
    Lost,
    /// Any other response: an error of the benchmark.
    Failed,
}

impl Load {
    /// Sends all requests and waits for their results. `start` is called at the start of the load.
    pub(crate) async fn offer(
        &self,
        server: SocketAddr,
        start: impl FnOnce(Instant),
    ) -> Vec<RequestResult> {
        let connections = Connections::to(server, self.protocol).await;
        let began = Instant::now();
        start(began);
        let mut random = Random::new(SEED);
        let mut callers = JoinSet::new();
        for (span, rate) in self.spans() {
            // The gap starts anew at the segment: a Poisson process has no memory.
            let mut due = span.start;
            loop {
                due += random.exponential(Duration::from_secs(1).div_f64(rate));
                if due >= span.end {
                    break;
                }
                let work = self.work.draw(&mut random);
                sleep_until(began + due).await;
                let channel = connections.channel(callers.len());
                callers.spawn(call(channel, began, due, work));
            }
        }
        callers.join_all().await
    }

    fn spans(&self) -> impl Iterator<Item = (Range<Duration>, f64)> {
        let mut end = Duration::ZERO;
        self.segments.iter().map(move |&(duration, rate)| {
            let start = end;
            end += duration;
            (start..end, rate)
        })
    }
}

/// Returns good responses a second with as many callers in a closed loop as keep a server of one processor busy.
pub(crate) async fn closed_loop(server: SocketAddr, work: Work, span: Duration) -> f64 {
    const CALLERS: usize = 4;
    let connections = Arc::new(Connections::to(server, Protocol::H2).await);
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for nth in 0..CALLERS {
        let connections = Arc::clone(&connections);
        callers.spawn(async move {
            let (mut random, mut done) = (Random::new(nth as u64), 0);
            while began.elapsed() < span {
                let work = work.draw(&mut random);
                let response = connections.channel(nth).send(work).await;
                done += usize::from(response.is_ok_and(|status| status == StatusCode::OK));
            }
            done
        });
    }
    let done: usize = callers.join_all().await.into_iter().sum();
    done as f64 / began.elapsed().as_secs_f64()
}

async fn call(channel: Channel, began: Instant, due: Duration, work: Duration) -> RequestResult {
    let at = began + due;
    let lateness = at.elapsed();
    let response = timeout_at(at + DEADLINE, channel.send(work)).await;
    let latency = at.elapsed();
    let outcome = match response {
        // The timer has a resolution of 1 ms, so that a response may be late nevertheless.
        Ok(Ok(StatusCode::OK)) if latency <= DEADLINE => Outcome::Good,
        Err(_) | Ok(Ok(StatusCode::OK)) => Outcome::Late,
        Ok(Ok(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)) => Outcome::Refused,
        Ok(Err(_)) => Outcome::Lost,
        Ok(Ok(_)) => Outcome::Failed,
    };
    RequestResult {
        due,
        lateness,
        latency,
        outcome,
    }
}
