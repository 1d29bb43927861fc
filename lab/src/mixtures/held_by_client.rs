//! Requests whose handlers wait for the client's bytes, beside a quick kind.

use super::parts::{NEVER, SECOND, Scale, absent, idle, limited};
use crate::scenario::{
    kind::Kind,
    load::Load,
    phase::{Conditions, Phase},
    scenario::Scenario,
    server::{Server, Times},
};

/// The number of uploads that come within a second.
const UPLOADS: f64 = 150.0;

/// How long a client does not send the rest of its upload.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hold {
    ForEver,
    /// A minute, after which the request completes. As many new ones come as have completed.
    Minute,
}

pub(super) fn scenarios(scale: &Scale) -> Vec<Scenario> {
    let mut all = Vec::new();
    for hold in [Hold::ForEver, Hold::Minute] {
        all.push(first(scale, hold, "/upload"));
        all.push(later(scale, hold, "/upload"));
    }
    all.push(first(scale, Hold::ForEver, "/quick"));
    all.push(later(scale, Hold::ForEver, "/quick"));
    all.push(in_overload(scale, Hold::ForEver));
    all
}

/// Returns the kind of uploads on this path. A load of 1 is one a second.
pub(super) fn uploads(path: &str) -> Kind {
    let server = Server::dependency(60 * SECOND, Times::Fixed);
    Kind::unqueued("held", server).at(path).timeout(NEVER)
}

impl Hold {
    /// Returns conditions in which so many uploads come within a second.
    pub(super) fn uploads(self, count: f64) -> Conditions {
        let (hanging, then) = match self {
            Self::ForEver => (1.0, 0.0),
            Self::Minute => (0.0, count / 60.0),
        };
        Conditions {
            hanging,
            ..Conditions::under(Load::rush(count, then))
        }
        .unscored()
    }

    /// Returns conditions in which as many more come as have completed.
    fn goes_on(self) -> Conditions {
        match self {
            Self::ForEver => absent(),
            Self::Minute => Conditions::at(UPLOADS / 60.0).unscored(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::ForEver => "for ever",
            Self::Minute => "for a minute",
        }
    }
}

fn scenario(scale: &Scale, hold: Hold, path: &str, when: &str) -> Scenario {
    let route = if path == "/quick" {
        ", on the quick route"
    } else {
        ""
    };
    let name = format!("held by the client {}, {when}{route}", hold.name());
    Scenario::of(name, [scale.quick(), uploads(path)])
}

/// The uploads come before any request has completed.
fn first(scale: &Scale, hold: Hold, path: &str) -> Scenario {
    let comes = hold.uploads(UPLOADS);
    scenario(scale, hold, path, "before the first completion")
        .then(Phase::of("they come", 1.0, [absent(), comes]).unscored())
        .then(Phase::of("beside", scale.long, [idle(0.5), hold.goes_on()]))
        .then(Phase::of("2 ×", scale.long, [limited(2.0), hold.goes_on()]))
        .then(Phase::of(
            "after",
            scale.brief,
            [limited(0.5), hold.goes_on()],
        ))
}

fn later(scale: &Scale, hold: Hold, path: &str) -> Scenario {
    let comes = hold.uploads(UPLOADS);
    scenario(scale, hold, path, "later")
        .then(Phase::of("alone", scale.brief, [idle(0.5), absent()]))
        .then(Phase::of("beside", scale.long, [idle(0.5), comes]))
        .then(Phase::of("2 ×", scale.long, [limited(2.0), hold.goes_on()]))
        .then(Phase::of(
            "after",
            scale.brief,
            [limited(0.5), hold.goes_on()],
        ))
}

fn in_overload(scale: &Scale, hold: Hold) -> Scenario {
    let comes = hold.uploads(UPLOADS);
    scenario(scale, hold, "/upload", "in an overload")
        .then(Phase::of("alone", scale.brief, [idle(0.5), absent()]))
        .then(Phase::of("over", scale.brief, [limited(2.0), absent()]))
        .then(Phase::of("beside", scale.long, [limited(2.0), comes]))
        .then(Phase::of(
            "after",
            scale.brief,
            [limited(0.5), hold.goes_on()],
        ))
}
