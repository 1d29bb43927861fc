//! Promise 22: a dry run decides as an enforcing layer does, and refuses nothing.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response};
use http_body_util::BodyExt;
use loadshed::{Budget, LoadShed, Threshold};
use proptest::prelude::*;
use tower::{Layer, Service};

use crate::support::{
    Broken, FnController, Req, Scripted, Step, all, answer, caught, get, holding, is_refused, run,
};

#[derive(Clone, Copy, Debug)]
enum Stack {
    Alone,
    Inside,
    /// Two layers that shed; the outer layer has the higher ratio.
    Both,
}

struct Run {
    budget: Budget,
    service: Box<dyn FnMut(Req) -> Running>,
    running: Vec<Option<Running>>,
}

/// The response, and whether it is a refusal.
type Running = (Box<dyn std::any::Any>, bool);

impl Run {
    fn new(stack: Stack, dry_run: bool, budget: Budget) -> Self {
        let by_path = |head: &Request<()>| match head.uri().path() {
            "/never" => Threshold::NEVER_SHED,
            "/exempt" => Threshold::EXEMPT,
            ratio => Threshold::ratio(ratio[1..].parse().unwrap()),
        };
        let shed = LoadShed::observe()
            .budget(&budget)
            .threshold(by_path)
            .dry_run(dry_run);
        let outer = LoadShed::ratio(0.8).budget(&budget).dry_run(dry_run);
        let observe = LoadShed::observe().budget(&budget);
        fn boxed<S, B>(mut service: S) -> Box<dyn FnMut(Req) -> Running>
        where
            S: Service<Req, Response = Response<B>, Error = Broken> + 'static,
            B: 'static,
        {
            Box::new(move |request| {
                let response = answer(&mut service, request);
                let refused = is_refused(&response);
                (Box::new(response), refused)
            })
        }
        let service = match stack {
            Stack::Alone => boxed(shed.layer(holding())),
            Stack::Inside => boxed(observe.layer(shed.layer(holding()))),
            Stack::Both => boxed(outer.layer(shed.layer(holding()))),
        };
        Self {
            budget,
            service,
            running: Vec::new(),
        }
    }

    /// Sends a request; returns whether it was refused, or would have been.
    fn arrives(&mut self, path: &str) -> bool {
        let before = self.budget.snapshot();
        let arrived = (self.service)(get(path));
        let refused = arrived.1;
        let after = self.budget.snapshot();
        self.running.push((!refused).then_some(arrived));
        refused || after.would_refuse > before.would_refuse
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Arrives(&'static str),
    /// The nth request that arrived.
    Ends(usize),
    Limit(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let paths = proptest::sample::select(vec!["/1.0", "/0.8", "/0.5", "/0.2", "/never", "/exempt"]);
    let event = prop_oneof![
        5 => paths.prop_map(Event::Arrives),
        4 => (0_usize..100).prop_map(Event::Ends),
        1 => (1_usize..12).prop_map(Event::Limit),
    ];
    proptest::collection::vec(event, 1..100)
}

proptest! {
    #[test]
    fn p22_a_dry_run_decides_as_an_enforcing_run_does(
        stack in proptest::sample::select(vec![Stack::Alone, Stack::Inside, Stack::Both]),
        events in events(),
    ) {
        let mut real = Run::new(stack, false, Budget::fixed(5));
        let mut dry = Run::new(stack, true, Budget::fixed(5));
        for event in events {
            match event {
                Event::Arrives(path) => prop_assert_eq!(real.arrives(path), dry.arrives(path)),
                Event::Ends(nth) => for run in [&mut real, &mut dry] {
                    if let Some(running) = run.running.get_mut(nth) {
                        *running = None;
                    }
                },
                Event::Limit(limit) => for run in [&mut real, &mut dry] {
                    run.budget.set_limit(limit).unwrap();
                },
            }
            let (mut real, dry) = (real.budget.snapshot(), dry.budget.snapshot());
            prop_assert_eq!((dry.refused, real.would_refuse), (0, 0));
            let mut as_real = dry;
            (as_real.refused, as_real.would_refuse) = (dry.would_refuse, 0);
            as_real.in_flight -= as_real.marked;
            as_real.marked = 0;
            // What would have been refused runs, and counts in the peak.
            (as_real.peak_in_flight, real.peak_in_flight) = (0, 0);
            if matches!(stack, Stack::Both) {
                // Covered by the test of nested layers with an exempt request.
                (as_real.exempt, real.exempt) = (0, 0);
            }
            prop_assert_eq!(as_real, real);
        }
        real.running.clear();
        dry.running.clear();
        prop_assert_eq!((real.budget.in_flight(), dry.budget.in_flight()), (0, 0));
    }
}

#[test]
fn p22_a_request_that_would_have_been_refused_is_served_counted_and_marked() {
    let budget = Budget::fixed(2);
    let mut service = LoadShed::ratio(0.5)
        .budget(&budget)
        .dry_run(true)
        .layer(holding());
    let first = answer(&mut service, get("/"));
    let more: Vec<_> = (0..50).map(|_| answer(&mut service, get("/"))).collect();
    assert!(more.iter().all(|response| response.status() == 200));
    let snapshot = budget.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.marked), (51, 50));
    assert_eq!(
        (snapshot.admitted, snapshot.refused, snapshot.would_refuse),
        (1, 0, 50)
    );
    // They end, read or dropped.
    for (nth, response) in more.into_iter().enumerate() {
        if nth % 2 == 0 {
            run(response.into_body().collect()).unwrap();
        }
    }
    assert_eq!((budget.in_flight(), budget.snapshot().marked), (1, 0));
    drop(first);
    assert_eq!(
        (budget.in_flight(), budget.snapshot().peak_in_flight),
        (0, 51)
    );
}

#[test]
fn p22_a_request_that_would_have_been_refused_and_panics_or_fails_releases_nothing() {
    let budget = Budget::fixed(2);
    let _held = [
        budget.try_acquire(all()).unwrap(),
        budget.try_acquire(all()).unwrap(),
    ];
    let shed = LoadShed::ratio(1.0).budget(&budget).dry_run(true);
    let outer = LoadShed::observe().budget(&budget);
    for inner in [
        Scripted {
            call_panics: true,
            ..holding()
        },
        Scripted {
            poll: [Step::Panic].into(),
            ..holding()
        },
        Scripted {
            ready: [Step::Panic].into(),
            ..holding()
        },
    ] {
        caught(|| answer(&mut shed.layer(inner.clone()), get("/")));
        caught(|| answer(&mut outer.layer(shed.layer(inner)), get("/")));
        assert_eq!(budget.in_flight(), 2);
    }
    let failing = Scripted {
        ready: [Step::Wait, Step::Fail].into(),
        ..holding()
    };
    assert!(run(outer.layer(shed.layer(failing)).call(get("/"))).is_err());
    assert_eq!((budget.in_flight(), budget.snapshot().would_refuse), (2, 7));
}

#[test]
fn p22_nested_layers_in_a_dry_run_count_one_refusal_once() {
    let budget = Budget::fixed(1);
    let dry = LoadShed::ratio(1.0).budget(&budget).dry_run(true);
    let mut service = dry.layer(dry.layer(dry.layer(holding())));
    let first = answer(&mut service, get("/"));
    let second = answer(&mut service, get("/"));
    let snapshot = budget.snapshot();
    assert_eq!(
        (snapshot.in_flight, snapshot.admitted, snapshot.would_refuse),
        (2, 1, 1)
    );
    drop((first, second));
    assert_eq!(budget.in_flight(), 0);
}

#[test]
fn p22_a_request_that_the_outer_layer_would_have_refused_is_not_counted_as_exempt_by_the_inner_layer()
 {
    let budget = Budget::fixed(1);
    let _held = budget.try_acquire(all()).unwrap();
    let outer = LoadShed::ratio(1.0).budget(&budget).dry_run(true);
    let exempt = outer.clone().threshold(|_| Threshold::EXEMPT);
    drop(answer(&mut outer.layer(exempt.layer(holding())), get("/")));
    let snapshot = budget.snapshot();
    // In an enforcing run, the request would not have reached the inner layer.
    assert_eq!((snapshot.would_refuse, snapshot.exempt), (1, 0));
}

#[test]
fn p22_an_enforcing_layer_inside_a_dry_run_still_protects() {
    let budget = Budget::fixed(4);
    let dry = LoadShed::ratio(0.5).budget(&budget).dry_run(true);
    let enforcing = LoadShed::ratio(1.0).budget(&budget);
    let mut service = dry.layer(enforcing.layer(holding()));
    let responses: Vec<_> = (0..6).map(|_| answer(&mut service, get("/"))).collect();
    let refused: Vec<_> = responses.iter().map(is_refused).collect();
    assert_eq!(refused, [false, false, false, false, true, true]);
    assert_eq!(budget.in_flight(), 4);
    drop(responses);
    let snapshot = budget.snapshot();
    assert_eq!(
        (snapshot.in_flight, snapshot.refused, snapshot.would_refuse),
        (0, 2, 4)
    );
}

#[test]
fn p10_an_enforcing_layer_admits_no_more_because_of_a_dry_run_inside() {
    let budget = Budget::fixed(4);
    let dry = LoadShed::ratio(0.5).budget(&budget).dry_run(true);
    let mut service = LoadShed::ratio(0.75)
        .budget(&budget)
        .layer(dry.layer(holding()));
    let responses: Vec<_> = (0..6).map(|_| answer(&mut service, get("/"))).collect();
    let refused: Vec<_> = responses.iter().map(is_refused).collect();
    assert_eq!(refused, [false, false, false, true, true, true]);
    let snapshot = budget.snapshot();
    assert_eq!(
        (snapshot.in_flight, snapshot.admitted, snapshot.would_refuse),
        (3, 2, 1)
    );
    drop(responses);
    assert_eq!(budget.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn p22_a_controller_sees_the_same_windows_in_a_dry_run() {
    for stack in [Stack::Alone, Stack::Both, Stack::Inside] {
        let mut seen = [false, true].map(|dry_run| {
            let windows = Arc::new(Mutex::new(Vec::new()));
            let controller = {
                let windows = Arc::clone(&windows);
                FnController::new(2..=6, 4, move |window| {
                    let latencies: Vec<_> =
                        window.samples.iter().map(|sample| sample.latency).collect();
                    windows.lock().unwrap().push((
                        window.refused,
                        window.completed,
                        window.in_flight,
                        latencies,
                    ));
                    2 + windows.lock().unwrap().len() % 5
                })
            };
            (
                Run::new(stack, dry_run, Budget::new(controller.always())),
                windows,
            )
        });
        for step in 0..300_usize {
            tokio::time::advance(Duration::from_millis(3)).await;
            for (run, _) in &mut seen {
                run.arrives(["/1.0", "/0.5", "/never"][step % 3]);
                if step >= 5 {
                    run.running[step - 5] = None;
                }
            }
        }
        let [real, dry] = seen.map(|(run, windows)| {
            (
                run.budget.limit(),
                std::mem::take(&mut *windows.lock().unwrap()),
            )
        });
        assert!(real.1.len() > 100 && real.1.iter().any(|window| window.0 > 0));
        assert_eq!(real, dry);
    }
}
