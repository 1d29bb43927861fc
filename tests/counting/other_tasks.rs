//! Promise 7: what a request is, where it is spawned, moved, or shares a thread with others.

use std::{
    future::ready,
    sync::{Arc, Mutex},
    thread,
};

use futures_util::FutureExt;
use http::Response;
use loadshed::{Budget, LoadShed};
use tokio_test::task;
use tower::{Layer, Service, ServiceExt, buffer::Buffer, service_fn};

use crate::support::{
    Broken, Req, Scripted, Step, all, answer, body, caught, get, holding, is_refused, run,
};

#[tokio::test]
async fn p07_across_a_spawn_it_is_one_request() {
    let budget = Budget::fixed(1);
    let inner = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    let spawning = service_fn(move |request: Req| {
        let inner = inner.clone();
        async { tokio::spawn(inner.oneshot(request)).await.unwrap() }
    });
    let outer = LoadShed::observe().budget(&budget).layer(spawning);
    let response = outer.clone().oneshot(get("/")).await.unwrap();
    assert!(!is_refused(&response));
    assert_eq!(budget.in_flight(), 1);
    assert!(is_refused(&outer.oneshot(get("/")).await.unwrap()));
    drop(response);
    let figures = budget.snapshot();
    assert_eq!((figures.in_flight, figures.peak_in_flight), (0, 2));
    assert_eq!((figures.admitted, figures.refused), (1, 1));
}

#[tokio::test]
async fn p07_across_a_buffer_it_is_one_request() {
    let budget = Budget::fixed(2);
    let inner = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    let mut service = LoadShed::observe()
        .budget(&budget)
        .layer(Buffer::new(inner, 4));
    let response = service.call(get("/")).await.unwrap();
    assert_eq!(budget.in_flight(), 1);
    drop(response);
    assert_eq!(budget.in_flight(), 0);
}

#[test]
fn p07_a_panic_inside_leaves_no_request_behind_on_the_thread() {
    let budget = Budget::fixed(1);
    let layer = LoadShed::ratio(1.0).budget(&budget);
    let nested = |inner: Scripted| {
        LoadShed::observe()
            .budget(&budget)
            .layer(layer.layer(inner))
    };
    for _ in 0..20 {
        let call = Scripted {
            call_panics: true,
            ..holding()
        };
        caught(|| answer(&mut nested(call), get("/")));
        let poll = Scripted {
            poll: [Step::Panic].into(),
            ..holding()
        };
        caught(|| answer(&mut nested(poll), get("/")));
        let ready = Scripted {
            ready: [Step::Wait, Step::Panic].into(),
            ..holding()
        };
        caught(|| answer(&mut nested(ready), get("/")));
        assert_eq!(budget.in_flight(), 0);
    }
    // Taken for a part of a request that has panicked, these would all be admitted.
    let responses: Vec<_> = (0..3)
        .map(|_| answer(&mut layer.layer(holding()), get("/")))
        .collect();
    assert_eq!(
        responses
            .iter()
            .filter(|response| is_refused(response))
            .count(),
        2
    );
    assert_eq!(budget.in_flight(), 1);
}

#[test]
fn p07_requests_that_take_turns_on_one_thread_are_not_taken_for_one() {
    let budget = Budget::fixed(3);
    let inner = LoadShed::ratio(1.0).budget(&budget);
    let waits = Scripted {
        poll: [Step::Wait, Step::Wait].into(),
        ..holding()
    };
    let mut service = LoadShed::observe()
        .budget(&budget)
        .layer(inner.layer(waits));
    let mut requests: Vec<_> = (0..3)
        .map(|_| task::spawn(service.call(get("/"))))
        .collect();
    for _ in 0..2 {
        for request in &mut requests {
            assert!(request.poll().is_pending());
            assert_eq!(budget.in_flight(), 3);
        }
    }
    assert!(is_refused(&run(service.call(get("/"))).unwrap()));
}

#[test]
fn p07_requests_that_a_handler_makes_of_one_request_hold_its_permit_if_they_have_its_extensions() {
    let budget = Budget::fixed(1);
    let part = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    let fan_out = service_fn(move |request: Req| {
        let (mut one, mut other) = (part.clone(), part.clone());
        async move {
            let [mut one_part, mut other_part] = [get("/1"), get("/2")];
            *one_part.extensions_mut() = request.extensions().clone();
            *other_part.extensions_mut() = request.extensions().clone();
            let (one, other) = tokio::join!(one.call(one_part), other.call(other_part));
            assert!(!is_refused(&one?) && !is_refused(&other?));
            Ok::<_, Broken>(Response::new(body([Step::Data])))
        }
    });
    let response = answer(
        &mut LoadShed::observe().budget(&budget).layer(fan_out),
        get("/"),
    );
    assert_eq!((budget.in_flight(), budget.snapshot().admitted), (1, 1));
    drop(response);
    assert_eq!(budget.in_flight(), 0);
}

#[test]
fn p07_a_request_that_moves_between_threads_is_still_one() {
    let budget = Budget::fixed(1);
    let inner = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    let hops = service_fn(move |request: Req| {
        let mut inner = inner.clone();
        async move {
            tokio::task::yield_now().await;
            let called = inner.call(request);
            tokio::task::yield_now().await;
            called.await
        }
    });
    let mut service = LoadShed::observe().budget(&budget).layer(hops);
    let mut request = Box::pin(service.call(get("/")));
    // Each poll on a thread of its own; what was decided there must not stay there.
    for _ in 0..2 {
        thread::scope(|scope| {
            let polled = scope.spawn(|| assert!(request.as_mut().now_or_never().is_none()));
            polled.join().unwrap();
        });
        assert_eq!(budget.in_flight(), 1);
    }
    let response = request.now_or_never().unwrap().unwrap();
    assert!(!is_refused(&response));
    assert_eq!((budget.in_flight(), budget.snapshot().admitted), (1, 1));
    thread::spawn(move || drop(response)).join().unwrap();
    assert_eq!(budget.in_flight(), 0);
}

#[test]
fn p07_one_that_is_counted_on_one_thread_and_refused_on_another_is_in_the_figures_once() {
    let budget = Budget::fixed(1);
    let _running = budget.try_acquire(all()).unwrap();
    let inner = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    let late = service_fn(move |request: Req| {
        let mut inner = inner.clone();
        async move {
            tokio::task::yield_now().await;
            inner.call(request).await
        }
    });
    let mut service = LoadShed::observe().budget(&budget).layer(late);
    let mut request = Box::pin(service.call(get("/")));
    assert!(request.as_mut().now_or_never().is_none());
    assert_eq!((budget.in_flight(), budget.snapshot().admitted), (2, 2));
    let there = thread::spawn(move || is_refused(&request.now_or_never().unwrap().unwrap()));
    assert!(there.join().unwrap());
    let figures = budget.snapshot();
    assert_eq!(
        (figures.in_flight, figures.admitted, figures.refused),
        (1, 1, 1)
    );
}

#[test]
fn p07_a_permit_that_a_handler_takes_is_one_of_its_own() {
    let budget = Budget::fixed(2);
    let taken = Arc::new(Mutex::new(None));
    let handler = {
        let (budget, taken) = (budget.clone(), Arc::clone(&taken));
        service_fn(move |_: Req| {
            *taken.lock().unwrap() = budget.try_acquire(all()).ok();
            ready(Ok::<_, Broken>(Response::new(body([Step::Data]))))
        })
    };
    let response = answer(
        &mut LoadShed::ratio(1.0).budget(&budget).layer(handler),
        get("/"),
    );
    assert_eq!(budget.in_flight(), 2);
    drop(response);
    assert_eq!(budget.in_flight(), 1);
    drop(taken.lock().unwrap().take());
    assert_eq!(budget.in_flight(), 0);
}
