//! Tests the simulator where a scenario has several kinds of work.

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex},
    time::Duration,
};

use loadshed::{
    Budget,
    control::{Controller, Decision, Outcome, Window},
};

use crate::{
    mixtures::mixtures::mixtures,
    options::Lab,
    oracle::Oracle,
    phase_report::PhaseReport,
    random::Random,
    report::Report,
    scenario::{
        kind::{Answer, Kind},
        load::Load,
        phase::{Conditions, Disturbance, Phase},
        scenario::Scenario,
        server::{Server, Times},
    },
    size::{Length, Size},
};

const MILLI: Duration = Duration::from_millis(1);

fn pool() -> Server {
    Server::pool(4, 20 * MILLI, Times::Exponential)
}

fn run(scenario: &Scenario, limit: usize) -> Report {
    Lab::seed(1)
        .ratio(1.0)
        .run(scenario, || Budget::fixed(limit))
}

#[track_caller]
fn assert_near(found: f64, expected: f64, tolerance: f64) {
    let off = (found / expected - 1.0).abs();
    assert!(off <= tolerance, "{found} in place of {expected}");
}

/// Returns two kinds at 3 × and 1 × of the capacity of a pool each, or of one that they share.
fn two(shares: bool) -> Scenario {
    let [first, second] = [Kind::new("first", pool()), Kind::new("second", pool())];
    let second = if shares { second.sharing(0) } else { second };
    let loads = [Conditions::at(3.0), Conditions::at(1.0)];
    Scenario::of("two", [first, second]).then(Phase::of("all", 60.0, loads))
}

#[test]
fn two_kinds_on_one_pool_share_its_workers() {
    let report = run(&two(true), 12);
    let [first, second] = [0, 1].map(|nth| report.of_kind(nth)[0].goodput());
    assert_near(first + second, 200.0, 0.02);
    // A limit refuses all kinds alike, so each has its share of the calls.
    assert_near(first / second, 3.0, 0.05);
}

#[test]
fn kinds_with_pools_of_their_own_do_not_share_workers() {
    // Without a limit only the first is overloaded: the second waits for its own workers.
    let mut scenario = two(false);
    scenario.phases[0].kinds[1] = Conditions::at(0.5);
    let report = run(&scenario, 1 << 20);
    assert!(report.of_kind(0)[0].goodput() < 20.0);
    assert_near(report.of_kind(1)[0].goodput(), 100.0, 0.03);
}

#[test]
fn the_oracle_of_a_kind_with_its_own_pool_is_that_of_the_kind_alone() {
    let both = two(false);
    let of_both = Oracle::of(&both, 1).scores;
    for kind in [0, 1] {
        let mut alone = both.clone();
        alone.phases[0].kinds[1 - kind] = Conditions::default();
        assert_eq!(Oracle::of(&alone, 1).scores[kind], of_both[kind]);
    }
    assert_near(of_both[0][0].good / 60.0, 200.0, 0.02);
}

#[test]
fn the_oracle_of_kinds_that_share_a_pool_has_one_limit() {
    let [first, second] = [0, 1].map(|kind| Oracle::of(&two(true), 1).scores[kind][0]);
    assert_eq!(first.limit, second.limit);
    assert_near((first.good + second.good) / 60.0, 200.0, 0.04);
}

#[test]
fn the_same_seed_gives_the_same_report_and_another_seed_another_one() {
    let scenario = mixtures(Size::Tiny, Length::Short).swap_remove(0);
    let report = |seed| {
        let report = Lab::seed(seed).run(&scenario, Budget::adaptive);
        format!("{report:?}")
    };
    assert_eq!(report(1), report(1));
    assert_ne!(report(1), report(2));
}

#[test]
fn the_calls_of_a_kind_do_not_depend_on_other_kinds() {
    let offered = |other: f64| {
        let mut scenario = two(true);
        scenario.phases[0].kinds[0] = Conditions::at(other);
        run(&scenario, 1 << 20).of_kind(1)[0].offered
    };
    assert_eq!(offered(0.0), offered(2.0));
}

#[test]
fn kinds_of_one_name_have_one_report() {
    let kind = |name| Kind::new(name, pool());
    let kinds = [kind("one"), kind("others"), kind("others")];
    let scenario = Scenario::of("three", kinds).then(Phase::of(
        "all",
        20.0,
        [0.1, 0.2, 0.3].map(Conditions::at),
    ));
    assert_eq!(scenario.kind_names(), ["one", "others"]);
    let report = run(&scenario, 1 << 20);
    let offered = |phase: &PhaseReport| phase.offered;
    let [one, others] = [0, 1].map(|nth| offered(&report.of_kind(nth)[0]));
    assert_eq!(one + others, offered(&report.phases[0]));
    assert_near(others as f64 / one as f64, 5.0, 0.1);
}

#[test]
fn calls_held_by_their_client_keep_their_permits() {
    let server = Server::dependency(MILLI, Times::Fixed);
    let held = Kind::unqueued("held", server).timeout(Duration::from_secs(1_000));
    let conditions = Conditions {
        hanging: 1.0,
        ..Conditions::under(Load::rush(50.0, 0.0))
    };
    let scenario = Scenario::of("held", [held]).then(Phase::of("all", 10.0, [conditions]));
    let phase = &run(&scenario, 1 << 20).phases[0];
    let last = phase.ticks.last().expect("there are ticks").in_flight;
    assert_eq!((last, phase.good), (phase.offered, 0));
    assert!((30..70).contains(&last), "{last}");
}

#[test]
fn a_stream_holds_its_permit_from_its_head_to_its_end() {
    let mut kind = Kind::unqueued("stream", Server::dependency(MILLI, Times::Fixed));
    kind.body = Duration::from_secs(3);
    kind.callers.timeout = Duration::from_secs(4);
    let scenario = Scenario::of("streams", [kind])
        .then(Phase::of("all", 60.0, [Conditions::at(20.0)]))
        .then(Phase::of("then", 5.0, [Conditions::default()]));
    let report = run(&scenario, 1 << 20);
    let ticks = &report.phases[0].ticks[100..];
    let in_flight = ticks.iter().map(|tick| tick.in_flight).sum::<usize>() as f64;
    // By Little's law.
    assert_near(in_flight / ticks.len() as f64, 60.0, 0.1);
    assert_near(report.phases[0].latency(0.5).as_secs_f64(), 3.0, 0.01);
    let last = report.phases[1].ticks.last().expect("there are ticks");
    assert_eq!(last.in_flight, 0);
}

/// A controller that never changes its limit, and records the outcomes of samples.
#[derive(Debug)]
struct Recorded(Arc<Mutex<Vec<Outcome>>>);

impl Controller for Recorded {
    fn limits(&self) -> RangeInclusive<usize> {
        1..=1_000
    }

    fn initial_limit(&self) -> usize {
        1_000
    }

    fn update(&mut self, window: &Window<'_>) -> Decision {
        let outcomes = window.samples.iter().map(|sample| sample.outcome);
        self.0.lock().unwrap().extend(outcomes);
        Decision::new(window.limit, "constant")
    }
}

#[test]
fn the_layer_sees_the_responses_of_a_kind() {
    for (response, outcome) in [
        (Answer::Status(404), Outcome::Success),
        (Answer::Status(503), Outcome::Overload),
        (Answer::Status(408), Outcome::Cancelled),
        (Answer::Status(429), Outcome::Ignored),
        (Answer::Grpc(8), Outcome::Overload),
    ] {
        let mut kind = Kind::new("failing", pool());
        kind.failure.response = response;
        let conditions = Conditions {
            failing: 1.0,
            ..Conditions::at(0.5)
        };
        let scenario = Scenario::of("fails", [kind]).then(Phase::of("all", 10.0, [conditions]));
        let outcomes = Arc::default();
        let budget = || Budget::new(Recorded(Arc::clone(&outcomes)));
        let report = Lab::seed(1).run(&scenario, budget);
        assert_eq!(report.phases[0].good, 0, "a failure is no goodput");
        let outcomes = outcomes.lock().unwrap();
        let is_expected = |found: &Outcome| *found == outcome;
        assert!(!outcomes.is_empty(), "{response:?}");
        let is_as_expected = outcomes.iter().all(is_expected);
        assert!(is_as_expected, "{response:?}: {:?}", outcomes[0]);
    }
}

#[test]
fn a_pause_stops_all_work_and_delays_what_is_in_service() {
    for server in [pool(), Server::shared(4, 20 * MILLI, Times::Exponential)] {
        let conditions = Conditions {
            disturbance: Some(Disturbance {
                lasts: Duration::from_secs(1),
                every: Duration::from_secs(10),
                workers: 0.0,
            }),
            ..Conditions::at(0.3)
        };
        let mut scenario =
            Scenario::new("pause", server).then(Phase::of("all", 10.0, [conditions]));
        scenario.kinds[0].callers.timeout = Duration::from_secs(100);
        let phase = &run(&scenario, 1 << 20).phases[0];
        // The first pause is from 5 s to 6 s.
        let good = |ticks: &[crate::phase_report::Tick]| -> usize {
            ticks.iter().map(|tick| tick.good).sum()
        };
        assert_eq!(good(&phase.ticks[50..60]), 0);
        assert_near(good(&phase.ticks[60..70]) as f64, 2.0 * 60.0, 0.25);
        assert_near(phase.good as f64, phase.offered as f64, 0.02);
    }
}

#[test]
fn a_disturbance_takes_a_share_of_the_workers() {
    let conditions = Conditions {
        disturbance: Some(Disturbance {
            lasts: Duration::from_secs(5),
            every: Duration::from_secs(10),
            workers: 0.5,
        }),
        ..Conditions::at(3.0)
    };
    let scenario = Scenario::new("neighbour", pool()).then(Phase::of("all", 100.0, [conditions]));
    let phase = &run(&scenario, 12).phases[0];
    assert_near(phase.goodput(), 200.0 * 0.75, 0.04);
}

#[test]
fn service_times_change_within_a_phase() {
    let conditions = Conditions {
        service: (2.0, 4.0),
        ..Conditions::at(0.1)
    };
    let server = Server::pool(100, 20 * MILLI, Times::Fixed);
    let scenario = Scenario::new("slower", server).then(Phase::of("all", 60.0, [conditions]));
    let phase = &run(&scenario, 1 << 20).phases[0];
    assert_near(phase.latency(0.5).as_secs_f64(), 0.06, 0.03);
    assert_near(phase.latency(1.0).as_secs_f64(), 0.08, 0.03);
}

#[test]
fn a_load_follows_its_curve() {
    let offered = |load| {
        let server = Server::pool(1, MILLI, Times::Fixed);
        let scenario =
            Scenario::new("curve", server).then(Phase::of("all", 100.0, [Conditions::under(load)]));
        let ticks = run(&scenario, 1 << 20).phases.remove(0).ticks;
        let quarter = |nth: usize| -> usize {
            let ticks = &ticks[nth * 250..(nth + 1) * 250];
            ticks.iter().map(|tick| tick.offered).sum()
        };
        [0, 1, 2, 3].map(|nth| quarter(nth) as f64 / 25_000.0)
    };
    let mean = 2.0 / std::f64::consts::PI;
    let wave = Load::Wave {
        low: 0.0,
        high: 1.0,
        period: Duration::from_secs(100),
    };
    let [first, second, third, fourth] = offered(wave);
    for (found, expected) in [
        (first, 0.5 + mean / 2.0),
        (second, 0.5 + mean / 2.0),
        (third, 0.5 - mean / 2.0),
        (fourth, 0.5 - mean / 2.0),
    ] {
        assert_near(found, expected, 0.03);
    }
    let ramp = Load::Ramp {
        from: 0.0,
        to: 1.0,
        within: Duration::from_secs(50),
    };
    let [first, second, third, fourth] = offered(ramp);
    for (found, expected) in [(first, 0.25), (second, 0.75), (third, 1.0), (fourth, 1.0)] {
        assert_near(found, expected, 0.03);
    }
}

#[test]
fn times_of_all_distributions_have_the_stated_mean() {
    for times in [
        Times::Exponential,
        Times::Lognormal(1.0),
        Times::Pareto(2.5),
        Times::Pareto(1.5),
    ] {
        let mut random = Random::new(1);
        let count = 1_000_000;
        let sum: f64 = (0..count).map(|_| random.time(times, 0.0)).sum();
        // With a shape of 1.5 the variance is infinite, and the mean of a sample far from exact.
        let tolerance = if times == Times::Pareto(1.5) {
            0.1
        } else {
            0.02
        };
        assert_near(sum / f64::from(count), 1.0, tolerance);
    }
}
