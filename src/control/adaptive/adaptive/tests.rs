use std::{collections::VecDeque, time::Duration};

use proptest::prelude::*;
use tokio::time::Instant;

use super::Adaptive;
use crate::control::controller::{Controller, Decision, Outcome, Sample, Window};

pub(crate) const TICK: Duration = Duration::from_millis(20);

/// At a ratio of 0.85.
pub(crate) fn cap(limit: usize) -> usize {
    (limit * 85 / 100).max(1)
}

pub(crate) fn samples(count: usize, at: Instant, latency: Duration, limit: usize) -> Vec<Sample> {
    let mut sample = Sample::new(at);
    sample.latency = latency;
    sample.limit = limit;
    sample.cap = cap(limit);
    sample.in_flight = 1;
    vec![sample; count]
}

pub(crate) fn cancelled(count: usize, at: Instant, latency: Duration, limit: usize) -> Vec<Sample> {
    let mut samples = samples(count, at, latency, limit);
    for sample in &mut samples {
        sample.outcome = Outcome::Cancelled;
    }
    samples
}

pub(crate) fn window(
    now: Instant,
    limit: usize,
    in_flight: usize,
    samples: &[Sample],
) -> Window<'_> {
    let mut window = Window::new(now, limit);
    window.elapsed = TICK;
    window.in_flight = in_flight;
    window.completed = samples.len();
    window.samples = samples;
    window
}

/// A pool of workers that take 80, 100 or 120 ms for a request each, in steps of 20 ms, and their queue. A request that does not fit is
/// refused.
struct Server {
    now: Instant,
    workers: usize,
    queue: VecDeque<Sample>,
    /// The requests at work, and when they will be done.
    working: Vec<(Sample, Instant)>,
    begun: u32,
    limit: usize,
    /// The requests that arrive in each step besides, at a ratio of 0.95.
    critical: usize,
    critical_refused: usize,
    /// The requests that have responded and keep their permit.
    kept: usize,
}

impl Server {
    fn new(controller: &Adaptive, workers: usize) -> Self {
        Self {
            now: Instant::now(),
            workers,
            queue: VecDeque::new(),
            working: Vec::new(),
            begun: 0,
            limit: controller.initial_limit(),
            critical: 0,
            critical_refused: 0,
            kept: 0,
        }
    }

    fn in_flight(&self) -> usize {
        self.queue.len() + self.working.len()
    }

    /// Admits as many of `arrive` requests as fit under `cap`. Returns how many are refused.
    fn admit(&mut self, arrive: usize, cap: usize) -> usize {
        let admitted = arrive.min(cap.saturating_sub(self.in_flight() + self.kept));
        let mut sample = Sample::new(self.now);
        (sample.limit, sample.cap, sample.in_flight) = (self.limit, cap, 1);
        self.queue.extend(vec![sample; admitted]);
        arrive - admitted
    }

    /// Works for a step. Returns a sample of each request that is done.
    fn work(&mut self) -> Vec<Sample> {
        let now = self.now;
        let is_done = |(_, until): &mut (Sample, Instant)| *until <= now;
        let done = self.working.extract_if(.., is_done);
        let samples = done.map(|(mut sample, _)| {
            sample.latency = now - sample.admitted_at;
            sample
        });
        let samples = samples.collect();
        while self.working.len() < self.workers
            && let Some(sample) = self.queue.pop_front()
        {
            // Not all alike, or the workers would be done all at once.
            self.begun += 1;
            self.working
                .push((sample, now + (4 + self.begun % 3) * TICK));
        }
        samples
    }

    fn step(&mut self, controller: &mut Adaptive, arrive: usize) -> Decision {
        self.now += TICK;
        let samples = self.work();
        let refused = self.admit(arrive, cap(self.limit));
        let critical_refused = self.admit(self.critical, self.limit * 95 / 100);
        self.critical_refused += critical_refused;
        let mut window = window(self.now, self.limit, self.in_flight() + self.kept, &samples);
        window.responded = self.kept;
        window.refused = refused + critical_refused;
        let decision = controller.update(&window);
        self.limit = decision.limit;
        decision
    }

    fn run(&mut self, controller: &mut Adaptive, seconds: usize, arrive: usize) -> Decision {
        let steps = (0..seconds * 50)
            .map(|_| self.step(controller, arrive))
            .last();
        steps.expect("at least a second")
    }
}

#[test]
fn p11_nothing_is_refused_while_nothing_says_that_the_server_is_overloaded() {
    let mut controller = Adaptive::default();
    let mut server = Server::new(&controller, 50);
    for arrive in [2, 5, 9] {
        assert_eq!(server.run(&mut controller, 60, arrive).limit, 1 << 16);
    }
}

#[test]
fn p12_a_queue_that_stands_causes_a_probe_and_is_then_kept_short() {
    let mut controller = Adaptive::default();
    let mut server = Server::new(&controller, 50);
    server.run(&mut controller, 10, 5);
    server.run(&mut controller, 20, 30);
    let steps = (0..30_000).map(|_| server.step(&mut controller, 30));
    let (tracking, other): (Vec<_>, Vec<_>) =
        steps.partition(|decision| decision.reason == "tracking");
    // 50 workers and a margin, at 85 %.
    let outside = tracking
        .iter()
        .find(|decision| !(59..100).contains(&decision.limit));
    assert!(outside.is_none(), "{outside:?}");
    assert!(other.len() < 3_000, "{} of 30,000 steps", other.len());
}

#[test]
fn p12_a_queue_causes_a_probe_where_the_largest_limit_is_below_the_burst() {
    // 500 a second may queue 350 deep.
    let mut controller = Adaptive::default().max(300);
    let mut server = Server::new(&controller, 50);
    server.run(&mut controller, 10, 5);
    let held = server.run(&mut controller, 20, 30);
    assert!((59..100).contains(&held.limit), "{held:?}");
}

#[test]
fn p12_a_smallest_limit_above_the_knee_keeps_no_probe_open() {
    let mut controller = Adaptive::default().min(100);
    let mut server = Server::new(&controller, 5);
    server.run(&mut controller, 10, 1);
    server.run(&mut controller, 20, 30);
    let steps = (0..3_000).map(|_| server.step(&mut controller, 30).reason);
    let probing = steps.filter(|&reason| reason == "probing").count();
    assert!(probing < 1_000, "{probing} of 3,000 steps");
}

#[test]
fn p12_a_largest_limit_below_the_knee_does_not_hide_that_the_server_gets_slower() {
    let mut controller = Adaptive::default().max(100);
    let mut server = Server::new(&controller, 20);
    server.run(&mut controller, 10, 2);
    server.run(&mut controller, 20, 30);
    // Now the largest limit binds, and then it does not.
    server.workers = 200;
    assert_eq!(server.run(&mut controller, 60, 60).limit, 100);
    server.workers = 20;
    let later = server.run(&mut controller, 20, 60);
    assert!((23..50).contains(&later.limit), "{later:?}");
}

#[test]
fn p12_permits_kept_up_to_the_largest_limit_are_no_reason_to_admit_more() {
    for kept in [40, 70] {
        let mut controller = Adaptive::default().max(100);
        let mut server = Server::new(&controller, 20);
        server.run(&mut controller, 10, 2);
        server.run(&mut controller, 20, 30);
        server.kept = kept;
        server.run(&mut controller, 120, 30);
        server.kept = 0;
        let after = server.step(&mut controller, 30);
        assert!(after.limit < 60, "{kept}: {after:?}");
    }
}

#[test]
fn p11_a_largest_limit_below_the_knee_makes_no_queue() {
    let mut controller = Adaptive::default().max(40);
    let mut server = Server::new(&controller, 50);
    server.run(&mut controller, 10, 5);
    for _ in 0..3_000 {
        assert_eq!(
            server.step(&mut controller, 30),
            Decision::new(40, "unlimited")
        );
    }
}

#[test]
fn p10_a_probe_takes_the_capacity_of_the_requests_that_are_refused_first() {
    let mut controller = Adaptive::default();
    let mut server = Server::new(&controller, 50);
    server.critical = 5;
    server.run(&mut controller, 10, 1);
    server.run(&mut controller, 20, 30);
    // Until the first queue is as short as callers tolerate. The first probe keeps them, too.
    assert!(
        server.critical_refused < 60,
        "of 5,000: {}",
        server.critical_refused
    );
    server.critical_refused = 0;
    let steps = (0..30_000).map(|_| server.step(&mut controller, 30).reason);
    let probing = steps.filter(|&reason| reason == "probing").count();
    assert!((500..5_000).contains(&probing), "{probing} of 30,000 steps");
    assert_eq!(server.critical_refused, 0, "of 150,000");
}

#[test]
fn p12_after_an_overload_the_limit_is_lifted_and_idleness_does_not_lower_it() {
    let mut controller = Adaptive::default();
    let mut server = Server::new(&controller, 50);
    server.run(&mut controller, 10, 5);
    assert!(server.run(&mut controller, 20, 30).limit < 100);
    assert_eq!(server.run(&mut controller, 10, 5).limit, 1 << 16);
    assert_eq!(server.run(&mut controller, 3600, 0).limit, 1 << 16);
}

#[test]
fn p12_requests_that_hang_take_no_capacity_from_the_others() {
    let mut controller = Adaptive::default();
    let mut server = Server::new(&controller, 50);
    server.run(&mut controller, 10, 5);
    server.run(&mut controller, 20, 30);
    let mut now = server.now;
    // It completes 500 a second at its best. Where one in four hangs for a second, 64 permits are 150 a second.
    let mut reasons = (0..50).map(|_| {
        now += TICK;
        let mut ended = samples(4, now, Duration::from_millis(100), 76);
        ended[0].outcome = Outcome::Cancelled;
        ended[0].latency = Duration::from_secs(1);
        let mut window = window(now, 76, 64, &ended);
        window.refused = 20;
        controller.update(&window).reason
    });
    assert!(reasons.any(|reason| reason == "recovering"));
}

#[test]
fn the_initial_limit_holds_until_the_first_responses() {
    let mut controller = Adaptive::default().initial(20);
    assert_eq!(
        (controller.limits(), controller.initial_limit()),
        (1..=1 << 16, 20)
    );
    let now = Instant::now();
    for step in 1..50 {
        let nothing = window(now + TICK * step, 20, 17, &[]);
        assert_eq!(controller.update(&nothing), Decision::new(20, "learning"));
    }
}

#[test]
fn p12_a_flood_is_told_by_its_arrivals_before_its_queue_is_as_long_as_callers_wait() {
    let mut controller = Adaptive::default().client_timeout(Duration::from_secs(10));
    let mut server = Server::new(&controller, 50);
    server.run(&mut controller, 10, 3);
    // 500 a second may queue for 7 s: 3,500 requests, which have arrived after 40 steps.
    let mut steps = (0..100).map(|step| (step, server.step(&mut controller, 100)));
    let first = steps.find(|(_, decision)| decision.reason != "unlimited");
    let (step, decision) = first.expect("a flood");
    assert_eq!(decision.reason, "burst guard");
    assert!(
        step < 20 && decision.limit < 1_500,
        "after {step} steps: {decision:?}"
    );
}

/// The first successes of a flood have been queued, and so their latency is no service time.
#[test]
fn p12_callers_that_time_out_sooner_than_the_first_successes_cause_a_probe() {
    let (mut controller, began) = (Adaptive::default(), Instant::now());
    let queued = Duration::from_millis(400);
    let mut now = began + queued;
    let first = samples(4, began, queued, 1 << 16);
    let mut window_of_first = window(now, 1 << 16, 4, &first);
    (window_of_first.elapsed, window_of_first.refused) = (queued, 1);
    assert_eq!(controller.update(&window_of_first).reason, "burst guard");
    let reasons = (0..25).map(|_| {
        now += TICK;
        let waited = Duration::from_millis(100);
        let mut ended = cancelled(20, now - waited, waited, 100);
        // A few get a response still: throughput does not fall.
        ended[..2].clone_from_slice(&samples(2, now - queued, queued, 100));
        let mut window = window(now, 100, 40, &ended);
        window.refused = 5;
        controller.update(&window).reason
    });
    let reasons: Vec<_> = reasons.collect();
    assert!(reasons.contains(&"probing"), "{reasons:?}");
}

fn any_window() -> impl Strategy<Value = (u64, usize, usize, Vec<(u64, u8, usize)>)> {
    let sample = (0..3_000_000u64, 0..4u8, 0..200usize);
    (
        prop_oneof![Just(0), 1..200_000u64, Just(10_000_000)],
        0..5_000usize,
        0..5_000usize,
        prop::collection::vec(sample, 0..40),
    )
}

fn decide(controller: &mut Adaptive, began: Instant, windows: &[AnyWindow]) -> Vec<Decision> {
    let (mut now, mut limit) = (began, controller.initial_limit());
    let mut decide = |(elapsed, in_flight, refused, samples): &AnyWindow| {
        let elapsed = Duration::from_micros(*elapsed);
        now += elapsed;
        let samples: Vec<Sample> = samples
            .iter()
            .map(|&(latency, outcome, cap)| {
                let mut sample = Sample::new(now);
                sample.latency = Duration::from_micros(latency);
                sample.limit = limit;
                sample.cap = cap.clamp(1, limit);
                sample.outcome = [
                    Outcome::Success,
                    Outcome::Overload,
                    Outcome::Cancelled,
                    Outcome::Ignored,
                ][usize::from(outcome)];
                // From 0 to 10 minutes.
                let timeout = Duration::from_micros(latency * cap as u64);
                sample.client_timeout = (cap % 3 > 0).then_some(timeout);
                sample
            })
            .collect();
        let mut window = window(now, limit, *in_flight, &samples);
        window.elapsed = elapsed;
        window.refused = *refused;
        // A part of the requests is measured, and some of these in flight have responded.
        window.completed = samples.len() * (1 + refused % 4) + refused % 3;
        window.responded = in_flight / (1 + refused % 5);
        let decision = controller.update(&window);
        limit = decision.limit;
        decision
    };
    windows.iter().map(&mut decide).collect()
}

type AnyWindow = (u64, usize, usize, Vec<(u64, u8, usize)>);

proptest! {
    #[test]
    fn p15_whatever_is_seen_the_limit_stays_between_floor_and_ceiling(
        windows in prop::collection::vec(any_window(), 1..60)
    ) {
        let mut controller = Adaptive::default().min(3).max(700);
        for decision in decide(&mut controller, Instant::now(), &windows) {
            prop_assert!((3..=700).contains(&decision.limit), "{:?}", decision);
        }
        // Figures that are none would stay so.
        let figures = format!("{controller:?}");
        prop_assert!(!figures.contains("NaN"));
    }

    #[test]
    fn p16_the_same_windows_bring_the_same_decisions(
        windows in prop::collection::vec(any_window(), 1..60)
    ) {
        let now = Instant::now();
        let [one, other] = [(), ()].map(|()| decide(&mut Adaptive::default(), now, &windows));
        prop_assert_eq!(one, other);
    }
}
