//! Kinds that each have a pool of their own, of which one is in difficulties.

use super::parts::{MILLI, Scale, idle, limited};
use crate::scenario::{
    kind::Kind,
    phase::{Conditions, Phase},
    scenario::Scenario,
    server::Server,
};

pub(super) fn scenarios(scale: &Scale) -> Vec<Scenario> {
    let mut all = Vec::new();
    for kinds in [2, 6] {
        let with = |what: &str, disturbed| scenario(scale, kinds, what, disturbed);
        all.extend([
            with("3 ×", limited(3.0)),
            with("10 ×", limited(10.0)),
            with(
                "its dependency slows down",
                Conditions {
                    slowdown: (10.0, 10.0),
                    ..idle(0.5)
                },
            ),
            with(
                "its dependency stops",
                Conditions {
                    hanging: 1.0,
                    ..Conditions::at(0.5).unscored()
                },
            ),
        ]);
    }
    all
}

fn scenario(scale: &Scale, kinds: usize, what: &str, disturbed: Conditions) -> Scenario {
    let server = Server {
        dependency: Some(25 * MILLI),
        ..scale.pool(20 * MILLI)
    };
    let kind = |nth| {
        let name = if nth == 0 { "one" } else { "others" };
        Kind::new(name, server).at(format!("/kind/{nth}"))
    };
    let phase = |name, seconds, first| {
        let mut all = vec![idle(0.5); kinds];
        all[0] = first;
        Phase::of(name, seconds, all)
    };
    let name = format!("own bottleneck, {kinds} kinds, one: {what}");
    Scenario::of(name, (0..kinds).map(kind))
        .then(phase("before", scale.brief, idle(0.5)))
        .then(phase("disturbed", scale.long, disturbed))
        .then(phase("after", scale.brief, limited(0.5)))
}
