//! CRITICAL calls of one kind, and a flood of SHEDDABLE calls of another, on one pool.

use super::parts::Scale;
use crate::{
    criterion::Criterion,
    scenario::{
        kind::{Counted, Kind},
        phase::{Conditions, Phase},
        scenario::Scenario,
        server::{Server, Times},
    },
    size::Size,
};

/// Returns scenarios for servers of 64 workers and more: with fewer, chance decides.
pub(super) fn scenarios(scale: &Scale) -> Vec<Scenario> {
    match scale.size {
        Size::Tiny | Size::Slow => Vec::new(),
        _ => [1, 10].map(|times| scenario(scale, times)).into(),
    }
}

/// The calls of the flood take so many times less than the CRITICAL ones.
fn scenario(scale: &Scale, times: u32) -> Scenario {
    let server = scale.size.pool(Times::Exponential);
    let quicker = Server {
        service: server.service / times,
        ..server
    };
    let mut critical = Kind::new("CRITICAL", server).at("/critical");
    // Their share is of all calls, also of those that come at the end of the phase.
    critical.counted = Counted::Whenever;
    let mut flood = Kind::new("SHEDDABLE", quicker).at("/sheddable").sharing(0);
    // The flood has the same number of calls however long they take: 12 × the capacity, and 1.2 × where they are 10 × apart.
    flood.unit = critical.unit;
    let conditions = Conditions {
        critical: 0.5,
        ..Conditions::at(0.0).must(Criterion::Critical(0.994))
    };
    let load = 12.0;
    let name = format!("priorities across kinds, {times} × apart");
    Scenario::of(name, [critical, flood])
        .then(Phase::of("before", scale.brief, [conditions, Conditions::at(0.01)]).unscored())
        .then(Phase::of(
            "flood",
            scale.long,
            [conditions, Conditions::at(load).unscored()],
        ))
}
