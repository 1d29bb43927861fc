//! Real threads: no request waits while capacity is free.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::join_all};
use http::{Request, Response};
use http_body_util::Empty;
use loadshed::{Budget, LoadShed};
use tokio::{
    runtime::Builder,
    task::yield_now,
    time::{sleep, timeout},
};
use tower::{Layer, Service, service_fn};

use super::support::{Req, get, is_refused};

const LIMIT: usize = 3;
const CALLERS: usize = 16;

/// The units of a handler that runs, until it returns or is dropped.
struct Working(Arc<AtomicUsize>, usize);

impl Working {
    fn begin(all: &Arc<AtomicUsize>, units: usize) -> Self {
        let before = all.fetch_add(units, Ordering::SeqCst);
        assert!(before + units <= LIMIT, "{before} and {units} at once");
        Self(Arc::clone(all), units)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::SeqCst);
    }
}

fn units<B>(head: &Request<B>) -> usize {
    head.uri().path()[1..].parse().unwrap()
}

/// Each caller calls `calls` times, and cancels a further call before each seventh. Returns how many calls were served.
fn race(longest: Duration, calls: usize) -> (usize, Budget) {
    let budget = Budget::fixed(LIMIT);
    let shed = LoadShed::ratio(1.0)
        .budget(&budget)
        .cost(units)
        .wait(CALLERS, longest);
    let at_work = Arc::new(AtomicUsize::new(0));
    let service = shed.layer(service_fn(move |request: Req| {
        let at_work = Arc::clone(&at_work);
        async move {
            let _working = Working::begin(&at_work, units(&request));
            yield_now().await;
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    }));
    let runtime = Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    let served = runtime.block_on(async {
        let callers = (0..CALLERS).map(|caller| {
            let mut service = service.clone();
            tokio::spawn(async move {
                let mut served = 0;
                for nth in 0..calls {
                    let path = format!("/{}", 1 + (caller + nth) % LIMIT);
                    if nth % 7 == 0 {
                        let mut given_up = Box::pin(service.call(get(&path)));
                        let _ = given_up.as_mut().now_or_never();
                        yield_now().await;
                    }
                    let answer = service.call(get(&path)).await.unwrap();
                    if is_refused(&answer) {
                        sleep(Duration::from_micros(100)).await;
                    } else {
                        served += 1;
                    }
                }
                served
            })
        });
        let all = timeout(
            Duration::from_secs(60),
            join_all(callers.collect::<Vec<_>>()),
        );
        let all = all.await.expect("no request waits while capacity is free");
        all.into_iter().map(Result::unwrap).sum()
    });
    (served, budget)
}

#[test]
fn no_request_waits_while_capacity_is_free() {
    let (served, budget) = race(Duration::from_secs(3_600), 1_000);
    assert_eq!(served, CALLERS * 1_000);
    let now = budget.snapshot();
    assert_eq!((now.in_flight, now.waiting, now.refused), (0, 0, 0));
    assert!(now.waited > 100, "{} have waited", now.waited);
}

#[test]
fn all_requests_are_counted_where_waits_end_at_any_moment() {
    let (served, budget) = race(Duration::from_micros(200), 1_000);
    let now = budget.snapshot();
    assert_eq!((now.in_flight, now.waiting), (0, 0));
    assert!(now.waited > 100 && now.admitted >= served, "{now:?}");
}
