//! Promise 14: requests without a sample.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Empty;
use loadshed::{
    Budget, LoadShed, Measure, Threshold,
    control::{Outcome, Sample},
};
use tokio::time::{Instant, advance, sleep, timeout};
use tower::{Layer, Service, service_fn};

use super::{GRPC, Recorded, WINDOW, head, outcomes};
use crate::support::{
    Broken, FnController, Req, Scripted, Step, answer, body, caught, get, holding, next_frame, run,
};

#[tokio::test(start_paused = true)]
async fn p14_refusals_exempt_requests_and_verdicts_of_a_dry_run_are_no_samples() {
    let controller = Recorded::new();
    controller.set_limit(1);
    let shed = LoadShed::ratio(1.0).budget(&controller.budget);
    let dry = shed.clone().dry_run(true);
    let by_path = |head: &http::Request<()>| match head.uri().path() {
        "/exempt" => Threshold::EXEMPT,
        _ => Threshold::ratio(1.0),
    };
    for layer in [&shed, &dry] {
        let held = controller
            .budget
            .try_acquire(Threshold::NEVER_SHED)
            .unwrap();
        let mut service = layer.clone().threshold(by_path).layer(holding());
        for path in ["/", "/exempt", "/"] {
            let call = service.call(get(path));
            advance(WINDOW).await;
            drop(run(call));
            // Cancelled before the response.
            drop(service.call(get(path)));
        }
        assert!(
            controller
                .budget
                .try_acquire(Threshold::ratio(1.0))
                .is_err()
        );
        drop(controller.budget.try_acquire(Threshold::EXEMPT));
        held.discard();
        assert_eq!(controller.samples(), []);
        // A request that the same service serves has a sample.
        drop(answer(&mut service, get("/")));
        assert_eq!(outcomes(&controller.samples()), [(Outcome::Success, 0)]);
    }
    let figures = controller.budget.snapshot();
    assert_eq!((figures.refused, figures.would_refuse), (6, 4));
}

#[tokio::test(start_paused = true)]
async fn p14_a_request_that_is_cut_short_never_counts_as_a_fast_success() {
    let controller = Recorded::new();
    let shed = LoadShed::ratio(1.0).budget(&controller.budget);
    let client_timeout = Duration::from_millis(30);
    let slow = |_: Req| async {
        sleep(Duration::from_secs(1)).await;
        Ok::<_, Broken>(Response::new(Empty::<Bytes>::new()))
    };

    // The caller cancels, or a timeout outside does.
    let mut service = shed.layer(service_fn(slow));
    assert!(
        timeout(client_timeout, service.call(get("/")))
            .await
            .is_err()
    );
    assert_eq!(outcomes(&controller.samples()), [(Outcome::Cancelled, 30)]);

    // A timeout inside is an error of the inner service,
    let mut service = shed.layer(service_fn(move |request| async move {
        let response = timeout(client_timeout, slow(request)).await;
        response.unwrap_or(Err(Broken("too slow")))
    }));
    assert!(service.call(get("/")).await.is_err());
    assert_eq!(outcomes(&controller.samples()), [(Outcome::Ignored, 30)]);

    // or a response, as those of tower-http and tonic are.
    for too_slow in [head(408, &[]), head(200, &[GRPC, ("grpc-status", "1")])] {
        let mut service = shed.layer(service_fn(move |_: Req| {
            let too_slow = too_slow.clone();
            async move {
                sleep(client_timeout).await;
                Ok::<_, Broken>(too_slow)
            }
        }));
        drop(service.call(get("/")).await);
        assert_eq!(outcomes(&controller.samples()), [(Outcome::Cancelled, 30)]);
    }

    // This request never reaches the inner service.
    let waits = Scripted {
        ready: [Step::Wait].into(),
        ..holding()
    };
    let call = shed.layer(waits).call(get("/"));
    advance(client_timeout).await;
    drop(call);
    assert_eq!(outcomes(&controller.samples()), [(Outcome::Cancelled, 30)]);
}

#[tokio::test(start_paused = true)]
async fn p14_a_request_that_panics_is_no_sample_wherever_the_panic_is() {
    let controller = Recorded::new();
    let shed = LoadShed::ratio(1.0)
        .budget(&controller.budget)
        .measure(Measure::Body);
    let in_call = Scripted {
        call_panics: true,
        ..holding()
    };
    caught(|| drop(shed.layer(in_call.clone()).call(get("/"))));
    let in_call_after_a_wait = Scripted {
        ready: [Step::Wait].into(),
        ..in_call
    };
    let in_the_future = Scripted {
        poll: [Step::Wait, Step::Panic].into(),
        ..holding()
    };
    let mut in_the_body = holding();
    in_the_body.body = body([Step::Data, Step::Panic, Step::Data]);
    for inner in [in_call_after_a_wait, in_the_future, in_the_body] {
        // As in a task: the panic is caught around the poll, and the future is dropped afterwards.
        let mut call = Box::pin(shed.layer(inner).call(get("/")));
        caught(|| {
            let mut response = run(call.as_mut()).unwrap();
            let _ = next_frame(&mut response);
            let _ = next_frame(&mut response);
        });
        drop(call);
    }
    assert_eq!(controller.samples(), []);
    assert_eq!(controller.budget.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn p14_a_sample_has_the_limit_of_its_admission_and_not_a_newer_one() {
    let controller = Recorded::new();
    let mut service = LoadShed::ratio(0.85)
        .budget(&controller.budget)
        .layer(holding());
    let (before, older) = (Instant::now(), service.call(get("/")));
    advance(WINDOW).await;
    controller.set_limit(20);
    let (after, newer) = (Instant::now(), service.call(get("/")));
    advance(WINDOW).await;
    drop((run(newer), run(older)));

    let [newer, older] = controller.samples().try_into().expect("two");
    assert_eq!((newer.limit, newer.cap, newer.in_flight), (20, 17, 2));
    assert_eq!((newer.admitted_at, newer.latency), (after, WINDOW));
    assert_eq!((older.limit, older.cap, older.in_flight), (100, 85, 1));
    assert_eq!((older.admitted_at, older.latency), (before, 2 * WINDOW));
}

#[test]
fn p14_an_admission_that_moves_the_limit_has_the_limit_before_in_its_sample() {
    let samples = Arc::<Mutex<Vec<Sample>>>::default();
    let controller = {
        let samples = Arc::clone(&samples);
        FnController::new(1..=9, 4, move |window| {
            samples.lock().unwrap().extend(window.samples);
            window.limit + 1
        })
    };
    let budget = Budget::new(controller.always());
    drop(budget.try_acquire(Threshold::NEVER_SHED).unwrap());
    assert_eq!(budget.limit(), 6, "at the admission, and at the end");
    assert_eq!(samples.lock().unwrap()[0].limit, 4);
}

/// Three requests pass a counting layer of a learned budget and are refused by an inner layer. One request is served. Returns the
/// number of samples.
fn samples_of_one_served_and_three_refused(
    inside: Option<Budget>,
    set: impl FnOnce(LoadShed) -> LoadShed,
) -> usize {
    let learned = Recorded::new();
    learned.set_limit(1);
    let inside = inside.unwrap_or_else(|| learned.budget.clone());
    let _full = inside.try_acquire(Threshold::NEVER_SHED).unwrap();
    let shed = set(LoadShed::ratio(1.0).budget(&inside));
    let observe = LoadShed::observe().budget(&learned.budget);
    for _ in 0..3 {
        drop(answer(&mut observe.layer(shed.layer(holding())), get("/")));
    }
    assert_eq!(
        inside.snapshot().refused + inside.snapshot().would_refuse,
        3
    );
    drop(answer(&mut observe.layer(holding()), get("/")));
    learned.samples().len()
}

#[test]
fn p14_a_request_that_an_inner_layer_refuses_is_no_sample() {
    assert_eq!(
        samples_of_one_served_and_three_refused(None, |shed| shed),
        1
    );
    // As a sample, a 503 would be a sign of overload: the limit would decrease only because it was reached.
    let unavailable = |shed: LoadShed| shed.status(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        samples_of_one_served_and_three_refused(None, unavailable),
        1
    );
}

#[test]
fn p14_a_request_that_an_inner_layer_would_have_refused_is_no_sample() {
    assert_eq!(
        samples_of_one_served_and_three_refused(None, |shed| shed.dry_run(true)),
        1
    );
}

#[test]
fn p14_a_request_that_a_layer_of_another_budget_refuses_is_no_sample() {
    let other = || Some(Budget::fixed(1));
    assert_eq!(
        samples_of_one_served_and_three_refused(other(), |shed| shed),
        1
    );
    let unavailable = |shed: LoadShed| shed.status(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        samples_of_one_served_and_three_refused(other(), unavailable),
        1
    );
}
