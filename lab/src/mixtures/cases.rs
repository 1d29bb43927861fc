//! Mixtures with the rates and times of reports. The letters are those of the project's list of cases.

use loadshed::Measure;

use super::{
    held_by_client::{Hold, uploads},
    hostile_outcomes::{failing, leaving},
    parts::{MILLI, absent, idle, limited, rush, slow, streams},
};
use crate::scenario::{
    kind::{Answer, Kind},
    phase::{Conditions, Phase},
    scenario::Scenario,
    server::{Server, Times},
};

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut all = held();
    all.extend(beside_slow());
    all.extend(outcomes());
    all.push(masked());
    all.extend(watches());
    all
}

/// E4: 85 readers of one stream, measured to the end of bodies. B12: watches that last for two minutes, beside short calls.
fn watches() -> Vec<Scenario> {
    let case = |name, quick, rate, watches, (count, then)| {
        let scenario = Scenario::of(name, [quick, watches])
            .then(Phase::of("alone", 10.0, [idle(rate), absent()]))
            .then(Phase::of("beside", 60.0, [idle(rate), rush(count, then)]))
            .then(Phase::of("they leave", 60.0, [idle(rate), absent()]));
        Scenario {
            measure: Measure::Body,
            ..scenario
        }
    };
    vec![
        case(
            "B12: watches",
            quick(5),
            200.0,
            streams(120.0),
            (300.0, 2.5),
        ),
        case(
            "E4: 85 readers of one stream",
            quick(20),
            70.0,
            streams(3_600.0),
            (85.0, 0.0),
        ),
    ]
}

/// Returns a kind on a pool of 16 workers, with its load in calls a second.
fn quick(millis: u32) -> Kind {
    let server = Server::pool(16, millis * MILLI, Times::Exponential);
    Kind::unqueued("quick", server).at("/quick")
}

/// B1: 150 silent uploads beside 200/s of 5 ms. E1: 80 beside 70/s of 20 ms, at first and then at 2 × the capacity.
fn held() -> Vec<Scenario> {
    let case = |name, quick: Kind, rate, count| {
        let capacity = quick.server.capacity();
        let comes = Hold::ForEver.uploads(count);
        Scenario::of(name, [quick, uploads("/upload")])
            .then(Phase::of("alone", 10.0, [idle(rate), absent()]))
            .then(Phase::of("beside", 60.0, [idle(rate), comes]))
            .then(Phase::of("2 ×", 30.0, [limited(2.0 * capacity), absent()]))
    };
    vec![
        case("B1: 150 silent uploads", quick(5), 200.0, 150.0),
        case("E1: 80 silent uploads", quick(20), 70.0, 80.0),
    ]
}

/// B2, B3, B4, B13 and E3: quick calls beside slow ones that come at once, or a few each second.
fn beside_slow() -> Vec<Scenario> {
    // Calls that come at once, and then as many each second as leave.
    let case = |name, seconds, (quick, rate), (slow, count, then)| {
        Scenario::of(name, [quick, slow])
            .then(Phase::of(
                "beside",
                seconds,
                [idle(rate), rush(count, then)],
            ))
            .then(Phase::of("they leave", 40.0, [idle(rate), absent()]))
    };
    let fixed = |seconds| slow(seconds, Times::Fixed);
    let mut critical = case(
        "B3: 20 exports beside CRITICAL calls",
        40.0,
        (quick(20), 10.0),
        (fixed(30.0), 20.0, 0.0),
    );
    for phase in &mut critical.phases {
        let calls = Conditions {
            critical: 10.0,
            ..idle(0.0)
        };
        phase.kinds[0] = calls;
    }
    let model_calls = slow(25.0, Times::Exponential);
    let polls = slow(25.0, Times::Exponential);
    let job = Kind {
        name: "job".to_owned(),
        ..Kind::new("job", Server::pool(5, 20 * MILLI, Times::Exponential))
    };
    vec![
        case(
            "B2: 8 calls of 30 s",
            40.0,
            (quick(20), 5.0),
            (fixed(30.0), 8.0, 0.0),
        ),
        case(
            "B3: 20 exports",
            40.0,
            (quick(20), 10.0),
            (fixed(30.0), 20.0, 0.0),
        ),
        critical,
        case(
            "B3: 40 exports",
            40.0,
            (quick(20), 50.0),
            (fixed(30.0), 40.0, 0.0),
        ),
        case(
            "B3: model calls",
            600.0,
            (quick(2), 10.0),
            (model_calls, 4.0, 4.0),
        ),
        case(
            "B4: 300 long polls",
            240.0,
            (quick(5), 200.0),
            (polls, 300.0, 12.0),
        ),
        case(
            "E3: 3.2 long polls a second",
            40.0,
            (quick(20), 70.0),
            (fixed(25.0), 3.2, 3.2),
        ),
        case(
            "E3: 4 uploads of 20 s a second",
            40.0,
            (quick(20), 70.0),
            (fixed(20.0), 4.0, 4.0),
        ),
        Scenario::of(
            "B13: an overloaded job beside 40 long polls",
            [job, fixed(15.0)],
        )
        .then(Phase::of(
            "before",
            20.0,
            [idle(0.4), rush(40.0, 40.0 / 15.0)],
        ))
        .then(Phase::of(
            "over",
            60.0,
            [limited(3.0), rush(40.0 / 15.0, 40.0 / 15.0)],
        )),
    ]
}

/// B5, B6 and E10: floods of quick calls with bad outcomes beside healthy ones.
fn outcomes() -> Vec<Scenario> {
    let case = |name: String, (quick, rate), (hostile, flood)| {
        let hostile: Kind = hostile;
        let flood = Conditions::at(flood).unscored();
        Scenario::of(name, [quick, hostile.at("/hostile")])
            .then(Phase::of("before", 10.0, [idle(rate), absent()]))
            .then(Phase::of("flood", 120.0, [idle(rate), flood]))
            .then(Phase::of("after", 10.0, [idle(rate), absent()]))
    };
    let errors = |response| {
        let mut kind = failing(response);
        kind.server = Server::dependency(MILLI, Times::Fixed);
        kind
    };
    let mut all: Vec<_> = [0.5, 0.55, 0.7]
        .into_iter()
        .map(|share: f64| {
            let name = format!("B5: {:.0} % errors in 1 ms", share * 100.0);
            let flood = 200.0 * share / (1.0 - share);
            case(
                name,
                (quick(50), 200.0),
                (errors(Answer::Status(503)), flood),
            )
        })
        .collect();
    let honest =
        |name: &str, hostile, flood| case(name.to_owned(), (quick(20), 70.0), (hostile, flood));
    all.extend([
        case(
            "B6: RESOURCE_EXHAUSTED of a quota".to_owned(),
            (quick(20), 100.0),
            (failing(Answer::Grpc(8)), 600.0),
        ),
        honest("E10: callers leave after 5 ms", leaving(), 100.0),
        honest("E10: 503s", failing(Answer::Status(503)), 300.0),
        honest("E10: 408s", failing(Answer::Status(408)), 300.0),
    ]);
    all
}

/// E5: an overloaded job beside 404s.
fn masked() -> Scenario {
    let job = Kind::new("job", Server::pool(4, 20 * MILLI, Times::Exponential)).at("/job");
    let mut cheap =
        Kind::unqueued("cheap", Server::dependency(MILLI, Times::Exponential)).at("/no");
    cheap.response = Answer::Status(404);
    Scenario::of(
        "E5: an overloaded job beside 1,800 404s a second",
        [job, cheap],
    )
    .then(Phase::of("before", 10.0, [idle(0.4), absent()]))
    .then(Phase::of("over", 60.0, [limited(3.0), idle(1_800.0)]))
}
