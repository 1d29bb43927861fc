//! Layers in dry run beside layers that enforce.

use std::{convert::Infallible, pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::poll;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use loadshed::{Budget, Criticality, LoadShed};
use tokio::time::sleep;
use tower::{Layer, service_fn};

use crate::{FullRequest, Gauge, begin, refused, response, status};

#[tokio::test(start_paused = true)]
async fn p10_an_inner_dry_run_does_not_switch_the_outer_layer_off() {
    let pool = Budget::fixed(10);
    let gauge = Gauge::default();
    let inner = LoadShed::ratio(0.5).budget(&pool).dry_run(true);
    let outer = LoadShed::ratio(0.8).budget(&pool);
    let service = outer.layer(inner.layer(gauge.service()));
    assert_eq!(refused(begin(&service, 100)).await, 92);
    assert_eq!(gauge.most(), 8);
    let seen = pool.snapshot();
    let counts = (seen.would_refuse, seen.refused, seen.admitted);
    assert_eq!(counts, (3, 92, 5));
    assert_eq!((seen.in_flight, seen.marked), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn p10_an_outer_dry_run_does_not_switch_the_inner_layer_off() {
    let pool = Budget::fixed(10);
    let gauge = Gauge::default();
    let inner = LoadShed::ratio(0.8).budget(&pool);
    let outer = LoadShed::ratio(0.5).budget(&pool).dry_run(true);
    let service = outer.layer(inner.layer(gauge.service()));
    assert_eq!(refused(begin(&service, 100)).await, 92);
    assert_eq!(gauge.most(), 8);
    let seen = pool.snapshot();
    assert_eq!((seen.would_refuse, seen.refused), (95, 92));
    assert_eq!((seen.in_flight, seen.marked), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn p10_a_route_in_dry_run_counts_for_another_route_as_if_it_were_observed() {
    let run = |b: fn(&Budget) -> LoadShed| async move {
        let pool = Budget::fixed(200);
        let gauge = Gauge::default();
        let a = LoadShed::ratio(0.85).budget(&pool).layer(gauge.service());
        let b = b(&pool).layer(gauge.service());
        let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
        for _ in 0..300 {
            of_a.append(&mut begin(&a, 1));
            of_b.append(&mut begin(&b, 1));
            sleep(Duration::from_millis(7)).await;
        }
        let counts = (refused(of_a).await, refused(of_b).await);
        assert_eq!((pool.in_flight(), pool.snapshot().marked), (0, 0));
        (gauge.most(), counts)
    };
    let observed = run(|pool| LoadShed::observe().budget(pool)).await;
    let dry = run(|pool| LoadShed::ratio(0.25).budget(pool).dry_run(true)).await;
    assert_eq!(observed, dry);
    assert!(observed.1.0 > 0, "the enforcing route refuses");
}

#[tokio::test(start_paused = true)]
async fn p22_in_flight_shows_what_runs_and_marked_what_would_have_been_refused() {
    let pool = Budget::fixed(10);
    let gauge = Gauge::default();
    let shed = LoadShed::ratio(0.5).budget(&pool).dry_run(true);
    let handle = shed.handle();
    let service = shed.layer(gauge.service());
    let first = begin(&service, 20);
    sleep(Duration::from_millis(100)).await;
    let seen = pool.snapshot();
    let counts = (
        seen.in_flight,
        seen.marked,
        seen.would_refuse,
        seen.admitted,
    );
    assert_eq!(counts, (20, 15, 15, 5));
    // Switched while marked requests are in flight: what enforces counts them.
    handle.set_dry_run(false);
    assert_eq!(refused(begin(&service, 20)).await, 20);
    assert_eq!(refused(first).await, 0);
    assert_eq!(refused(begin(&service, 20)).await, 15);
    assert_eq!((pool.in_flight(), pool.snapshot().marked), (0, 0));
}

/// A sequence of numbers, the same in each run.
struct Sequence(u64);

impl Sequence {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        self.0
    }
}

fn get(length: u64) -> FullRequest {
    let path = format!("/{}", "a".repeat(length as usize));
    Request::get(path).body(Full::default()).unwrap()
}

/// Calls services in turns. Returns which calls were refused, or would have been, and how many were admitted in all.
async fn decisions(
    pool: &Budget,
    seed: u64,
    lengths: u64,
    call: impl Fn(u64, FullRequest) -> Pin<Box<dyn Future<Output = StatusCode> + Send>>,
) -> (Vec<usize>, usize) {
    let mut sequence = Sequence(seed);
    let (mut decided, mut calls) = (Vec::new(), Vec::new());
    for _ in 0..3_000 {
        let x = sequence.next();
        let all = || {
            let seen = pool.snapshot();
            seen.refused + seen.would_refuse
        };
        let before = all();
        let mut future = call(x >> 50, get((x >> 40) % lengths));
        let polled = poll!(&mut future);
        decided.push(all() - before);
        if polled.is_pending() {
            calls.push(tokio::spawn(future));
        }
        if (x >> 20).is_multiple_of(3) {
            sleep(Duration::from_millis(1 + (x >> 33) % 5)).await;
        }
    }
    for call in calls {
        call.await.unwrap();
    }
    let seen = pool.snapshot();
    assert_eq!((seen.in_flight, seen.marked), (0, 0));
    (decided, seen.admitted)
}

async fn work(request: FullRequest) -> Result<Response<Full<Bytes>>, Infallible> {
    let steps = 1 + request.uri().path().len() as u64 % 7;
    sleep(Duration::from_millis(10 * steps)).await;
    response()
}

const CLASSES: [Criticality; 4] = [
    Criticality::Sheddable,
    Criticality::SheddablePlus,
    Criticality::Critical,
    Criticality::CriticalPlus,
];

#[tokio::test(start_paused = true)]
async fn p22_one_layer_decides_alike_in_dry_run_with_classes_costs_and_shares() {
    for limit in [1, 3, 10, 57] {
        let mut runs = Vec::new();
        for dry_run in [false, true] {
            let pool = Budget::fixed(limit);
            let length = |head: &Request<()>| head.uri().path().len();
            let shed = LoadShed::ratio(0.5)
                .budget(&pool)
                .seed(7)
                .dry_run(dry_run)
                .classify(move |head| CLASSES[length(head) % 4])
                .fair_by(move |head| length(head) % 5)
                .cost(move |head| 1 + length(head) % 3);
            let service = shed.layer(service_fn(work));
            let call = move |_, request| Box::pin(status(service.clone(), request)) as Pin<_>;
            runs.push(decisions(&pool, 12_345, 50, call).await);
        }
        assert!(runs[0].0.contains(&1), "none of {limit} is refused");
        assert_eq!(runs[0], runs[1], "of {limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn p22_two_layers_in_dry_run_decide_as_two_that_enforce() {
    let mut runs = Vec::new();
    for dry_run in [false, true] {
        let pool = Budget::fixed(10);
        let inner = LoadShed::ratio(0.5)
            .budget(&pool)
            .dry_run(dry_run)
            .cost(|head| 1 + head.uri().path().len() % 2);
        let outer = LoadShed::ratio(0.8).budget(&pool).dry_run(dry_run);
        let both = outer.layer(inner.layer(service_fn(work)));
        let one = outer.layer(service_fn(work));
        let call = move |x: u64, request| match x % 2 {
            0 => Box::pin(status(both.clone(), request)) as Pin<Box<dyn Future<Output = _> + Send>>,
            _ => Box::pin(status(one.clone(), request)),
        };
        runs.push(decisions(&pool, 77, 5, call).await);
    }
    assert!(runs[0].0.contains(&1), "none is refused");
    assert_eq!(runs[0], runs[1]);
}
