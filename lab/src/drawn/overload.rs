//! Overload scenarios drawn at random, for cases that the catalogue does not contain.

use std::time::Duration;

use crate::{
    random::Random,
    scenario::{
        phase::{Conditions, Phase},
        scenario::Scenario,
        server::{Server, Station, Times},
    },
};

/// The fault in the phase `changed`.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    /// Three in four workers fail; at least one remains.
    FewerWorkers,
    /// One call in five hangs until its caller times out.
    HangingCalls,
    /// The dependency of all calls takes up to ten times as long.
    SlowDependency,
}

/// The number of calls in a phase, where the phase then lasts at most 60 s and at least 12 s or six client timeouts.
const CALLS: f64 = 60_000.0;

/// Returns a server, its callers and an overload drawn at random. The same number gives the same scenario.
///
/// The server has 1 to 100 workers. The client timeout is 50 ms to 5 s, and 4 to 100 service times. The overload is 1.1 to 20
/// times the capacity. The phases are:
///
/// - `before`, in half of the scenarios: 5 s at half of the capacity;
/// - `first`: overload;
/// - `changed`: overload, with a fault in 55 % of the scenarios;
/// - `last`: overload without a fault;
/// - `after`: 5 s at half of the capacity.
#[must_use]
pub fn drawn_scenario(number: u64) -> Scenario {
    let mut random = Random::new(number);
    let timeout = random.between(0.05, 5.0);
    let service = (timeout / random.between(4.0, 100.0)).max(0.001);
    let workers = random.between(1.0, 100.0).round();
    let load = random.between(1.1, 20.0);
    let times = match random.uniform() {
        x if x < 0.35 => Times::Fixed,
        x if x < 0.85 => Times::Exponential,
        _ => Times::Bimodal {
            short: 0.3,
            long: 5.0,
        },
    };
    let fault = match random.uniform() {
        x if x < 0.25 => Fault::FewerWorkers,
        x if x < 0.4 => Fault::HangingCalls,
        x if x < 0.55 => Fault::SlowDependency,
        _ => Fault::None,
    };
    let [is_shared, begins_below_capacity] = [random.uniform() < 0.2, random.uniform() < 0.5];

    let seconds = Duration::from_secs_f64;
    let mut server = Server::pool(workers as usize, seconds(service), times);
    if is_shared {
        server.station = Station::Shared { thrash: 0.0 };
    }
    server.dependency = match fault {
        Fault::HangingCalls | Fault::SlowDependency => Some(seconds(service / 2.0)),
        Fault::None | Fault::FewerWorkers => None,
    };
    let length = CALLS / (server.capacity() * load);
    let length = length.clamp(6.0 * timeout.max(2.0), 60.0);
    let phase = |name: &str, length: f64, load: f64| {
        Phase::of(
            name,
            length,
            [Conditions {
                // With this share of long calls the mean is 1.
                long: 0.7 / 4.7,
                ..Conditions::at(load)
            }],
        )
    };
    let mut changed = phase("changed", length, load);
    match fault {
        Fault::None => {}
        Fault::FewerWorkers => changed.kinds[0].workers = (1.0 / workers).max(0.25),
        Fault::HangingCalls => changed.kinds[0].hanging = 0.2,
        Fault::SlowDependency => {
            let slowdown = (timeout / service / 2.0).min(10.0);
            changed.kinds[0].slowdown = (slowdown, slowdown);
        }
    }
    let name = format!(
        "{number}: {workers} × {:.1} ms, {times:?}{}, {:.2} s, {load:.1} ×, {fault:?}",
        service * 1e3,
        if is_shared { ", shared" } else { "" },
        timeout,
    );
    let mut scenario = Scenario::new(name, server);
    scenario.kinds[0].callers.timeout = seconds(timeout);
    if begins_below_capacity {
        scenario = scenario.then(phase("before", 5.0, 0.5));
    }
    scenario
        .then(phase("first", length / 2.0, load))
        .then(changed)
        .then(phase("last", length, load))
        .then(phase("after", 5.0, 0.5))
}
