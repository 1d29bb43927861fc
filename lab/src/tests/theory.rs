//! Tests the simulator against queueing theory.

use std::time::Duration;

use loadshed::Budget;

use crate::{
    catalogue::scenarios,
    options::{AdmissionPath, Lab},
    oracle::Oracle,
    phase_report::{PhaseReport, Tick},
    report::Report,
    scenario::{
        callers::Callers,
        load::Load,
        phase::Phase,
        scenario::Scenario,
        server::{Server, Station, Times},
    },
    size::{Length, Size},
};

const MILLI: Duration = Duration::from_millis(1);

/// Returns a scenario of one phase, whose callers have practically no timeout.
fn without_timeout(server: Server, seconds: f64, load: f64) -> Scenario {
    let mut scenario = Scenario::new("theory", server).then(Phase::new("all", seconds, load));
    scenario.kinds[0].callers.timeout = Duration::from_secs(1_000_000);
    scenario
}

fn run(scenario: &Scenario, limit: usize) -> Report {
    Lab::seed(1)
        .ratio(1.0)
        .run(scenario, || Budget::fixed(limit))
}

/// A limit that no scenario reaches.
const UNLIMITED: usize = 1 << 20;

fn mean_in_flight(phase: &PhaseReport) -> f64 {
    phase
        .ticks
        .iter()
        .map(|tick| tick.in_flight as f64)
        .sum::<f64>()
        / phase.ticks.len() as f64
}

#[track_caller]
fn assert_near(found: f64, expected: f64, tolerance: f64) {
    let off = found / expected - 1.0;
    assert!(
        off.abs() <= tolerance,
        "{found:.4} is off {expected:.4} by {:.1} %",
        off * 100.0
    );
}

/// Returns the probability that a call waits in an M/M/c queue (Erlang C).
fn erlang_c(servers: usize, offered: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 0.0;
    for nth in 0..servers {
        sum += term;
        term *= offered / (nth + 1) as f64;
    }
    let waiting = term / (1.0 - offered / servers as f64);
    waiting / (sum + waiting)
}

#[test]
fn arrivals_are_a_poisson_process() {
    let scenario = without_timeout(Server::pool(10, 100 * MILLI, Times::Fixed), 2_000.0, 0.5);
    let phase = &run(&scenario, UNLIMITED).phases[0];
    // The standard deviation of 100,000 arrivals is 316.
    assert_near(phase.offered as f64, 100_000.0, 0.01);
    let ticks = &phase.ticks;
    let mean = ticks.iter().map(|tick| tick.offered as f64).sum::<f64>() / ticks.len() as f64;
    let square = |tick: &Tick| (tick.offered as f64 - mean).powi(2);
    let variance = ticks.iter().map(square).sum::<f64>() / ticks.len() as f64;
    assert_near(mean, 5.0, 0.01);
    assert_near(variance, mean, 0.05);
}

#[test]
fn one_worker_is_a_queue_of_m_m_1() {
    // μ = 100/s and λ = 70/s: 2⅓ calls in the system on average, and an exponential response time with a rate of 30/s.
    let scenario = without_timeout(
        Server::pool(1, 10 * MILLI, Times::Exponential),
        20_000.0,
        0.7,
    );
    let phase = &run(&scenario, UNLIMITED).phases[0];
    assert_near(mean_in_flight(phase), 0.7 / 0.3, 0.05);
    for quantile in [0.5, 0.9, 0.99] {
        let expected = -f64::ln(1.0 - quantile) / 30.0;
        assert_near(phase.latency(quantile).as_secs_f64(), expected, 0.05);
    }
}

#[test]
fn several_workers_are_a_queue_of_m_m_c() {
    // The calls in flight are the calls in service and the calls in the queue.
    let (workers, load) = (8, 0.85);
    let server = Server::pool(workers, 80 * MILLI, Times::Exponential);
    let phase = &run(&without_timeout(server, 10_000.0, load), UNLIMITED).phases[0];
    let busy = workers as f64 * load;
    let expected = busy + erlang_c(workers, busy) * load / (1.0 - load);
    assert_near(mean_in_flight(phase), expected, 0.05);
}

#[test]
fn fixed_times_wait_half_as_long_as_exponential_ones() {
    // M/D/1, by the Pollaczek–Khinchine formula.
    let scenario = without_timeout(Server::pool(1, 10 * MILLI, Times::Fixed), 20_000.0, 0.8);
    let phase = &run(&scenario, UNLIMITED).phases[0];
    assert_near(mean_in_flight(phase), 0.8 + 0.8 * 0.8 / (2.0 * 0.2), 0.05);
}

#[test]
fn a_shared_processor_is_insensitive_to_the_distribution_of_times() {
    // M/G/1 with processor sharing: ρ ÷ (1 − ρ) for any distribution G.
    let bimodal = Times::Bimodal {
        short: 0.5,
        long: 5.5,
    };
    for times in [Times::Fixed, Times::Exponential, bimodal] {
        let server = Server {
            station: Station::Shared { thrash: 0.0 },
            ..Server::pool(1, 10 * MILLI, times)
        };
        let mut scenario = without_timeout(server, 20_000.0, 0.7);
        scenario.phases[0].kinds[0].long = 0.1;
        let phase = &run(&scenario, UNLIMITED).phases[0];
        assert_near(mean_in_flight(phase), 0.7 / 0.3, 0.06);
    }
}

#[test]
fn a_pool_that_is_never_idle_serves_its_capacity() {
    let server = Server::pool(4, 80 * MILLI, Times::Fixed);
    let phase = &run(&without_timeout(server, 100.0, 3.0), 8).phases[0];
    assert_near(phase.goodput(), 50.0, 0.005);
    assert_eq!(phase.ticks.iter().map(|tick| tick.in_flight).max(), Some(8));
    // The limit is twice the number of workers: a call waits for one service time, less the time for which its permit was free.
    assert_near(phase.latency(0.5).as_secs_f64(), 0.16 - 1.0 / 150.0, 0.02);
}

#[test]
fn past_the_knee_a_thrashing_server_serves_as_the_formula_says() {
    for (thrash, times_the_knee) in [(0.0, 2), (0.2, 2), (1.0, 2), (1.0, 3)] {
        let server = Server {
            station: Station::Shared { thrash },
            ..Server::pool(50, 100 * MILLI, Times::Exponential)
        };
        let phase = &run(&without_timeout(server, 100.0, 5.0), 50 * times_the_knee).phases[0];
        let expected = 500.0 / (1.0 + thrash * (times_the_knee as f64 - 1.0));
        assert_near(phase.goodput(), expected, 0.02);
    }
}

#[test]
fn a_dependency_takes_its_time_and_is_never_saturated() {
    let server = Server {
        station: Station::None,
        dependency: Some(50 * MILLI),
        ..Server::pool(1, 10 * MILLI, Times::Fixed)
    };
    let mut scenario = without_timeout(server, 1_000.0, 10.0);
    scenario.phases[0].kinds[0].slowdown = (2.0, 4.0);
    let phase = &run(&scenario, UNLIMITED).phases[0];
    // By Little's law: 1,000/s × 150 ms on average.
    assert_near(mean_in_flight(phase), 150.0, 0.02);
    assert_near(phase.latency(0.5).as_secs_f64(), 0.15, 0.02);
    assert_near(phase.latency(1.0).as_secs_f64(), 0.2, 0.02);
}

#[test]
fn work_continues_after_the_caller_has_timed_out() {
    // Without a limit, an overloaded server completes every call after its timeout.
    let server = Server::pool(4, 80 * MILLI, Times::Fixed);
    let scenario = Scenario::new("overload", server)
        .then(Phase::new("first", 10.0, 3.0))
        .then(Phase::new("later", 30.0, 3.0));
    assert_eq!(run(&scenario, UNLIMITED).phases[1].good, 0);
    assert_near(run(&scenario, 8).phases[1].goodput(), 50.0, 0.01);
}

#[test]
fn callers_cancel_at_their_timeout() {
    let mut scenario = without_timeout(Server::pool(4, 80 * MILLI, Times::Fixed), 100.0, 0.2);
    scenario.kinds[0].callers.short_timeout = Some((0.25, 40 * MILLI));
    let phase = &run(&scenario, UNLIMITED).phases[0];
    assert_near(phase.good as f64, 0.75 * phase.offered as f64, 0.03);
    assert_near(phase.servable as f64, phase.good as f64, 0.01);
}

#[test]
fn a_refused_caller_retries_up_to_its_limit() {
    let mut scenario = Scenario::new("storm", Server::pool(1, 100 * MILLI, Times::Fixed))
        .then(Phase::new("all", 100.0, 20.0))
        .then(Phase::new("last retries", 2.0, 0.0));
    scenario.kinds[0].callers.retries = 3;
    let report = run(&scenario, 1);
    let [all, last] = &report.phases[..] else {
        panic!("two phases")
    };
    let (admitted, refused) = (all.admitted + last.admitted, all.refused + last.refused);
    let gave_up = all.offered - admitted;
    // A caller that gave up was refused four times, and an admitted caller at most three times.
    assert!(
        (4 * gave_up..=4 * gave_up + 3 * admitted).contains(&refused),
        "{refused}"
    );
}

#[test]
fn bursts_arrive_on_schedule() {
    let mut scenario = without_timeout(Server::pool(10, 100 * MILLI, Times::Fixed), 1_000.0, 0.0);
    scenario.phases[0].kinds[0].load = Load::Bursts {
        base: 0.1,
        peak: 5.0,
        lasts: 500 * MILLI,
        every: Duration::from_secs(5),
    };
    let phase = &run(&scenario, UNLIMITED).phases[0];
    assert_near(
        phase.offered as f64,
        1_000.0 * (0.1 * 500.0 + 0.9 * 10.0),
        0.02,
    );
    let in_bursts = phase.ticks.chunks(50).flat_map(|cycle| &cycle[..5]);
    let in_bursts: usize = in_bursts.map(|tick| tick.offered).sum();
    assert_near(in_bursts as f64, 50_000.0, 0.02);
}

#[test]
fn the_oracle_takes_the_smallest_of_the_limits_that_are_best() {
    let best = |server, load| {
        let scenario = Scenario::new("trivial", server).then(Phase::new("all", 60.0, load));
        let score = Oracle::of(&scenario, 1).scores[0][0];
        (score.limit, score.good / 60.0)
    };
    // Any limit from the number of workers to ten times that; the smallest of them leave workers idle at moments.
    let pool = Server::pool(20, 100 * MILLI, Times::Fixed);
    let (limit, goodput) = best(pool, 3.0);
    assert!((20..=24).contains(&limit), "{limit}");
    assert_near(goodput, 200.0, 0.005);
    // Each call above the knee costs throughput.
    let thrash = Server {
        station: Station::Shared { thrash: 1.0 },
        ..pool
    };
    let (limit, goodput) = best(thrash, 3.0);
    assert!((19..=21).contains(&limit), "{limit}");
    assert_near(goodput, 200.0, 0.05);
    // Without saturation, the smallest limit that refuses hardly anything.
    let (limit, goodput) = best(pool, 0.5);
    assert!((15..=23).contains(&limit), "{limit}");
    assert_near(goodput, 100.0, 0.05);
}

#[test]
fn the_oracle_is_near_the_bound_where_chance_is_small() {
    let names = [
        "step 3 ×, fixed",
        "hangs at 3 ×, fixed",
        "capacity drop at 1.25 ×, fixed",
        "slow then",
    ];
    for scenario in scenarios(Size::Tiny, Length::Short) {
        if !names.iter().any(|name| scenario.name.starts_with(name)) {
            continue;
        }
        let report = run(&scenario, UNLIMITED);
        for (phase, score) in Oracle::of(&scenario, 1).scores[0].iter().enumerate() {
            assert_near(score.good, report.bound(&scenario, 0, phase), 0.05);
        }
    }
}

#[test]
fn the_budget_alone_decides_as_the_layer_does() {
    for scenario in scenarios(Size::Tiny, Length::Short) {
        let by = |path| {
            let lab = Lab::seed(3).ratio(0.85).path(path);
            lab.run(&scenario, || Budget::fixed(9))
        };
        let (layer, budget) = (by(AdmissionPath::Layer), by(AdmissionPath::Budget));
        assert_eq!(
            format!("{layer:?}"),
            format!("{budget:?}"),
            "{}",
            scenario.name
        );
    }
}

#[test]
fn a_report_adds_up() {
    // One permit, held for 100 ms, and 20 calls a second.
    let server = Server {
        station: Station::None,
        dependency: Some(100 * MILLI),
        ..Server::pool(2, 100 * MILLI, Times::Fixed)
    };
    let mut scenario = Scenario::new("one permit", server)
        .then(Phase::new("quiet", 5.0, 0.0))
        .then(Phase::new("busy", 20.0, 1.0));
    scenario.kinds[0].callers = Callers::default();
    let report = run(&scenario, 1);
    let (quiet, busy) = (&report.phases[0], report.phase("busy").expect("it has run"));
    assert_eq!(
        (quiet.offered, quiet.ticks.len(), busy.ticks.len()),
        (0, 50, 200)
    );
    assert_eq!(busy.admitted + busy.refused, busy.offered);
    assert!(busy.refused_later < busy.refused && busy.good.abs_diff(busy.admitted) <= 1);
    let sum = |of: fn(&Tick) -> usize| busy.ticks.iter().map(of).sum::<usize>();
    assert_eq!(sum(|tick| tick.offered), busy.offered);
    assert_eq!(sum(|tick| tick.admitted), busy.admitted);
    assert_eq!(sum(|tick| tick.good), busy.good);
    // Each admitted call keeps out the calls of the next 100 ms, 2 on average: a third of the calls is served.
    assert_near(busy.goodput(), 20.0 / 3.0, 0.15);
    assert_near(busy.latency(0.99).as_secs_f64(), 0.1, 0.01);
    assert_eq!(busy.limit(), (1.0, 0.0));
    assert_eq!(quiet.recovery_to(1.0), None);
    // One good second is not a recovery.
    let mut late = busy.clone();
    for (nth, tick) in late.ticks.iter_mut().enumerate() {
        tick.good = usize::from(!(10..50).contains(&nth));
    }
    assert_eq!(late.recovery_to(10.0), Some(Duration::from_secs(6)));
    late.ticks.truncate(60);
    assert_eq!(late.recovery_to(10.0), None);
    assert_eq!(busy.recovery_to(1.0), Some(Duration::from_secs(1)));
}
