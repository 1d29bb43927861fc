//! A server and its callers, drawn at random.

use std::time::Duration;

use crate::{
    random::Random,
    scenario::{
        kind::Kind,
        server::{Server, Times},
    },
};

/// The share of long calls at which the mean of [`BIMODAL`] is 1.
pub(super) const LONG: f64 = 0.02;

/// Most calls take a fifth, and one in fifty 41 times the mean.
const BIMODAL: Times = Times::Bimodal {
    short: 0.2,
    long: 40.2,
};

/// The largest capacity, in calls a second: a run takes a second or two.
const MOST_CALLS: f64 = 8_000.0;

/// Draws a kind: a pool or a processor of 1 to 100 workers, a service time of 1 to 200 ms with one of six distributions, and for
/// two in five a dependency. Callers wait 8 to 200 service times, at least 0.2 s and at most 10 s.
pub(super) fn kind(random: &mut Random) -> Kind {
    let seconds = Duration::from_secs_f64;
    let service = random.between(0.001, 0.2);
    let workers = random.between(1.0, 100.0).round();
    let service = service.max(workers / MOST_CALLS);
    let workers = workers as usize;
    let times = match random.uniform() {
        x if x < 0.15 => Times::Fixed,
        x if x < 0.45 => Times::Exponential,
        x if x < 0.6 => Times::Lognormal(1.0),
        x if x < 0.7 => Times::Lognormal(2.0),
        x if x < 0.85 => Times::Pareto(1.5),
        _ => BIMODAL,
    };
    let [is_shared, has_dependency] = [random.uniform() < 0.3, random.uniform() < 0.4];
    let dependency = random.between(0.005, 0.1);
    let mut server = match is_shared {
        true => Server::shared(workers, seconds(service), times),
        false => Server::pool(workers, seconds(service), times),
    };
    server.dependency = has_dependency.then(|| seconds(dependency));
    let timeout = (service * random.between(8.0, 200.0)).clamp(0.2, 10.0);
    Kind::new("main", server)
        .at("/main")
        .timeout(seconds(timeout))
}

/// Describes a kind in a few words.
pub(super) fn describe(kind: &Kind) -> String {
    let Server {
        station,
        workers,
        service,
        times,
        ..
    } = kind.server;
    let station = match station {
        crate::scenario::server::Station::Pool => "pool",
        _ => "processor",
    };
    let times = match times {
        Times::Bimodal { .. } => "bimodal".to_owned(),
        times => format!("{times:?}").to_lowercase(),
    };
    format!(
        "{station} {workers} × {:.1} ms {times}, {:.1} s",
        service.as_secs_f64() * 1e3,
        kind.callers.timeout.as_secs_f64()
    )
}
