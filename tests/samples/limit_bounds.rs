//! Promise 15: the limit stays within its bounds.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    future::ready,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use loadshed::{
    Budget, LoadShed, Measure, Threshold,
    control::{Controller, Decision, Window},
};
use tokio::time::advance;
use tower::{Layer, Service, service_fn};

use super::{LIMIT, Recorded};
use crate::support::{Broken, FnController, Req, answer, get, holding, is_refused, next_frame};

#[tokio::test(start_paused = true)]
async fn p15_the_limit_stays_within_the_limits_of_its_controller_for_any_decision() {
    let decisions = [
        0,
        usize::MAX,
        1,
        1 << 31,
        2,
        1 << 32,
        8,
        9,
        5,
        usize::MAX,
        0,
    ];
    let mut next = decisions.into_iter().cycle();
    let controller = FnController::new(3..=8, 5, move |_| next.next().expect("it goes on"));
    let budget = Budget::new(controller.always());
    let mut service = LoadShed::ratio(0.5).budget(&budget).layer(holding());
    let mut seen = BTreeSet::new();
    let mut held = Vec::new();
    for step in 0..200 {
        match step % 5 {
            0 | 1 => held.push(budget.try_acquire(Threshold::NEVER_SHED).unwrap()),
            2 => drop(held.pop()),
            3 => drop(answer(&mut service, get("/"))),
            _ => drop(service.call(get("/"))),
        }
        held.truncate(6);
        seen.insert(budget.limit());
        assert!((3..=8).contains(&budget.limit()), "{}", budget.limit());
    }
    assert!(seen.contains(&3) && seen.contains(&8), "{seen:?}");
    drop(held);
    assert_eq!(budget.in_flight(), 0);
}

/// The default controller, and one with a window for each event. Requests take no time, and the clock stands still.
#[tokio::test(start_paused = true)]
async fn p15_zero_latencies_and_a_clock_that_stands_still_change_nothing() {
    let controller = Recorded::new();
    for budget in [Budget::adaptive(), controller.budget.clone()] {
        let limit = budget.limit();
        let shed = LoadShed::ratio(1e-9).budget(&budget);
        for measure in [Measure::Head, Measure::Body] {
            let mut service = shed.clone().measure(measure).layer(holding());
            for _ in 0..2_000 {
                let mut response = answer(&mut service, get("/"));
                assert!(is_refused(&answer(&mut service, get("/"))));
                while let Poll::Ready(Some(_)) = next_frame(&mut response) {}
            }
        }
        assert_eq!((budget.limit(), budget.in_flight()), (limit, 0));
    }
    let samples = controller.samples();
    assert!(samples.len() > 100, "{}", samples.len());
    assert!(samples.iter().all(|sample| sample.latency.is_zero()));
    assert!(
        controller
            .windows()
            .iter()
            .all(|window| window.elapsed.is_zero())
    );
}

/// As above, but the clock advances, so windows end.
#[tokio::test(start_paused = true)]
async fn p15_requests_that_take_no_time_cause_no_refusal() {
    let budget = Budget::adaptive();
    let limit = budget.limit();
    let mut service = LoadShed::ratio(0.85).budget(&budget).layer(holding());
    for burst in [1, 7, 100] {
        for _ in 0..500 {
            for _ in 0..burst {
                drop(answer(&mut service, get("/")));
            }
            tokio::time::advance(Duration::from_millis(20)).await;
        }
        assert_eq!((budget.limit(), budget.snapshot().refused), (limit, 0));
    }
    // Then requests take 500 ms.
    let held: Vec<_> = (0..50).map(|_| answer(&mut service, get("/"))).collect();
    tokio::time::advance(Duration::from_millis(500)).await;
    drop(held);
    for _ in 0..500 {
        drop(answer(&mut service, get("/")));
        tokio::time::advance(Duration::from_millis(20)).await;
    }
    assert_eq!((budget.limit(), budget.snapshot().refused), (limit, 0));
}

#[tokio::test(start_paused = true)]
async fn p15_a_window_does_not_end_while_the_clock_stands_still() {
    let controller = Recorded::every(Duration::from_nanos(1));
    for _ in 0..100 {
        drop(controller.budget.try_acquire(Threshold::NEVER_SHED));
    }
    assert_eq!(controller.windows(), []);
    advance(Duration::from_millis(1)).await;
    drop(controller.budget.try_acquire(Threshold::NEVER_SHED));
    let [window] = controller.windows().try_into().expect("one");
    assert_eq!(window.elapsed, Duration::from_millis(1));
    assert_eq!(controller.samples().len(), 100, "all completed requests");
}

/// A controller that records how many requests in flight have responded, by its last window.
#[derive(Debug)]
struct CountOfResponded(Arc<AtomicUsize>);

impl Controller for CountOfResponded {
    fn limits(&self) -> RangeInclusive<usize> {
        1..=1_000
    }

    fn initial_limit(&self) -> usize {
        LIMIT
    }

    fn window(&self) -> Duration {
        Duration::ZERO
    }

    fn update(&mut self, window: &Window<'_>) -> Decision {
        self.0.store(window.responded, Ordering::Relaxed);
        Decision::new(window.limit, "recorded")
    }
}

#[tokio::test(start_paused = true)]
async fn p11_a_body_that_has_ended_and_is_not_dropped_does_not_count_as_responded() {
    let responded = Arc::<AtomicUsize>::default();
    let budget = Budget::new(CountOfResponded(Arc::clone(&responded)));
    let inner = service_fn(|_: Req| {
        let frame = Ok::<_, Broken>(Frame::data(Bytes::from_static(b"text")));
        let body = StreamBody::new(stream::iter([frame]));
        ready(Ok::<_, Broken>(Response::new(body)))
    });
    let mut service = LoadShed::ratio(0.85).budget(&budget).layer(inner);
    let _waiting = budget.try_acquire(Threshold::NEVER_SHED).unwrap();
    let told = || {
        drop(budget.try_acquire(Threshold::NEVER_SHED));
        (budget.in_flight(), responded.load(Ordering::Relaxed))
    };
    let mut bodies = Vec::new();
    for _ in 0..8 {
        bodies.push(service.call(get("/")).await.unwrap().into_body());
    }
    // The request that ends meanwhile is not among them.
    assert_eq!(told(), (9, 8));
    for body in &mut bodies {
        assert!(body.frame().await.is_some());
        assert!(body.frame().await.is_none());
    }
    assert_eq!(told(), (1, 0));
}
