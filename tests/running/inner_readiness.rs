//! Promise 8: an inner service that is not ready.

use std::{
    future::ready,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::Response;
use http_body_util::Full;
use loadshed::{Budget, LoadShed, Threshold};
use tokio_test::task;
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimit, service_fn};

use crate::support::{Broken, Gate, Req, all, answer, get, holding, is_refused, run};

#[test]
fn p08_one_that_waits_for_the_inner_service_is_in_flight_and_the_rest_are_refused_at_once() {
    let budget = Budget::fixed(1);
    let gate = Gate::new(holding());
    let seen = Arc::clone(&gate.seen);
    let mut service = LoadShed::ratio(1.0).budget(&budget).layer(gate);
    let mut waiting = task::spawn(service.call(get("/")));
    assert!(waiting.poll().is_pending());
    assert_eq!(budget.in_flight(), 1);
    let asked = seen.asked.load(Ordering::Relaxed);
    for _ in 0..10 {
        let ready = service.ready().now_or_never();
        assert!(is_refused(&answer(
            ready.expect("it is always ready").unwrap(),
            get("/")
        )));
    }
    assert_eq!(
        seen.asked.load(Ordering::Relaxed),
        asked,
        "a refusal asks nobody"
    );
    seen.open.store(true, Ordering::Relaxed);
    assert!(waiting.is_woken());
    let Poll::Ready(Ok(response)) = waiting.poll() else {
        panic!("it is not served")
    };
    assert!(!is_refused(&response));
    assert_eq!(budget.in_flight(), 1);
}

#[test]
fn p08_an_exempt_request_waits_for_nobody_but_the_inner_service() {
    let budget = Budget::fixed(1);
    let gate = Gate::new(holding());
    let seen = Arc::clone(&gate.seen);
    let shed = LoadShed::ratio(1.0)
        .budget(&budget)
        .threshold(|head| match head.uri().path() {
            "/healthz" => Threshold::EXEMPT,
            "/login" => Threshold::NEVER_SHED,
            _ => all(),
        });
    let mut service = shed.layer(gate);
    let mut waiting = task::spawn(service.call(get("/")));
    assert!(waiting.poll().is_pending());
    assert!(is_refused(&answer(&mut service, get("/"))));
    let ready = service
        .ready()
        .now_or_never()
        .expect("it is always ready")
        .unwrap();
    let mut exempt = task::spawn(ready.call(get("/healthz")));
    assert!(exempt.poll().is_pending());
    assert_eq!(budget.in_flight(), 1);
    let mut never = task::spawn(service.call(get("/login")));
    assert!(never.poll().is_pending());
    assert_eq!(budget.in_flight(), 2);
    // Not in line behind the one that came first.
    seen.open.store(true, Ordering::Relaxed);
    for mut late in [exempt, never] {
        let Poll::Ready(Ok(response)) = late.poll() else {
            panic!("it is not served")
        };
        assert!(!is_refused(&response));
    }
    let figures = budget.snapshot();
    assert_eq!(
        (figures.in_flight, figures.exempt, figures.refused),
        (1, 1, 1)
    );
}

#[test]
fn p08_the_inner_service_is_cloned_only_when_it_is_not_ready() {
    let gate = Gate::new(holding());
    let seen = Arc::clone(&gate.seen);
    let budget = Budget::fixed(1);
    let mut service = LoadShed::ratio(1.0).budget(&budget).layer(gate);
    seen.open.store(true, Ordering::Relaxed);
    let clones = || seen.cloned.load(Ordering::Relaxed);
    for _ in 0..10 {
        let response = answer(&mut service, get("/"));
        assert!(is_refused(&answer(&mut service, get("/"))));
        drop(response);
    }
    assert_eq!(clones(), 0);
    seen.open.store(false, Ordering::Relaxed);
    let waiting = service.call(get("/"));
    assert_eq!(clones(), 1);
    for _ in 0..10 {
        assert!(is_refused(&answer(&mut service, get("/"))));
    }
    assert_eq!(clones(), 1);
    seen.open.store(true, Ordering::Relaxed);
    drop(run(waiting));
    drop(answer(&mut service, get("/")));
    assert_eq!(clones(), 1);
}

/// Ready in its own right only: like a `ConcurrencyLimit`, which panics when a clone of the one that was asked is called.
#[derive(Default)]
struct Strict {
    waits: u32,
    ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self {
            waits: 2,
            ready: false,
        }
    }
}

impl Service<Req> for Strict {
    type Response = Response<Full<Bytes>>;
    type Error = Broken;
    type Future = std::future::Ready<Result<Self::Response, Broken>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Broken>> {
        if self.waits > 0 {
            self.waits -= 1;
            return Poll::Pending;
        }
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called before it was ready"
        );
        ready(Ok(Response::default()))
    }
}

#[test]
fn p08_the_one_that_was_asked_is_the_one_that_is_called() {
    let mut service = LoadShed::ratio(1.0).layer(Strict::default());
    for waits in [0, 1, 2, 3] {
        service = LoadShed::ratio(1.0).layer(Strict {
            waits,
            ready: false,
        });
        // Its own readiness goes on from where it was, so it needs as many polls as it has left.
        let mut future = task::spawn(service.call(get("/")));
        for _ in 1..waits {
            assert!(future.poll().is_pending());
        }
        assert!(future.poll().is_ready(), "{waits}");
    }
    // By now a clone, which begins anew.
    assert!(run(service.call(get("/"))).is_ok());
}

#[tokio::test(start_paused = true)]
async fn p08_a_semaphore_inside_is_not_held_by_an_idle_clone_nor_by_a_refusal() {
    let budget = Budget::fixed(2);
    let inner = ConcurrencyLimit::new(holding_its_future(), 1);
    let service = LoadShed::ratio(1.0).budget(&budget).layer(inner);
    let mut idle: Vec<_> = (0..5).map(|_| service.clone()).collect();
    for clone in &mut idle {
        // Asked, and never called.
        clone.ready().await.unwrap();
    }
    let running = tokio::spawn(service.clone().oneshot(get("/10")));
    let waiting = tokio::spawn(service.clone().oneshot(get("/10")));
    tokio::task::yield_now().await;
    assert_eq!(budget.in_flight(), 2);
    for clone in &mut idle {
        assert!(is_refused(
            &clone.ready().await.unwrap().call(get("/10")).await.unwrap()
        ));
    }
    // Ten seconds each, one after the other: nobody is woken late or not at all.
    let begin = tokio::time::Instant::now();
    for request in [running, waiting] {
        assert!(!is_refused(&request.await.unwrap().unwrap()));
    }
    assert_eq!(begin.elapsed().as_secs(), 20);
    for mut clone in idle {
        assert!(!is_refused(&clone.call(get("/10")).await.unwrap()));
    }
    assert_eq!(begin.elapsed().as_secs(), 70);
    assert_eq!(budget.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn p08_a_semaphore_inside_is_free_again_when_one_that_waits_for_it_is_dropped() {
    let budget = Budget::fixed(10);
    let inner = ConcurrencyLimit::new(holding_its_future(), 1);
    let mut service = LoadShed::ratio(1.0).budget(&budget).layer(inner);
    let running = tokio::spawn(service.call(get("/10")));
    let unpolled = service.call(get("/10"));
    let mut polled = task::spawn(service.call(get("/10")));
    assert!(polled.poll().is_pending());
    let last = tokio::spawn(service.call(get("/10")));
    tokio::task::yield_now().await;
    assert_eq!(budget.in_flight(), 4);
    drop(unpolled);
    drop(polled);
    assert_eq!(budget.in_flight(), 2);
    let begin = tokio::time::Instant::now();
    running.await.unwrap().unwrap();
    last.await.unwrap().unwrap();
    assert_eq!(begin.elapsed().as_secs(), 20);
    assert!(service.call(get("/10")).await.is_ok());
}

/// Answers after as many seconds as the path says, with an empty body.
fn holding_its_future()
-> impl Service<Req, Response = Response<Full<Bytes>>, Error = Broken, Future: Send>
+ Clone
+ Send
+ 'static {
    service_fn(|request: Req| async move {
        let seconds = request.uri().path()[1..].parse().unwrap();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Ok(Response::default())
    })
}
