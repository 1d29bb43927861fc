//! Kinds beside the main one, drawn at random.

use std::time::Duration;

use crate::{
    criterion::Criterion,
    random::Random,
    scenario::{
        kind::{Answer, Counted, Kind},
        load::Load,
        phase::Conditions,
        server::{Server, Times},
    },
};

/// A kind beside the main one, and its conditions in the phase in which something happens.
pub(super) struct Beside {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) conditions: Conditions,
    /// Whether the kind has the same conditions before and after.
    pub(super) is_always_there: bool,
}

/// A kind that needs no worker is refused nothing.
const UNREFUSED: Criterion = Criterion::RefusedLater(0.001);

/// Draws another kind for half of the scenarios: long polls, silent uploads, 404s, quick errors, or a kind with the same work.
pub(super) fn kind(random: &mut Random, main: &Kind) -> Option<Beside> {
    let count = random.between(5.0, 300.0).round();
    let times = random.between(0.3, 10.0);
    let seconds = random.between(5.0, 60.0);
    let is_always_there = random.uniform() < 0.5;
    let beside = |name: String, kind: Kind, conditions: Conditions| {
        Some(Beside {
            name,
            kind,
            conditions,
            is_always_there,
        })
    };
    let server = |time| Server::dependency(Duration::from_secs_f64(time), Times::Exponential);
    match random.uniform() {
        x if x < 0.15 => {
            let mut polls = unhurried(server(seconds), "/poll");
            polls.counted = Counted::Whenever;
            let load = Load::rush(count, count / seconds);
            let conditions = Conditions::under(load).unscored();
            beside(
                format!("{count} polls of {seconds:.0} s"),
                polls,
                conditions,
            )
        }
        x if x < 0.25 => {
            let uploads = unhurried(server(3_600.0), "/upload");
            let conditions = Conditions {
                hanging: 1.0,
                ..Conditions::under(Load::rush(count, 0.0)).unscored()
            };
            beside(format!("{count} silent uploads"), uploads, conditions)
        }
        x if x < 0.35 => {
            let mut quick = Kind::new("quick", server(0.001)).at("/quick");
            quick.response = Answer::Status(404);
            quick.unit = main.unit;
            // Enough to matter, and not so many that the run takes minutes.
            let load = times.min(10_000.0 / main.unit);
            let conditions = Conditions::at(load).must(UNREFUSED);
            beside(format!("404s at {load:.1} ×"), quick, conditions)
        }
        x if x < 0.45 => {
            let mut errors = Kind::new("beside", server(0.002)).at("/errors");
            errors.response = Answer::Status(503);
            errors.unit = main.unit;
            let load = times.min(10_000.0 / main.unit);
            let conditions = Conditions::at(load).unscored();
            beside(format!("503s at {load:.1} ×"), errors, conditions)
        }
        x if x < 0.5 => {
            let mut same = main.clone().sharing(0).at("/same");
            same.name = "same".to_owned();
            let conditions = Conditions::at(times.min(2.0));
            beside(
                format!("the same at {:.1} ×", times.min(2.0)),
                same,
                conditions,
            )
            .map(|beside| Beside {
                // Both together may be over the capacity.
                is_always_there: false,
                ..beside
            })
        }
        _ => None,
    }
}

/// Returns a kind that needs no worker, and whose callers never time out.
fn unhurried(server: Server, path: &str) -> Kind {
    Kind::unqueued("beside", server)
        .at(path)
        .timeout(Duration::from_secs(1_000_000))
}
