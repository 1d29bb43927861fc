//! Floods of calls with bad outcomes beside a healthy kind.

use super::parts::{MILLI, Scale, absent, idle};
use crate::scenario::{
    kind::{Answer, Kind},
    phase::{Conditions, Phase},
    scenario::Scenario,
    server::{Server, Times},
};

pub(super) fn scenarios(scale: &Scale) -> Vec<Scenario> {
    let flood = |name, response, times| {
        let kind = failing(response);
        scenario(scale, name, kind, times)
    };
    vec![
        scenario(scale, "callers leave after 5 ms", leaving(), 0.3),
        flood("503s", Answer::Status(503), 1.5),
        flood("408s", Answer::Status(408), 1.5),
        flood("429s", Answer::Status(429), 3.0),
        flood("RESOURCE_EXHAUSTED", Answer::Grpc(8), 3.0),
    ]
}

/// Returns a kind that takes 20 ms and no worker, and whose callers cancel after 5 ms. The handler ends with its caller.
pub(super) fn leaving() -> Kind {
    let server = Server::dependency(20 * MILLI, Times::Fixed);
    Kind::unqueued("hostile", server).timeout(5 * MILLI)
}

/// Returns a kind that is answered after 2 ms in this way.
pub(super) fn failing(response: Answer) -> Kind {
    let server = Server::dependency(2 * MILLI, Times::Exponential);
    let mut kind = Kind::unqueued("hostile", server);
    kind.response = response;
    kind
}

/// The flood comes at this multiple of the healthy kind's capacity.
fn scenario(scale: &Scale, what: &str, hostile: Kind, times: f64) -> Scenario {
    let healthy = Kind::new("healthy", scale.pool(20 * MILLI)).at("/healthy");
    let mut hostile = hostile.at("/hostile");
    hostile.unit = healthy.unit;
    let flood = Conditions::at(times).unscored();
    Scenario::of(format!("hostile outcomes, {what}"), [healthy, hostile])
        .then(Phase::of("before", scale.brief, [idle(0.4), absent()]))
        .then(Phase::of("flood", scale.long, [idle(0.4), flood]))
        .then(Phase::of("after", scale.brief, [idle(0.4), absent()]))
}
