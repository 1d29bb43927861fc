//! Many clients at once.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Empty;
use loadshed::{Budget, LoadShed, RetryAfter};
use loadshed_client::{Backpressure, NotSent};
use tokio::{task::JoinSet, time::sleep};
use tower::{Layer, ServiceExt, service_fn};

use crate::support::{Req, get};

struct Storm {
    calls: usize,
    not_sent: usize,
    tries: usize,
    served: usize,
}

impl Storm {
    fn retries(&self) -> usize {
        self.tries - (self.calls - self.not_sent)
    }
}

/// A server with room for 100 a second, and 100 clients, each with a layer of its own, that want 300.
async fn storm(hint: RetryAfter, client: impl Fn() -> Backpressure) -> Storm {
    const SECONDS: u32 = 120;
    let work = service_fn(async |_: Req| {
        sleep(Duration::from_millis(100)).await;
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let shed = LoadShed::ratio(1.0).budget(Budget::fixed(10));
    let server = shed.retry_after(hint).layer(work);
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = {
        let tries = Arc::clone(&tries);
        service_fn(move |request: Req| {
            tries.fetch_add(1, Ordering::Relaxed);
            server.clone().oneshot(request)
        })
    };
    let mut calls = JoinSet::new();
    for number in 0..100 {
        let service = client().layer(counted.clone());
        for nth in 0..3 * SECONDS {
            let service = service.clone();
            let at = Duration::from_secs(1) * nth / 3 + Duration::from_micros(3_333) * number;
            calls.spawn(async move {
                sleep(at).await;
                service.oneshot(get("/")).await.unwrap()
            });
        }
    }
    let answers = calls.join_all().await;
    let count = |of: fn(&Response<_>) -> bool| answers.iter().filter(|answer| of(answer)).count();
    let storm = Storm {
        calls: answers.len(),
        not_sent: count(|answer| answer.extensions().get::<NotSent>().is_some()),
        tries: tries.load(Ordering::Relaxed),
        served: count(|answer| answer.status() == StatusCode::OK),
    };
    println!(
        "{} calls, {} not sent, {} tries, {} retries, {} served",
        storm.calls,
        storm.not_sent,
        storm.tries,
        storm.retries(),
        storm.served
    );
    storm
}

#[tokio::test(start_paused = true)]
async fn in_a_storm_there_is_at_most_a_tenth_of_extra_requests() {
    let seeds = AtomicUsize::new(0);
    let seed = || seeds.fetch_add(1, Ordering::Relaxed) as u64;
    let new = || Backpressure::new().seed(seed());
    let throttled = storm(RetryAfter::adaptive(), new).await;
    let adaptive = storm(RetryAfter::adaptive(), || new().without_throttle()).await;
    // All who are refused come back after a second: here it is the budget that holds.
    let second = RetryAfter::fixed(Duration::from_secs(1));
    let constant = storm(second, || new().without_throttle()).await;
    for storm in [&throttled, &adaptive, &constant] {
        assert!(storm.retries() > 0);
        assert!(10 * storm.retries() <= storm.calls - storm.not_sent);
        assert!(storm.served >= 95 * 120, "{}", storm.served);
    }
    // What the throttle is for: the server has less to refuse.
    assert!(throttled.tries * 3 < adaptive.tries * 2);
    // What the budget is for.
    let unbounded = storm(second, || new().without_throttle().retry_budget(1.0)).await;
    assert!(unbounded.retries() > 5 * constant.retries());
}
