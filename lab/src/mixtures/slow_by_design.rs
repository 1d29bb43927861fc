//! A quick kind beside calls that take long by design, such as long polls, streams, exports and model calls.

use loadshed::Measure;

use super::parts::{Scale, absent, idle, limited, rush, slow, streams};
use crate::scenario::{kind::Kind, phase::Phase, scenario::Scenario, server::Times};

/// Calls that take long: the kind, how many come at once, and how many a second then.
struct Slow {
    name: &'static str,
    kind: Kind,
    count: f64,
    rate: f64,
}

pub(super) fn scenarios(scale: &Scale) -> Vec<Scenario> {
    let all = || [few(), hundreds()];
    let measured_to_the_end = |scenario: Scenario| Scenario {
        name: format!("{}, measured to the end of bodies", scenario.name),
        measure: Measure::Body,
        ..scenario
    };
    let mut scenarios = Vec::new();
    for load in [0.1, 0.8] {
        scenarios.extend(all().map(|slow| from_the_start(scale, slow, load)));
        scenarios.extend(all().map(|slow| later(scale, slow, load)));
        scenarios.push(from_the_start(scale, model_calls(), load));
    }
    let streams = later(scale, with_body(), 0.5);
    scenarios.extend([streams.clone(), measured_to_the_end(streams)]);
    scenarios.extend([lasting(20.0), lasting(300.0)].map(|slow| stay_in_overload(scale, slow)));
    scenarios.extend(all().map(|slow| in_overload(scale, slow)));
    scenarios
}

/// 20 exports of 30 s, and further ones at the same number in flight.
fn few() -> Slow {
    Slow {
        name: "few",
        kind: slow(30.0, Times::Fixed),
        count: 20.0,
        rate: 20.0 / 30.0,
    }
}

/// 300 long polls of 25 s on average, each of which is followed by the next.
fn hundreds() -> Slow {
    Slow {
        name: "hundreds",
        kind: slow(25.0, Times::Exponential),
        count: 300.0,
        rate: 12.0,
    }
}

/// 300 streams of 25 s on average, whose responses begin at once.
fn with_body() -> Slow {
    Slow {
        name: "streams",
        kind: streams(25.0),
        ..hundreds()
    }
}

/// 4 calls a second of 25 s on average, from none on.
fn model_calls() -> Slow {
    Slow {
        name: "model calls",
        kind: slow(25.0, Times::Exponential),
        count: 4.0,
        rate: 4.0,
    }
}

/// Exports that last as long as the scenario.
fn lasting(count: f64) -> Slow {
    Slow {
        name: if count < 100.0 { "few" } else { "hundreds" },
        kind: slow(120.0, Times::Fixed),
        count,
        rate: 0.0,
    }
}

fn scenario(scale: &Scale, slow: &Slow, rest: &str) -> Scenario {
    let name = format!("slow by design, {} {rest}", slow.name);
    Scenario::of(name, [scale.quick(), slow.kind.clone()])
}

fn from_the_start(scale: &Scale, slow: Slow, load: f64) -> Scenario {
    let beside = [idle(load), rush(slow.count, slow.rate)];
    scenario(scale, &slow, &format!("from the start, {load} ×"))
        .then(Phase::of("beside", scale.long, beside))
        .then(Phase::of("they leave", scale.long, [idle(load), absent()]))
}

fn later(scale: &Scale, slow: Slow, load: f64) -> Scenario {
    let beside = [idle(load), rush(slow.count, slow.rate)];
    scenario(scale, &slow, &format!("later, {load} ×"))
        .then(Phase::of("alone", scale.brief, [idle(load), absent()]))
        .then(Phase::of("beside", scale.long, beside))
        .then(Phase::of("they leave", scale.long, [idle(load), absent()]))
}

/// The slow calls are there before the overload, and stay.
fn stay_in_overload(scale: &Scale, slow: Slow) -> Scenario {
    let beside = [idle(0.5), rush(slow.count, 0.0)];
    scenario(scale, &slow, "stay, 3 ×")
        .then(Phase::of("alone", scale.brief, [idle(0.5), absent()]))
        .then(Phase::of("beside", scale.brief, beside))
        .then(Phase::of("over", scale.long, [limited(3.0), absent()]))
        .then(Phase::of("after", scale.brief, [limited(0.5), absent()]))
}

/// Slow calls come during the overload, too.
fn in_overload(scale: &Scale, slow: Slow) -> Scenario {
    let (first, rest) = (rush(slow.count, slow.rate), rush(slow.rate, slow.rate));
    scenario(scale, &slow, "come and go, 3 ×")
        .then(Phase::of("beside", scale.brief, [idle(0.5), first]))
        .then(Phase::of("over", scale.long, [limited(3.0), rest]))
        .then(Phase::of("after", scale.long, [limited(0.5), rest]))
}
