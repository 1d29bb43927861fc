//! Kinds whose shares change, and a cache that is lost.

use super::parts::{AS_ORACLE, MILLI, Scale, UNREFUSED};
use crate::scenario::{
    kind::Kind,
    load::Load,
    phase::{Conditions, Phase},
    scenario::Scenario,
    server::{Server, Times},
};

pub(super) fn scenarios(scale: &Scale) -> Vec<Scenario> {
    let mut all: Vec<_> = [0.8, 1.2].map(|load| mix(scale, load)).into();
    all.extend([true, false].map(|is_cold| cache(scale, is_cold)));
    all
}

/// Of 2 ms calls and 200 ms calls first one in ten is long, then nine in ten, and then one in ten again. Each change takes a
/// second.
fn mix(scale: &Scale, load: f64) -> Scenario {
    let kind = |name, millis: u32| {
        let kind = Kind::new(name, scale.pool(millis * MILLI)).at(format!("/{name}"));
        Kind { unit: 1.0, ..kind }
    };
    let kinds = [kind("short", 2), kind("long", 200).sharing(0)];
    // The calls a second of each kind at this share of long calls.
    let rates = |long: f64| {
        let mean = (1.0 - long) * 0.002 + long * 0.2;
        let all = load * scale.workers as f64 / mean;
        [all * (1.0 - long), all * long]
    };
    let phase = |name, seconds, from, to| {
        let (from, to): ([f64; 2], [f64; 2]) = (rates(from), rates(to));
        let ramp = |nth: usize| Load::Ramp {
            from: from[nth],
            to: to[nth],
            within: 1_000 * MILLI,
        };
        let kinds = [0, 1].map(|nth| Conditions::under(ramp(nth)).must(AS_ORACLE));
        Phase::of(name, seconds, kinds)
    };
    Scenario::of(format!("shifting mix, {load} ×"), kinds)
        .then(phase("10 % long", scale.brief, 0.1, 0.1))
        .then(phase("90 % long", scale.long, 0.1, 0.9))
        .then(phase("10 % again", scale.brief, 0.9, 0.1))
}

/// A cache that is lost makes calls ten times slower, and is warm again at the end of the phase. A kind without the cache shares
/// the pool.
fn cache(scale: &Scale, is_cold: bool) -> Scenario {
    let server = Server::pool(scale.workers, 5 * MILLI, Times::Exponential);
    let cached = Kind::new("cached", server).at("/cached");
    let other = Kind::new("other", server).at("/other").sharing(0);
    let when = if is_cold { "cold" } else { "lost" };
    let warm = Conditions::at(0.25);
    let cold = Conditions {
        service: (10.0, 1.0),
        ..warm
    };
    let phase = |name, seconds, cached: Conditions, criterion| {
        let kinds = [cached, warm].map(|kind| kind.must(criterion));
        Phase::of(name, seconds, kinds)
    };
    let mut scenario = Scenario::of(format!("shifting mix, a {when} cache"), [cached, other]);
    if !is_cold {
        scenario = scenario.then(phase("warm", scale.brief, warm, UNREFUSED));
    }
    scenario
        .then(phase(when, scale.long, cold, AS_ORACLE))
        .then(phase("warm again", scale.brief, warm, AS_ORACLE))
}
