//! A kind that answers errors in 1 ms for a while, beside one that works.

use super::parts::{MILLI, Scale, idle, limited};
use crate::{
    scenario::{
        kind::Kind,
        phase::{Conditions, Phase},
        scenario::Scenario,
        server::{Server, Times},
    },
    size::Size,
};

pub(super) fn scenarios(scale: &Scale) -> Vec<Scenario> {
    let mut all = Vec::new();
    for load in [0.5, 3.0] {
        for share in [0.3, 0.5, 0.7, 0.95] {
            // 20 times the rate of an overloaded large server takes minutes a seed.
            if scale.size != Size::Large || share < 0.9 {
                all.push(scenario(scale, share, load));
            }
        }
    }
    all
}

/// The feature has this share of all calls. It uses no worker of the other kind.
fn scenario(scale: &Scale, share: f64, load: f64) -> Scenario {
    let healthy = Kind::new("healthy", scale.pool(50 * MILLI)).at("/healthy");
    let mut feature =
        Kind::unqueued("feature", Server::dependency(50 * MILLI, Times::Fixed)).at("/feature");
    feature.unit = healthy.unit;
    let beside = |load: f64| load * share / (1.0 - share);
    let (works, fails) = (
        |load| Conditions::at(beside(load)).unscored(),
        |load| Conditions {
            failing: 1.0,
            ..Conditions::at(beside(load)).unscored()
        },
    );
    let over = match load < 1.0 {
        true => idle(load),
        false => limited(load),
    };
    let name = format!("failing feature, {:.0} % of calls, {load} ×", share * 100.0);
    let seconds = match scale.size {
        Size::Tiny => 2.0 * scale.long,
        _ => scale.brief,
    };
    Scenario::of(name, [healthy, feature])
        .then(Phase::of("before", scale.brief, [idle(0.5), works(0.5)]))
        .then(Phase::of("fails", seconds, [over, fails(load)]))
        .then(Phase::of("after", scale.brief, [limited(0.5), works(0.5)]))
}
