use std::time::Duration;

use crate::{
    random::Random,
    scenario::{Phase, Scenario, Server, Station, Times},
};

/// What happens meanwhile.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    /// Three in four workers are gone, but for the last one.
    FewerWorkers,
    /// One call in five hangs until its caller leaves.
    HangingCalls,
    /// Something else that all calls wait for takes up to ten times as long.
    SlowDependency,
}

/// So many calls in a phase, where that takes neither more than a minute nor less than six times as long as callers wait, or 12 s.
const CALLS: f64 = 60_000.0;

/// A server, its callers and an overload drawn at random, always the same by this number: for what no catalogue thinks of.
///
/// 1 to 100 workers, callers who wait 50 ms to 5 s and 4 to 100 times as long as a worker takes, 1.1 to 20 times what the
/// server can do. It begins with that, or after 5 s at half of the capacity, and lasts from the phase `first` through `changed`,
/// in which there is fault, to `last`, in which there is none any more; the phase `after` is at half of the capacity again.
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
    let phase = |name: &str, length: f64, load: f64| Phase {
        // With these the mean is 1.
        long: 0.7 / 4.7,
        ..Phase::new(name, length, load)
    };
    let mut changed = phase("changed", length, load);
    match fault {
        Fault::None => {}
        Fault::FewerWorkers => changed.workers = (1.0 / workers).max(0.25),
        Fault::HangingCalls => changed.hanging = 0.2,
        Fault::SlowDependency => {
            let slowdown = (timeout / service / 2.0).min(10.0);
            changed.slowdown = (slowdown, slowdown);
        }
    }
    let name = format!(
        "{number}: {workers} × {:.1} ms, {times:?}{}, {:.2} s, {load:.1} ×, {fault:?}",
        service * 1e3,
        if is_shared { ", shared" } else { "" },
        timeout,
    );
    let mut scenario = Scenario::new(name, server);
    scenario.callers.timeout = seconds(timeout);
    if begins_below_capacity {
        scenario = scenario.then(phase("before", 5.0, 0.5));
    }
    scenario
        .then(phase("first", length / 2.0, load))
        .then(changed)
        .then(phase("last", length, load))
        .then(phase("after", 5.0, 0.5))
}
