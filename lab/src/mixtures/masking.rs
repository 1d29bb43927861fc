//! Cheap requests beside an overloaded kind.

use super::parts::{MILLI, Scale, absent, idle, limited};
use crate::scenario::{
    kind::{Answer, Kind},
    phase::Phase,
    scenario::Scenario,
    server::{Server, Times},
};

pub(super) fn scenarios(scale: &Scale) -> Vec<Scenario> {
    let of = |name, status, times| scenario(scale, name, Answer::Status(status), times);
    vec![
        of("404s", 404, 2.0),
        of("404s", 404, 10.0),
        of("health checks", 200, 10.0),
    ]
}

/// The cheap requests take 1 ms, and come at this multiple of the job's capacity.
fn scenario(scale: &Scale, what: &str, response: Answer, times: f64) -> Scenario {
    let job = Kind::new("job", scale.pool(20 * MILLI)).at("/job");
    let mut cheap =
        Kind::unqueued("cheap", Server::dependency(MILLI, Times::Exponential)).at("/cheap");
    (cheap.unit, cheap.response) = (job.unit, response);
    Scenario::of(
        format!("masking, {what} at {times} × the rate"),
        [job, cheap],
    )
    .then(Phase::of("before", scale.brief, [idle(0.5), absent()]))
    .then(Phase::of("beside", scale.brief, [idle(0.5), idle(times)]))
    .then(Phase::of("over", scale.long, [limited(3.0), idle(times)]))
    .then(Phase::of("after", scale.brief, [limited(0.5), idle(times)]))
}
