pub(crate) mod flood;

use std::{collections::VecDeque, time::Duration};

use proptest::prelude::*;
use tokio::time::Instant;

use super::Adaptive;
use crate::control::{
    adaptive::{
        estimates::{Batch, Crowded, Estimates, Since},
        ratio::Ratio,
        seen::Seen,
    },
    controller::{Controller, Decision, Outcome, Sample, Window},
};

pub(crate) const TICK: Duration = Duration::from_millis(20);

/// At a ratio of 0.85.
fn cap(limit: usize) -> usize {
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
    fn new(law: &Adaptive, workers: usize) -> Self {
        Self {
            now: Instant::now(),
            workers,
            queue: VecDeque::new(),
            working: Vec::new(),
            begun: 0,
            limit: law.initial_limit(),
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

    fn step(&mut self, law: &mut Adaptive, arrive: usize) -> Decision {
        self.now += TICK;
        let samples = self.work();
        let refused = self.admit(arrive, cap(self.limit));
        let critical_refused = self.admit(self.critical, self.limit * 95 / 100);
        self.critical_refused += critical_refused;
        let mut window = window(self.now, self.limit, self.in_flight() + self.kept, &samples);
        window.responded = self.kept;
        window.refused = refused + critical_refused;
        let decision = law.update(&window);
        self.limit = decision.limit;
        decision
    }

    fn run(&mut self, law: &mut Adaptive, seconds: usize, arrive: usize) -> Decision {
        let steps = (0..seconds * 50).map(|_| self.step(law, arrive)).last();
        steps.expect("at least a second")
    }
}

#[test]
fn p11_nothing_is_refused_while_nothing_says_that_the_server_is_overloaded() {
    let mut law = Adaptive::default();
    let mut server = Server::new(&law, 50);
    for arrive in [2, 5, 9] {
        assert_eq!(server.run(&mut law, 60, arrive).limit, 1 << 16);
    }
}

#[test]
fn p12_a_line_that_stands_is_asked_about_and_then_kept_short() {
    let mut law = Adaptive::default();
    let mut server = Server::new(&law, 50);
    server.run(&mut law, 10, 5);
    let held = server.run(&mut law, 20, 30);
    // 50 workers and a margin, at 85 %.
    assert!((59..100).contains(&held.limit), "{held:?}");
    let later = server.run(&mut law, 600, 30);
    assert!((59..100).contains(&later.limit), "{later:?}");
}

#[test]
fn p12_a_line_is_asked_about_where_the_ceiling_ends_it_before_callers_would() {
    // 500 a second are borne 350 deep.
    let mut law = Adaptive::default().max(300);
    let mut server = Server::new(&law, 50);
    server.run(&mut law, 10, 5);
    let held = server.run(&mut law, 20, 30);
    assert!((59..100).contains(&held.limit), "{held:?}");
}

#[test]
fn p12_a_floor_above_the_knee_keeps_no_question_open() {
    let mut law = Adaptive::default().min(100);
    let mut server = Server::new(&law, 5);
    server.run(&mut law, 10, 1);
    server.run(&mut law, 20, 30);
    let steps = (0..3_000).map(|_| server.step(&mut law, 30).reason);
    let asking = steps.filter(|&reason| reason == "probing").count();
    assert!(asking < 1_000, "{asking} of 3,000 steps");
}

#[test]
fn p12_under_a_ceiling_below_the_knee_a_server_that_gets_slower_is_seen() {
    let mut law = Adaptive::default().max(100);
    let mut server = Server::new(&law, 20);
    server.run(&mut law, 10, 2);
    server.run(&mut law, 20, 30);
    // Now the ceiling is in the way, and then it is not.
    server.workers = 200;
    assert_eq!(server.run(&mut law, 60, 60).limit, 100);
    server.workers = 20;
    let later = server.run(&mut law, 20, 60);
    assert!((23..50).contains(&later.limit), "{later:?}");
}

#[test]
fn p12_places_that_are_kept_up_to_the_ceiling_are_no_reason_to_let_in_more() {
    for kept in [40, 70] {
        let mut law = Adaptive::default().max(100);
        let mut server = Server::new(&law, 20);
        server.run(&mut law, 10, 2);
        server.run(&mut law, 20, 30);
        server.kept = kept;
        server.run(&mut law, 120, 30);
        server.kept = 0;
        let after = server.step(&mut law, 30);
        assert!(after.limit < 60, "{kept}: {after:?}");
    }
}

#[test]
fn p11_a_ceiling_below_the_knee_makes_no_line() {
    let mut law = Adaptive::default().max(40);
    let mut server = Server::new(&law, 50);
    server.run(&mut law, 10, 5);
    for _ in 0..3_000 {
        assert_eq!(server.step(&mut law, 30), Decision::new(40, "unlimited"));
    }
}

#[test]
fn p10_a_question_takes_the_room_of_those_who_are_refused_first() {
    let mut law = Adaptive::default();
    let mut server = Server::new(&law, 50);
    server.critical = 5;
    server.run(&mut law, 10, 1);
    server.run(&mut law, 20, 30);
    // Until the first line is down to what is borne; and the first question keeps them too.
    assert!(
        server.critical_refused < 60,
        "of 5,000: {}",
        server.critical_refused
    );
    server.critical_refused = 0;
    let steps = (0..30_000).map(|_| server.step(&mut law, 30).reason);
    let asking = steps.filter(|&reason| reason == "probing").count();
    assert!((500..5_000).contains(&asking), "{asking} of 30,000 steps");
    assert_eq!(server.critical_refused, 0, "of 150,000");
}

#[test]
fn p12_when_it_is_calm_again_the_limit_is_lifted_and_idleness_does_not_lower_it() {
    let mut law = Adaptive::default();
    let mut server = Server::new(&law, 50);
    server.run(&mut law, 10, 5);
    assert!(server.run(&mut law, 20, 30).limit < 100);
    assert_eq!(server.run(&mut law, 10, 5).limit, 1 << 16);
    assert_eq!(server.run(&mut law, 3600, 0).limit, 1 << 16);
}

#[test]
fn p12_who_is_waited_for_in_vain_takes_no_room_from_those_who_are_worked_on() {
    let mut law = Adaptive::default();
    let mut server = Server::new(&law, 50);
    server.run(&mut law, 10, 5);
    server.run(&mut law, 20, 30);
    let mut now = server.now;
    // It does 500 a second at its best. Where one in four hangs for a second, 64 places are 150 a second.
    let mut reasons = (0..50).map(|_| {
        now += TICK;
        let mut ended = samples(4, now, Duration::from_millis(100), 76);
        ended[0].outcome = Outcome::Cancelled;
        ended[0].latency = Duration::from_secs(1);
        let mut window = window(now, 76, 64, &ended);
        window.refused = 20;
        law.update(&window).reason
    });
    assert!(reasons.any(|reason| reason == "recovering"));
}

#[test]
fn the_initial_limit_holds_until_answers_have_come() {
    let mut law = Adaptive::default().initial(20);
    assert_eq!((law.limits(), law.initial_limit()), (1..=1 << 16, 20));
    let now = Instant::now();
    for step in 1..50 {
        let nothing = window(now + TICK * step, 20, 17, &[]);
        assert_eq!(law.update(&nothing), Decision::new(20, "learning"));
    }
}

#[test]
fn the_lowest_ratio_that_is_seen_counts_and_rounding_does_not_move_it() {
    let (mut ratio, now) = (Ratio::default(), Instant::now());
    ratio.learn(&samples(1, now, TICK, 1_000), now);
    assert_eq!(ratio.limit(85.0), 100.0);
    // 85 % of 7 is 5.95, so 5 are admitted: that is no ratio of 71 %.
    ratio.learn(&samples(1, now, TICK, 7), now);
    assert_eq!(ratio.limit(85.0), 100.0);
    let mut never = samples(1, now, TICK, 1_000);
    never[0].cap = 1_000;
    ratio.learn(&never, now + TICK);
    assert_eq!(ratio.limit(85.0), 100.0);
    ratio.learn(&never, now + Duration::from_secs(20));
    assert_eq!(ratio.limit(85.0), 85.0);
}

#[test]
fn there_is_headroom_where_some_are_refused_later_and_rounding_makes_none() {
    let (mut ratio, now) = (Ratio::default(), Instant::now());
    let seen = |cap: usize, limit: usize| {
        let mut seen = samples(1, now, TICK, limit);
        seen[0].cap = cap;
        seen
    };
    // 85 % of each of these, and one that always runs.
    for limit in (6..400).chain([1]) {
        ratio.learn(&seen(cap(limit), limit), now);
        assert_eq!(ratio.headroom(), 1.0, "{limit}");
    }
    ratio.learn(&seen(95, 100), now);
    assert!((1.117..1.119).contains(&ratio.headroom()), "{ratio:?}");
    // Of several the lowest counts, as it has the least.
    ratio.learn(&seen(90, 100), now);
    ratio.learn(&seen(100, 100), now);
    assert!((1.058..1.06).contains(&ratio.headroom()), "{ratio:?}");
    ratio.learn(&seen(85, 100), now + Duration::from_secs(9));
    assert!(ratio.headroom() > 1.0);
    ratio.learn(&[], now + Duration::from_secs(10));
    assert_eq!(ratio.headroom(), 1.0);
    // Those that were refused later are now refused first.
    ratio.learn(&seen(90, 100), now + Duration::from_secs(18));
    ratio.learn(&seen(36, 40), now + Duration::from_secs(20));
    assert_eq!(ratio.headroom(), 1.0, "{ratio:?}");
}

#[test]
fn p11_a_few_who_leave_soon_are_forgotten_when_others_are_seen_to_wait() {
    let (mut known, mut now) = (Estimates::new(0.01, 100.0), Instant::now());
    let mut see = |left: usize, after: u64, responded: usize, latency: u64| {
        now += TICK;
        let mut all = samples(left, now, Duration::from_millis(after), 100);
        for sample in &mut all {
            sample.outcome = Outcome::Cancelled;
        }
        all.extend(samples(responded, now, Duration::from_millis(latency), 100));
        known.take_in(
            &Seen::of(&window(now, 100, 100, &all), 0.0),
            &mut Batch::default(),
        );
        known.learn_client_timeout(&all);
        known.bearable()
    };
    assert_eq!(see(0, 0, 1, 10), 0.7);
    // Whatever it is that one in ten lose patience with, it is not the server.
    for _ in 0..100 {
        assert_eq!(see(1, 100, 9, 10), 0.7);
    }
    assert!((0.07..0.08).contains(&see(100, 100, 0, 0)));
    // Those who are answered sooner say nothing of it.
    assert!((0.07..0.08).contains(&see(0, 0, 100, 50)));
    assert!((0.69..0.71).contains(&see(0, 0, 100, 2_000)));
}

#[test]
fn p11_a_moment_without_answers_is_no_flood_and_a_long_one_is() {
    let (known, mut now) = (Estimates::new(1.0, 10.0), Instant::now());
    let mut crowded = Crowded::default();
    let mut after = |elapsed: Duration, completed| {
        now += elapsed;
        let mut window = window(now, 1_000, 40, &[]);
        (window.elapsed, window.completed) = (elapsed, completed);
        let seen = Seen::of(&window, 0.0);
        crowded.take_in(&seen, &known);
        known.is_flooded(&seen, &crowded)
    };
    // All of a second each.
    for _ in 0..50 {
        assert!(!after(5 * TICK, 4));
    }
    assert!(!after(5 * TICK, 0));
    assert!(after(Duration::from_secs(5), 0));
}

#[test]
fn a_break_begins_anew() {
    let (mut since, now) = (Since::default(), Instant::now());
    assert_eq!(since.so(true, now), 0.0);
    assert_eq!(since.so(true, now + Duration::from_secs(2)), 2.0);
    assert_eq!(since.so(false, now + Duration::from_secs(3)), 0.0);
    assert_eq!(since.so(true, now + Duration::from_secs(4)), 0.0);
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

fn decide(law: &mut Adaptive, began: Instant, windows: &[AnyWindow]) -> Vec<Decision> {
    let (mut now, mut limit) = (began, law.initial_limit());
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
                sample
            })
            .collect();
        let mut window = window(now, limit, *in_flight, &samples);
        window.elapsed = elapsed;
        window.refused = *refused;
        let decision = law.update(&window);
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
        let mut law = Adaptive::default().min(3).max(700);
        for decision in decide(&mut law, Instant::now(), &windows) {
            prop_assert!((3..=700).contains(&decision.limit), "{:?}", decision);
        }
        // Figures that are none would stay so.
        let figures = format!("{law:?}");
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
