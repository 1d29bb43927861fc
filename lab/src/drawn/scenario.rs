//! Servers, loads, faults and other kinds drawn at random: evaluated by promises, not by a table of rows.

use super::{beside, conditions, server};
use crate::{
    criterion::Criterion,
    random::Random,
    scenario::{
        phase::{Conditions, Phase},
        scenario::Scenario,
    },
};

/// The number of calls of the main kind in the phase in which something happens, where the phase then lasts 20 to 60 s.
const CALLS: f64 = 60_000.0;

/// The goodput within reach of the oracle, on which all phases together have further conditions.
const WITHIN_REACH: Criterion = Criterion::Score {
    mean: 0.9,
    worst: 0.5,
};

/// Returns a server, its load, a fault and possibly another kind, drawn at random. The same number gives the same scenario.
///
/// - The server is a pool or a processor of 1 to 100 workers. Service times of 1 to 200 ms are fixed, exponential, lognormal,
///   Pareto (1.5) or bimodal. Callers wait 0.2 to 10 s.
/// - The load is steady, a day with a peak, bursts, or that of a service whose instances are added or removed.
/// - The fault is one of: pauses of 0.3 to 2 s, a noisy neighbour, a lost cache, hanging calls, errors, a slower dependency, fewer
///   workers.
/// - Beside half of them there is another kind: long polls, silent uploads, 404s, errors, or the same work.
///
/// The phases are `before`, 15 s at 0.4 times the capacity; `disturbed`, with all of the above; and `after`, 20 s as before.
#[must_use]
pub fn drawn_faults(number: u64) -> Scenario {
    // Numbers that follow each other have seeds that are far apart.
    let mut random = Random::new(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let main = server::kind(&mut random);
    let seconds = (CALLS / main.unit).clamp(20.0, 60.0);
    let curve = conditions::curve(&mut random, seconds);
    let usual = Conditions {
        long: server::LONG,
        ..Conditions::at(0.4).must(WITHIN_REACH)
    };
    let mut disturbed = Conditions {
        load: curve.load,
        ..usual
    };
    let fault = conditions::fault(&mut random, &mut disturbed, &main.server);
    let beside = beside::kind(&mut random, &main);

    let what = beside.as_ref().map(|beside| format!(", {}", beside.name));
    let name = format!(
        "{number}: {}; {}, {fault}{}",
        server::describe(&main),
        curve.name,
        what.unwrap_or_default(),
    );
    let mut kinds = vec![main];
    let (mut around, mut meanwhile) = (vec![usual], vec![disturbed]);
    if let Some(beside) = beside {
        let with = |conditions: Conditions| Conditions {
            long: server::LONG,
            criterion: conditions.criterion.or(Some(WITHIN_REACH)),
            ..conditions
        };
        kinds.push(beside.kind);
        meanwhile.push(with(beside.conditions));
        around.push(match beside.is_always_there {
            true => with(beside.conditions),
            false => Conditions::default(),
        });
    }
    Scenario::of(name, kinds)
        .then(Phase::of("before", 15.0, around.clone()))
        .then(Phase::of("disturbed", seconds, meanwhile))
        .then(Phase::of("after", 20.0, around))
}
