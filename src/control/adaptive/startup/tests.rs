use std::time::Duration;

use tokio::time::Instant;

use super::{FirstEstimates, Startup};
use crate::control::{
    adaptive::adaptive::{
        Adaptive,
        tests::{TICK, cancelled, samples, window},
    },
    controller::{Controller, Decision, Outcome, Window},
};

fn observe(startup: &mut Startup, window: &Window<'_>) -> Option<FirstEstimates> {
    startup.observe(window, 1.0)
}

#[test]
fn the_first_requests_to_complete_are_short_and_do_not_count_alone() {
    let (mut startup, began) = (Startup::default(), Instant::now());
    let quick = samples(10, began, Duration::from_millis(10), 100);
    let at = |millis| began + Duration::from_millis(millis);
    let mut first = window(at(12), 100, 50, &quick);
    first.elapsed = Duration::from_millis(12);
    assert!(observe(&mut startup, &first).is_none());
    let rest = samples(50, began, Duration::from_millis(100), 100);
    let mut second = window(at(100), 100, 0, &rest);
    second.elapsed = Duration::from_millis(88);
    let first = observe(&mut startup, &second).unwrap();
    assert!((0.08..0.09).contains(&first.server.service), "{first:?}");
}

/// Shows a window in which `count` requests that arrived at that moment have timed out, with so many in flight.
fn time_out(
    startup: &mut Startup,
    arrived: Instant,
    count: usize,
    in_flight: usize,
) -> Option<f64> {
    let samples = cancelled(count, arrived, TICK, 1_000);
    let window = window(arrived + TICK, 1_000, in_flight, &samples);
    assert!(observe(startup, &window).is_none());
    startup.limit(&window)
}

#[test]
fn p12_where_no_request_succeeds_a_few_are_admitted_and_then_fewer() {
    let (mut startup, began) = (Startup::default(), Instant::now());
    let at = |step: u32| began + TICK * step;
    assert_eq!(time_out(&mut startup, at(0), 150, 300), None);
    assert_eq!(time_out(&mut startup, at(1), 140, 300), None);
    assert!(!startup.admits_few());
    assert_eq!(time_out(&mut startup, at(2), 10, 300), Some(16.0));
    assert!(startup.admits_few());
    // These were admitted before.
    assert_eq!(time_out(&mut startup, at(2), 200, 16), None);
    assert_eq!(time_out(&mut startup, at(3), 15, 16), None);
    assert_eq!(time_out(&mut startup, at(4), 1, 16), Some(8.0));
    assert_eq!(time_out(&mut startup, at(5), 16, 8), Some(4.0));
    let successes = samples(4, at(7), TICK, 4);
    let first = observe(&mut startup, &window(at(8), 4, 0, &successes)).unwrap();
    assert!((0.019..0.021).contains(&first.server.service), "{first:?}");
    assert!(first.server.is_provisional);
}

#[test]
fn p12_one_request_at_a_time_is_admitted_until_some_have_succeeded() {
    let (mut startup, began) = (Startup::default(), Instant::now());
    let mut limits = Vec::new();
    for step in 0..200 {
        limits.extend(time_out(&mut startup, began + TICK * step, 16, 16));
    }
    assert_eq!(limits, [8.0, 4.0, 2.0, 1.0]);
}

#[test]
fn p12_the_first_limit_is_at_most_half_of_the_requests_in_flight() {
    let mut startup = Startup::default();
    assert_eq!(time_out(&mut startup, Instant::now(), 20, 20), Some(10.0));
}

#[test]
fn p11_cancellations_are_no_reason_to_refuse_where_few_requests_are_in_flight() {
    let (mut startup, began) = (Startup::default(), Instant::now());
    for step in 0..200 {
        assert_eq!(time_out(&mut startup, began + TICK * step, 1, 1), None);
    }
}

#[test]
fn p11_cancellations_are_no_reason_to_refuse_where_others_get_a_response() {
    let (mut startup, now) = (Startup::default(), Instant::now());
    let mut samples = samples(40, now, TICK, 1_000);
    for (nth, sample) in samples.iter_mut().enumerate() {
        // Errors say nothing about the server's speed, but it does respond.
        sample.outcome = [Outcome::Cancelled, Outcome::Ignored][nth % 2];
    }
    for step in 1..50 {
        let window = window(now + TICK * step, 1_000, 20, &samples);
        assert!(observe(&mut startup, &window).is_none());
        assert_eq!(startup.limit(&window), None);
    }
}

/// A server of 50 ms whose limit of 20 is full. Returns what is learned in a second.
fn full(
    startup: &mut Startup,
    began: Instant,
    outcome: fn(usize) -> Outcome,
) -> Option<FirstEstimates> {
    let mut nth = 0;
    (1..=50).find_map(|step| {
        let now = began + TICK * step;
        let service = Duration::from_millis(50);
        let count = if now - began < service { 0 } else { 8 };
        let mut ended = samples(count, now - service, service, 20);
        for sample in &mut ended {
            sample.outcome = outcome(nth);
            if sample.outcome == Outcome::Ignored {
                // An error in a millisecond.
                sample.latency = Duration::from_millis(1);
                sample.admitted_at = now - sample.latency;
            }
            nth += 1;
        }
        let mut window = window(now, 20, 20, &ended);
        window.refused = 2;
        observe(startup, &window)
    })
}

#[test]
fn p11_a_time_without_requests_says_nothing_about_the_server() {
    let (mut startup, now) = (Startup::default(), Instant::now());
    let mut first = window(now, 20, 1, &[]);
    first.elapsed = Duration::from_secs(8 * 3_600);
    assert!(observe(&mut startup, &first).is_none());
    let first = full(&mut startup, now, |_| Outcome::Success).unwrap();
    assert!((0.04..0.051).contains(&first.server.service), "{first:?}");
}

#[test]
fn p11_errors_do_not_keep_the_service_time_from_being_learned() {
    let every = |nth| [Outcome::Success, Outcome::Ignored][nth % 2];
    let first = full(&mut Startup::default(), Instant::now(), every).unwrap();
    assert!((0.045..0.055).contains(&first.server.service), "{first:?}");
}

#[test]
fn p11_a_few_requests_of_a_high_cost_do_not_keep_the_service_time_from_being_learned() {
    let (mut startup, began) = (Startup::default(), Instant::now());
    let first = (1..100).find_map(|step| {
        let now = began + TICK * step;
        let ended = samples(4, now - TICK, TICK, 1_000);
        // Of 40 units nearly all are units of one request that takes a second, and then of another one.
        let mut window = window(now, 1_000, 40, &ended);
        window.completed = 8;
        observe(&mut startup, &window)
    });
    assert!(first.is_some());
}

#[test]
fn p11_a_few_quick_requests_among_slow_ones_are_not_all() {
    let (mut startup, began) = (Startup::default(), Instant::now());
    let quick = Duration::from_millis(5);
    for step in 1..25 {
        // 1,000 a second. One in twenty takes 5 ms, and the others half a second.
        let now = began + TICK * step;
        let ended = samples(1, now - quick, quick, 1 << 16);
        let window = window(now, 1 << 16, 19 * step as usize, &ended);
        let first = observe(&mut startup, &window);
        assert!(first.is_none(), "after {step} windows: {first:?}");
    }
}

#[test]
fn p11_many_arrivals_after_a_few_are_no_flood_before_any_can_be_complete() {
    let (mut controller, began) = (Adaptive::default(), Instant::now());
    let (second, service) = (Duration::from_secs(1), Duration::from_millis(200));
    for nth in 0..4 {
        let arrived = began + second * nth;
        let mut arrives = window(arrived, 1 << 16, 1, &[]);
        arrives.elapsed = second - service;
        controller.update(&arrives);
        let ended = samples(1, arrived, service, 1 << 16);
        let mut ends = window(arrived + service, 1 << 16, 0, &ended);
        ends.elapsed = service;
        controller.update(&ends);
    }
    for step in 1..10 {
        // 1,000 a second.
        let now = began + second * 4 + TICK * step;
        let decision = controller.update(&window(now, 1 << 16, 20 * step as usize, &[]));
        assert_eq!(
            decision,
            Decision::new(1 << 16, "unlimited"),
            "after {step} windows"
        );
    }
}

#[test]
fn p11_many_requests_at_once_are_no_queue() {
    let (mut startup, began) = (Startup::default(), Instant::now());
    // 5,000 at once, of a second each: ten are complete after 10 ms.
    let ended: Vec<_> = (1..=10)
        .flat_map(|nth| samples(1, began, Duration::from_millis(nth), 1 << 16))
        .collect();
    let now = began + Duration::from_millis(10);
    let mut window = window(now, 1 << 16, 4_990, &ended);
    window.elapsed = now - began;
    let first = observe(&mut startup, &window);
    assert!(first.is_none(), "{first:?}");
}

/// The first requests of a server of which one in twenty succeeds within 20 ms, and all others are cancelled after so many
/// milliseconds: 500 a second, with 200 in flight.
fn cancelled_after(millis: u64) -> Option<FirstEstimates> {
    let (mut startup, began) = (Startup::default(), Instant::now());
    (5..100).find_map(|step: u32| {
        let now = began + TICK * step;
        let waited = Duration::from_millis(millis);
        let mut ended = cancelled(10, now - waited, waited, 1 << 16);
        if step.is_multiple_of(2) {
            ended[..1].clone_from_slice(&samples(1, now - TICK, TICK, 1 << 16));
        }
        observe(&mut startup, &window(now, 1 << 16, 200, &ended))
    })
}

#[test]
fn p12_where_nearly_all_requests_time_out_the_few_successes_tell_a_flood() {
    let first = cancelled_after(100).unwrap();
    assert!(first.server.is_provisional);
}

#[test]
fn p11_callers_that_leave_at_once_are_no_flood() {
    assert!(cancelled_after(5).is_none());
}
