//! The outcome of a request, by the head of its response.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::Version;
use loadshed::{Budget, LoadShed, Threshold, control::Outcome};
use tower::{Layer, Service};

use super::{GRPC, Recorded, answers, head, outcomes};
use crate::support::{
    Scripted, Step, answer, get, holding, is_refused, panic_on_purpose, quiet, run,
};

#[test]
fn p14_the_head_of_a_response_tells_the_outcome() {
    let controller = Recorded::new();
    let shed = LoadShed::ratio(1.0).budget(&controller.budget);
    for (response, outcome) in [
        (head(200, &[]), Outcome::Success),
        (head(404, &[]), Outcome::Success),
        (head(500, &[]), Outcome::Ignored),
        (head(503, &[]), Outcome::Overload),
        (head(504, &[]), Outcome::Overload),
        (head(200, &[GRPC]), Outcome::Success),
        (head(200, &[GRPC, ("grpc-status", "0")]), Outcome::Success),
        (head(200, &[GRPC, ("grpc-status", "5")]), Outcome::Success),
        (head(200, &[GRPC, ("grpc-status", "13")]), Outcome::Ignored),
        (head(200, &[GRPC, ("grpc-status", "8")]), Outcome::Overload),
        (head(200, &[GRPC, ("grpc-status", "14")]), Outcome::Overload),
        (head(200, &[GRPC, ("grpc-status", "4")]), Outcome::Overload),
    ] {
        let text = format!("{response:?}");
        drop(answer(&mut shed.layer(answers(response)), get("/")));
        assert_eq!(outcomes(&controller.samples()), [(outcome, 0)], "{text}");
    }
    let fails = Scripted {
        poll: [Step::Fail].into(),
        ..holding()
    };
    let _ = run(shed.layer(fails).call(get("/")));
    assert_eq!(outcomes(&controller.samples()), [(Outcome::Ignored, 0)]);
}

#[test]
fn p14_a_closure_can_decide_the_outcome() {
    quiet();
    let controller = Recorded::new();
    let shed = LoadShed::ratio(1.0)
        .budget(&controller.budget)
        .outcome(|head| match head.headers().get("x-state")?.to_str().ok()? {
            "overload" => Some(Outcome::Overload),
            "ignored" => Some(Outcome::Ignored),
            "fine" => Some(Outcome::Success),
            "panics" => panic_on_purpose(),
            _ => None,
        });
    for (status, state, outcome) in [
        (200, "overload", Outcome::Overload),
        (200, "ignored", Outcome::Ignored),
        (503, "fine", Outcome::Success),
        (503, "unknown", Outcome::Overload),
        (503, "panics", Outcome::Overload),
        (200, "panics", Outcome::Success),
    ] {
        let inner = answers(head(status, &[("x-state", state)]));
        let response = answer(&mut shed.layer(inner), get("/"));
        assert_eq!(
            outcomes(&controller.samples()),
            [(outcome, 0)],
            "{status} {state}"
        );
        // The caller gets the whole head.
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["x-state"], state);
    }
}

#[test]
fn p14_the_outcome_closure_gets_the_whole_head_and_is_not_called_for_refusals_and_errors() {
    #[derive(Clone, Debug, PartialEq)]
    struct Mark(u8);

    let controller = Recorded::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let shed = {
        let asked = Arc::clone(&asked);
        LoadShed::ratio(1.0)
            .budget(&controller.budget)
            .outcome(move |head| {
                asked.fetch_add(1, Ordering::Relaxed);
                assert_eq!(head.status(), 201);
                assert_eq!(head.version(), Version::HTTP_2);
                assert_eq!(head.headers().get_all("x-twice").iter().count(), 2);
                assert_eq!(head.extensions().get(), Some(&Mark(7)));
                Some(Outcome::Ignored)
            })
    };
    let mut response = head(201, &[("x-twice", "a"), ("x-twice", "b")]);
    *response.version_mut() = Version::HTTP_2;
    response.extensions_mut().insert(Mark(7));
    let served = answer(&mut shed.layer(answers(response)), get("/"));
    assert_eq!(outcomes(&controller.samples()), [(Outcome::Ignored, 0)]);
    assert_eq!(served.extensions().get(), Some(&Mark(7)));
    assert_eq!(served.version(), Version::HTTP_2);

    let full = Budget::fixed(1);
    let _held = full.try_acquire(Threshold::NEVER_SHED);
    let refuses = LoadShed::ratio(1.0).budget(&full).layer(holding());
    assert!(is_refused(&answer(&mut shed.layer(refuses), get("/"))));
    assert_eq!(controller.samples(), []);
    let fails = Scripted {
        poll: [Step::Fail].into(),
        ..holding()
    };
    let _ = run(shed.layer(fails).call(get("/")));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[test]
fn p14_the_outermost_layer_of_a_budget_decides_the_outcome() {
    let controller = Recorded::new();
    let saying = |outcome| {
        let shed = LoadShed::ratio(1.0).budget(&controller.budget);
        shed.outcome(move |_| Some(outcome))
    };
    let inner = saying(Outcome::Overload).layer(holding());
    drop(answer(&mut saying(Outcome::Success).layer(inner), get("/")));
    assert_eq!(outcomes(&controller.samples()), [(Outcome::Success, 0)]);
}
