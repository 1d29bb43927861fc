//! Spikes: ten times the capacity for a second, after a light load.

use std::time::Duration;

use crate::{
    criterion::Criterion,
    scenario::{
        kind::Kind,
        phase::{Conditions, Phase},
        scenario::Scenario,
        server::{Server, Station, Times},
    },
    size::Size,
};

/// The client timeouts of the scenarios.
const TIMEOUTS: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(10),
];

/// The mean score, where the client timeout is known and where it is not.
const KNOWN: f64 = 0.85;
const UNKNOWN: f64 = 0.6;

/// Returns spikes on servers of this size: on a pool and on a shared processor, by client timeout, and with and without a
/// request that states it. Where callers wait 100 ms, a call takes an eighth of that.
#[must_use]
pub fn spikes(size: Size) -> Vec<Scenario> {
    let pool = |times| ("pool", size.pool(times));
    let processor = Server {
        station: Station::Shared { thrash: 0.0 },
        ..size.pool(Times::Exponential)
    };
    let servers = [
        pool(Times::Fixed),
        pool(Times::Exponential),
        ("processor", processor),
    ];
    let mut all = Vec::new();
    for (station, server) in servers {
        for timeout in TIMEOUTS {
            for states_timeout in [false, true] {
                let service = match timeout < server.service * 2 {
                    true => timeout / 8,
                    false => server.service,
                };
                let server = Server { service, ..server };
                let mut kind = Kind::new("calls", server).timeout(timeout);
                kind.callers.states_timeout = states_timeout;
                all.push(scenario(size, station, kind));
            }
        }
    }
    all
}

fn scenario(size: Size, station: &str, kind: Kind) -> Scenario {
    let (mean, stated) = match kind.callers.states_timeout {
        true => (KNOWN, ", as stated"),
        false => (UNKNOWN, ""),
    };
    let allowance = if size == Size::Tiny { 0.1 } else { 0.05 };
    let criterion = Criterion::Score {
        mean,
        worst: mean - allowance,
    };
    let times = match kind.server.times {
        Times::Fixed => "fixed",
        _ => "exponential",
    };
    let timeout = kind.callers.timeout.as_secs_f64();
    let name = format!("spike, {station}, {times}, callers wait {timeout} s{stated}");
    let phase =
        |name, seconds, load| Phase::of(name, seconds, [Conditions::at(load).must(criterion)]);
    Scenario::of(name, [kind])
        .then(phase("before", 20.0, 0.5).unscored())
        .then(phase("spike", 1.0, 10.0))
        .then(phase("after", 10.0, 0.5))
}
