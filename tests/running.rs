//! Promises 3, 4, 5, 8 and 24: what a request holds while it runs, and what changes meanwhile.

mod support;

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    task::Poll,
    thread,
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::Response;
use http_body::Body;
use http_body_util::{BodyExt, Full};
use loadshed::{Adaptive, Budget, LoadShed, Threshold};
use tokio_test::task;
use tower::{
    Layer, Service, ServiceExt, limit::ConcurrencyLimit, service_fn, util::BoxCloneService,
};

use support::{
    BoxBody, Broken, Gate, Law, Req, Scripted, ScriptedBody, Step, all, answer, body, boxed_body,
    caught, get, holding, is_refused, next_frame, run,
};

// ---- 3: given back, exactly once

type Boxed = BoxCloneService<Req, Response<BoxBody>, Broken>;

fn boxed<S, B>(service: S) -> Boxed
where
    S: Service<Req, Response = Response<B>, Error = Broken> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error = Broken> + Send + 'static,
{
    BoxCloneService::new(service.map_response(|head: Response<B>| head.map(boxed_body)))
}

#[derive(Clone, Copy, Debug)]
enum Stack {
    Alone,
    /// Inside another layer of the same budget, which then holds the place.
    Inside,
    /// With a layer of another budget between the two.
    Between,
}

struct Place {
    stack: Stack,
    budget: Budget,
    other: Budget,
}

impl Place {
    fn service(&self, inner: Scripted) -> Boxed {
        let (outer, between) = (
            LoadShed::observe().budget(&self.budget),
            LoadShed::observe().budget(&self.other),
        );
        let layer = LoadShed::ratio(1.0).budget(&self.budget);
        match self.stack {
            Stack::Alone => boxed(layer.layer(inner)),
            Stack::Inside => boxed(outer.layer(layer.layer(inner))),
            Stack::Between => boxed(outer.layer(between.layer(layer.layer(inner)))),
        }
    }

    /// Besides the one that is always held.
    #[track_caller]
    fn expect(&self, in_flight: usize) {
        assert_eq!(
            self.budget.in_flight(),
            1 + in_flight,
            "{:?} {:?}",
            self.stack,
            self.budget
        );
        assert_eq!(self.budget.limit(), 5);
    }
}

/// Under fixed and learned budgets, alone and nested. Whatever `run` does has to leave the count as it was, and the
/// thread too: what comes next on it must not be taken for the request that was.
fn everywhere(run: impl Fn(&Place)) {
    for stack in [Stack::Alone, Stack::Inside, Stack::Between] {
        for budget in [Budget::fixed(5), Budget::new(Law::new(5..=5, 5, |_| 5))] {
            let place = Place {
                stack,
                budget,
                other: Budget::fixed(5),
            };
            // One more release than admissions would show in it, and at 0 would not.
            let held = place.budget.try_acquire(all()).unwrap();
            place.expect(0);
            run(&place);
            place.expect(0);
            assert_eq!(place.other.in_flight(), 0, "{stack:?}");

            let next = answer(&mut place.service(holding()), get("/"));
            place.expect(1);
            drop(next);
            place.expect(0);
            drop(held);
            assert_eq!(place.budget.in_flight(), 0);
        }
    }
}

#[test]
fn p03_a_permit_is_given_back_once_at_the_end_of_the_body() {
    everywhere(|place| {
        let inner = Scripted {
            body: body([Step::Data, Step::Wait, Step::Data]),
            ..Scripted::default()
        };
        let mut response = answer(&mut place.service(inner), get("/"));
        for _ in 0..3 {
            place.expect(1);
            assert!(!matches!(next_frame(&mut response), Poll::Ready(None)));
        }
        place.expect(1);
        assert!(matches!(next_frame(&mut response), Poll::Ready(None)));
        place.expect(0);
        assert!(matches!(next_frame(&mut response), Poll::Ready(None)));
        place.expect(0);
    });
}

#[test]
fn p03_a_permit_is_given_back_once_on_an_error_of_the_body() {
    everywhere(|place| {
        let inner = Scripted {
            body: body([Step::Data, Step::Fail, Step::Data]),
            ..Scripted::default()
        };
        let mut response = answer(&mut place.service(inner), get("/"));
        assert!(matches!(
            next_frame(&mut response),
            Poll::Ready(Some(Ok(_)))
        ));
        place.expect(1);
        assert!(matches!(
            next_frame(&mut response),
            Poll::Ready(Some(Err(Broken("body failed"))))
        ));
        place.expect(0);
        // Some are polled on.
        assert!(matches!(
            next_frame(&mut response),
            Poll::Ready(Some(Ok(_)))
        ));
        assert!(matches!(next_frame(&mut response), Poll::Ready(None)));
        place.expect(0);
    });
}

#[test]
fn p03_a_permit_is_given_back_when_the_body_is_dropped_read_or_half_read_or_unread() {
    for read in 0..3 {
        everywhere(|place| {
            let inner = Scripted {
                body: body([Step::Data; 2]),
                ..Scripted::default()
            };
            let mut response = answer(&mut place.service(inner), get("/"));
            for _ in 0..read {
                assert!(next_frame(&mut response).is_ready());
            }
            place.expect(1);
        });
    }
}

#[test]
fn p03_a_permit_is_given_back_when_the_future_is_dropped_whenever_that_is() {
    for (ready, poll) in [(0, 2), (1, 1), (3, 2)] {
        // The first time the inner service is asked, it is in `call`.
        for polls in 0..ready + poll - 1 {
            everywhere(|place| {
                let inner = Scripted {
                    ready: vec![Step::Wait; ready].into(),
                    poll: vec![Step::Wait; poll].into(),
                    ..Scripted::default()
                };
                let mut service = place.service(inner);
                let mut future = task::spawn(service.call(get("/")));
                for _ in 0..polls {
                    place.expect(1);
                    assert!(future.poll().is_pending());
                }
                place.expect(1);
            });
        }
    }
}

/// Whatever the script, the answer is this error, and the place is free at the answer: not only once the future is
/// dropped.
fn fails_with(inner: &Scripted, error: &'static str) {
    let budget = Budget::fixed(5);
    let _held = budget.try_acquire(all()).unwrap();
    let layer = LoadShed::ratio(1.0).budget(&budget);
    for service in [
        boxed(layer.layer(inner.clone())),
        boxed(
            LoadShed::observe()
                .budget(&budget)
                .layer(layer.layer(inner.clone())),
        ),
    ] {
        let mut service = service;
        assert_eq!(run(service.call(get("/"))).unwrap_err(), Broken(error));
        assert_eq!(budget.in_flight(), 1);
    }
    // Not boxed, as a box would drop the future when it is done.
    let mut service = layer.layer(inner.clone());
    let mut future = task::spawn(service.call(get("/")));
    let result = loop {
        if let Poll::Ready(result) = future.poll() {
            break result;
        }
    };
    assert_eq!(result.unwrap_err(), Broken(error));
    assert_eq!(
        budget.in_flight(),
        1,
        "the answer is out, and the place is still taken"
    );
    drop(future);
    assert_eq!(budget.in_flight(), 1);
}

#[test]
fn p03_a_permit_is_given_back_when_the_inner_future_fails() {
    for poll in [vec![Step::Fail], vec![Step::Wait, Step::Fail]] {
        fails_with(
            &Scripted {
                poll: poll.into(),
                ..Scripted::default()
            },
            "failed",
        );
    }
}

#[test]
fn p03_a_permit_is_given_back_when_the_inner_service_fails_to_become_ready() {
    for ready in [
        vec![Step::Fail],
        vec![Step::Wait, Step::Fail],
        vec![Step::Wait, Step::Wait, Step::Fail],
    ] {
        fails_with(
            &Scripted {
                ready: ready.into(),
                ..Scripted::default()
            },
            "not ready",
        );
    }
}

#[test]
fn p03_a_permit_is_given_back_when_call_panics() {
    everywhere(|place| {
        let inner = Scripted {
            call_panics: true,
            ..Scripted::default()
        };
        let mut service = place.service(inner);
        caught(|| drop(service.call(get("/"))));
        place.expect(0);
    });
}

#[test]
fn p03_a_permit_is_given_back_when_call_panics_after_a_wait_for_readiness() {
    everywhere(|place| {
        let inner = Scripted {
            ready: [Step::Wait].into(),
            call_panics: true,
            ..Scripted::default()
        };
        let mut service = place.service(inner);
        let mut future = task::spawn(service.call(get("/")));
        place.expect(1);
        caught(|| future.poll());
    });
}

#[test]
fn p03_a_permit_is_given_back_when_the_future_panics() {
    for poll in [vec![Step::Panic], vec![Step::Wait, Step::Panic]] {
        everywhere(|place| {
            let mut service = place.service(Scripted {
                poll: poll.clone().into(),
                ..Scripted::default()
            });
            let mut future = task::spawn(service.call(get("/")));
            for _ in 1..poll.len() {
                assert!(future.poll().is_pending());
            }
            place.expect(1);
            caught(|| future.poll());
        });
    }
}

#[test]
fn p03_a_permit_is_given_back_when_poll_ready_panics() {
    everywhere(|place| {
        let mut service = place.service(Scripted {
            ready: [Step::Panic].into(),
            ..Scripted::default()
        });
        caught(|| drop(service.call(get("/"))));
        place.expect(0);

        let mut service = place.service(Scripted {
            ready: [Step::Wait, Step::Panic].into(),
            ..Scripted::default()
        });
        let mut future = task::spawn(service.call(get("/")));
        place.expect(1);
        caught(|| future.poll());
    });
}

#[test]
fn p03_a_permit_is_given_back_when_the_body_panics() {
    everywhere(|place| {
        let inner = Scripted {
            body: body([Step::Data, Step::Panic]),
            ..Scripted::default()
        };
        let mut response = answer(&mut place.service(inner), get("/"));
        assert!(next_frame(&mut response).is_ready());
        place.expect(1);
        caught(|| next_frame(&mut response));
    });
}

#[test]
fn p03_a_permit_is_given_back_when_a_drop_of_the_future_or_of_the_body_panics() {
    everywhere(|place| {
        let inner = Scripted {
            poll: [Step::Wait].into(),
            drop_panics: true,
            ..Scripted::default()
        };
        let mut service = place.service(inner);
        let mut future = task::spawn(service.call(get("/")));
        assert!(future.poll().is_pending());
        place.expect(1);
        caught(|| drop(future));
        place.expect(0);

        let inner = Scripted {
            body: body([Step::Data]),
            body_drop_panics: true,
            ..Scripted::default()
        };
        let response = answer(&mut place.service(inner), get("/"));
        place.expect(1);
        caught(|| drop(response));
    });
}

#[test]
fn p03_a_permit_of_a_thread_that_panics_is_given_back() {
    support::quiet();
    for budget in [Budget::fixed(2), Budget::adaptive()] {
        let theirs = budget.clone();
        let thread = thread::spawn(move || {
            let _permit = theirs.try_acquire(all()).unwrap();
            assert_eq!(theirs.in_flight(), 1);
            support::panic_on_purpose();
        });
        assert!(thread.join().is_err());
        assert_eq!(budget.in_flight(), 0);
    }
}

#[test]
fn p03_a_permit_that_a_thread_keeps_for_itself_is_given_back_at_the_end_of_the_thread() {
    thread_local! {
        static KEPT: std::cell::RefCell<Vec<loadshed::Permit>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    for budget in [Budget::fixed(2), Budget::adaptive()] {
        let theirs = budget.clone();
        let in_flight = thread::spawn(move || {
            // Registered before anything that the crate keeps for the thread, so destroyed after it.
            KEPT.with(|kept| kept.borrow_mut().reserve(1));
            let permit = theirs.try_acquire(all()).unwrap();
            KEPT.with(|kept| kept.borrow_mut().push(permit));
            theirs.in_flight()
        })
        .join()
        .unwrap();
        assert_eq!((in_flight, budget.in_flight()), (1, 0));
    }
}

#[test]
fn p03_a_permit_is_given_back_on_drop_and_on_discard_from_any_thread() {
    for budget in [Budget::fixed(3), Budget::adaptive()] {
        let (dropped, discarded) = (
            budget.try_acquire(all()).unwrap(),
            budget.try_acquire(all()).unwrap(),
        );
        let exempt = budget.try_acquire(Threshold::EXEMPT).unwrap();
        assert_eq!(budget.in_flight(), 2);
        thread::spawn(move || drop(dropped)).join().unwrap();
        assert_eq!(budget.in_flight(), 1);
        exempt.discard();
        assert_eq!(budget.in_flight(), 1);
        discarded.discard();
        assert_eq!(budget.in_flight(), 0);
    }
}

#[test]
fn p03_what_outlives_its_budget_is_given_back_to_no_other_budget() {
    let budget = Budget::fixed(2);
    let mut service = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    let response = answer(&mut service, get("/"));
    let permit = budget.try_acquire(all()).unwrap();
    drop((budget, service));

    let others: Vec<_> = (0..50).map(|_| Budget::fixed(7)).collect();
    let held: Vec<_> = others
        .iter()
        .map(|other| other.try_acquire(all()).unwrap())
        .collect();
    drop(permit);
    drop(response);
    let more: Vec<_> = (0..50).map(|_| Budget::fixed(9)).collect();
    for other in &others {
        assert_eq!((other.in_flight(), other.limit()), (1, 7));
    }
    drop(held);
    let mut all_of_them = others.iter().chain(&more);
    assert!(all_of_them.all(|other| other.in_flight() == 0));
}

#[tokio::test]
async fn p03_a_permit_is_given_back_when_the_task_of_the_request_is_aborted() {
    let budget = Budget::fixed(1);
    let layer = LoadShed::ratio(1.0).budget(&budget);
    let never =
        service_fn(|_: Req| std::future::pending::<Result<Response<ScriptedBody>, Broken>>());
    let request = tokio::spawn(layer.layer(never).oneshot(get("/")));
    while budget.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    assert_eq!(budget.in_flight(), 0);
}

// ---- 4: held until the body ends

#[test]
fn p04_the_place_is_held_after_the_head_until_the_body_is_read() {
    let budget = Budget::fixed(1);
    let inner = Scripted {
        body: body([Step::Data; 3]).that_tells_its_end(),
        ..Scripted::default()
    };
    let mut service = LoadShed::ratio(1.0).budget(&budget).layer(inner);
    let mut response = answer(&mut service, get("/"));
    for _ in 0..3 {
        assert!(is_refused(&answer(&mut service, get("/"))));
        assert!(next_frame(&mut response).is_ready());
    }
    // Nobody has asked for the `None` after the last frame.
    assert_eq!(budget.in_flight(), 0);
    assert!(!is_refused(&answer(&mut service, get("/"))));
}

#[test]
fn p04_a_body_that_is_at_its_end_from_the_start_never_holds() {
    everywhere(|place| {
        let inner = Scripted {
            body: body([]).that_tells_its_end(),
            ..Scripted::default()
        };
        let response = answer(&mut place.service(inner), get("/"));
        place.expect(0);
        drop(response);
    });
    let budget = Budget::fixed(1);
    let mut service = LoadShed::ratio(1.0)
        .budget(&budget)
        .layer(service_fn(|_: Req| {
            ready(Ok::<_, Broken>(Response::new(Full::new(Bytes::new()))))
        }));
    let kept: Vec<_> = (0..3).map(|_| answer(&mut service, get("/"))).collect();
    assert!(!kept.iter().any(is_refused));
}

#[test]
fn p04_an_empty_body_that_does_not_tell_holds_until_it_is_asked() {
    everywhere(|place| {
        let mut response = answer(&mut place.service(Scripted::default()), get("/"));
        place.expect(1);
        assert!(matches!(next_frame(&mut response), Poll::Ready(None)));
        place.expect(0);
    });
}

#[test]
fn p04_the_end_is_after_the_trailers_not_after_the_last_data() {
    for tells in [true, false] {
        everywhere(|place| {
            let mut body = body([Step::Data, Step::Wait, Step::Trailers]);
            body.tells_its_end = tells;
            let inner = Scripted {
                body,
                ..Scripted::default()
            };
            let mut response = answer(&mut place.service(inner), get("/"));
            assert!(next_frame(&mut response).is_ready());
            place.expect(1);
            assert!(next_frame(&mut response).is_pending());
            place.expect(1);
            let Poll::Ready(Some(Ok(frame))) = next_frame(&mut response) else {
                panic!("trailers")
            };
            assert!(frame.is_trailers());
            place.expect(usize::from(!tells));
            assert!(matches!(next_frame(&mut response), Poll::Ready(None)));
            place.expect(0);
        });
    }
}

#[test]
fn p04_the_place_is_taken_from_call_on_before_the_future_is_polled() {
    let budget = Budget::fixed(1);
    let mut service = LoadShed::ratio(1.0)
        .budget(&budget)
        .layer(Scripted::default());
    let first = service.call(get("/"));
    assert_eq!(budget.in_flight(), 1);
    assert!(is_refused(&answer(&mut service, get("/"))));
    drop(first);
}

#[test]
fn p04_the_body_passes_as_it_is() {
    let inner = Scripted {
        body: body([Step::Data, Step::Data, Step::Trailers]).that_tells_its_end(),
        ..Scripted::default()
    };
    let mut response = answer(&mut LoadShed::ratio(1.0).layer(inner), get("/"));
    assert_eq!(response.body().size_hint().exact(), Some(8));
    assert!(!response.body().is_end_stream());
    let collected = run(response.body_mut().collect()).unwrap();
    assert!(collected.trailers().is_some());
    assert_eq!(collected.to_bytes(), "datadata");
    assert!(response.body().is_end_stream());
}

// ---- 5: the limit moves

#[test]
fn p05_lowering_the_limit_cancels_nothing_and_admits_nothing_until_enough_has_ended() {
    let budget = Budget::fixed(5);
    let mut service = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    let mut running: Vec<_> = (0..5).map(|_| answer(&mut service, get("/"))).collect();
    budget.set_limit(2).unwrap();
    assert_eq!(
        (budget.limit(), budget.in_flight(), budget.utilization()),
        (2, 5, 2.5)
    );
    for left in (0..5).rev() {
        assert_eq!(
            is_refused(&answer(&mut service, get("/"))),
            left >= 1,
            "{left}"
        );
        let whole = run(running.pop().unwrap().into_body().collect());
        assert_eq!(whole.unwrap().to_bytes(), "data");
        assert_eq!(budget.in_flight(), left);
    }
}

#[test]
fn p05_raising_the_limit_takes_effect_at_once() {
    let budget = Budget::fixed(1);
    let mut service = LoadShed::ratio(0.5).budget(&budget).layer(holding());
    let mut running = vec![answer(&mut service, get("/"))];
    for (limit, more) in [(4, 1), (5, 0), (10, 3), (11, 0)] {
        budget.set_limit(limit).unwrap();
        running.extend((0..more).map(|_| answer(&mut service, get("/"))));
        assert!(is_refused(&answer(&mut service, get("/"))), "limit {limit}");
    }
    assert!(!running.iter().any(is_refused));
    assert_eq!(budget.in_flight(), 5);
}

#[test]
fn p05_who_tries_after_the_limit_was_lowered_is_never_admitted_by_the_old_one() {
    const LIMIT: usize = 4;
    for _ in 0..200 {
        let budget = Budget::fixed(LIMIT);
        let (holders, lowered) = (AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let after = lowered.load(Ordering::SeqCst);
                        let Ok(_permit) = budget.try_acquire(all()) else {
                            continue;
                        };
                        let now = holders.fetch_add(1, Ordering::SeqCst) + 1;
                        assert!(now <= if after { 1 } else { LIMIT }, "{now} after {after}");
                        thread::yield_now();
                        holders.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
            budget.set_limit(1).unwrap();
            lowered.store(true, Ordering::SeqCst);
        });
        assert_eq!((budget.limit(), budget.in_flight()), (1, 0));
    }
}

// ---- 8: an inner service that is not ready

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
            "/login" => Threshold::NEVER,
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

// ---- 24: changes while requests run

#[test]
fn p24_a_ratio_changes_for_those_who_come_and_not_for_those_who_run() {
    let budget = Budget::fixed(10);
    let shed = LoadShed::ratio(0.5).budget(&budget);
    // Of before, and of after the handle was made; the handle's clone is the same one.
    let mut early = shed.layer(holding());
    let handle = shed.handle().clone();
    let mut late = shed.clone().layer(holding());
    let mut running: Vec<_> = (0..5).map(|_| answer(&mut early, get("/"))).collect();
    assert!(is_refused(&answer(&mut late, get("/"))));
    handle.set_ratio(0.7).unwrap();
    running.extend([answer(&mut early, get("/")), answer(&mut late, get("/"))]);
    handle.set_ratio(0.2).unwrap();
    assert!(is_refused(&answer(&mut early, get("/"))) && is_refused(&answer(&mut late, get("/"))));
    assert!(!running.iter().any(is_refused));
    assert_eq!(handle.budget().in_flight(), 7);
    running.truncate(1);
    running.push(answer(&mut early, get("/")));
    assert!(!is_refused(&running[1]));
    assert!(is_refused(&answer(&mut late, get("/"))));
}

#[test]
fn p24_a_layer_that_only_observed_sheds_once_it_has_a_ratio() {
    let shed = LoadShed::observe().budget(Budget::fixed(2));
    let mut service = shed.layer(holding());
    let _running: Vec<_> = (0..3).map(|_| answer(&mut service, get("/"))).collect();
    shed.handle().set_ratio(1.0).unwrap();
    assert!(is_refused(&answer(&mut service, get("/"))));
    assert_eq!(shed.handle().budget().in_flight(), 3);
}

#[test]
fn p24_a_bad_value_is_refused_and_the_old_one_kept() {
    let budget = Budget::fixed(4);
    let shed = LoadShed::ratio(0.5).budget(&budget);
    let handle = shed.handle();
    for bad in [
        f64::NAN,
        0.0,
        -0.0,
        -0.5,
        1.0 + f64::EPSILON,
        50.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ] {
        let text = handle.set_ratio(bad).unwrap_err().to_string();
        assert_eq!(
            text,
            format!("ratio: {bad} was given, allowed is more than 0 and at most 1")
        );
    }
    for bad in [0, 1 << 31, 1 << 32, (1 << 32) + 1, usize::MAX] {
        let text = budget.set_limit(bad).unwrap_err().to_string();
        assert_eq!(
            text,
            format!("limit: {bad} was given, allowed is 1 to 2147483647")
        );
    }
    let mut service = shed.layer(holding());
    let responses: Vec<_> = (0..3).map(|_| answer(&mut service, get("/"))).collect();
    assert_eq!(
        responses.iter().map(is_refused).collect::<Vec<_>>(),
        [false, false, true]
    );

    let learned = Budget::new(Adaptive::default().initial(10).min(5).max(20));
    for bad in [0, 4, 21] {
        let text = learned.set_limit(bad).unwrap_err().to_string();
        assert_eq!(text, format!("limit: {bad} was given, allowed is 5 to 20"));
    }
    assert_eq!(learned.limit(), 10);
    learned.set_limit(5).unwrap();
    learned.set_limit(20).unwrap();
    assert_eq!(learned.limit(), 20);
}

#[test]
fn p24_a_learned_limit_goes_on_from_what_it_was_set_to() {
    let learned = Budget::new(Law::new(1..=100, 10, |window| window.limit + 1));
    let mut service = LoadShed::ratio(1.0).budget(&learned).layer(holding());
    drop(answer(&mut service, get("/")));
    assert_eq!(learned.limit(), 11);
    let running = answer(&mut service, get("/"));
    learned.set_limit(50).unwrap();
    assert_eq!((learned.limit(), learned.in_flight()), (50, 1));
    drop(answer(&mut service, get("/")));
    drop(running);
    assert_eq!((learned.limit(), learned.in_flight()), (51, 0));
}

#[test]
fn p24_a_limit_that_is_set_while_the_law_thinks_is_not_lost() {
    let (entered, has_entered) = mpsc::channel();
    let (may_go_on, goes_on) = mpsc::channel::<()>();
    let law = Law::new(1..=100, 10, move |window| {
        entered.send(()).unwrap();
        // Only the first time: after that, the other end is gone.
        let _ = goes_on.recv();
        window.limit + 1
    });
    let budget = Budget::new(law);
    let mut service = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    let mut first = service.clone();
    let thinking = thread::spawn(move || drop(answer(&mut first, get("/"))));
    has_entered.recv().unwrap();
    budget.set_limit(3).unwrap();
    drop(may_go_on);
    thinking.join().unwrap();
    assert_eq!(budget.limit(), 3, "the law has thought about 10");
    drop(answer(&mut service, get("/")));
    assert_eq!(
        (budget.limit(), budget.in_flight()),
        (4, 0),
        "it goes on from there"
    );
}

#[test]
fn p24_dry_run_is_switched_both_ways_while_requests_run_and_no_permit_is_lost() {
    let budget = Budget::fixed(1);
    let shed = LoadShed::ratio(1.0).budget(&budget);
    let handle = shed.handle();
    let mut service = shed.layer(holding());
    let first = answer(&mut service, get("/"));
    assert!(is_refused(&answer(&mut service, get("/"))));
    handle.set_dry_run(true);
    assert!(handle.dry_run());
    let ghosts = [
        answer(&mut service, get("/")),
        answer(&mut service, get("/")),
    ];
    assert!(!ghosts.iter().any(is_refused));
    assert_eq!(budget.in_flight(), 1);
    handle.set_dry_run(false);
    assert!(is_refused(&answer(&mut service, get("/"))));
    // The one that is counted ends, then those that are not; no order must free more than one place.
    drop(first);
    let second = answer(&mut service, get("/"));
    assert!(!is_refused(&second));
    drop(ghosts);
    assert_eq!(budget.in_flight(), 1);
    assert!(is_refused(&answer(&mut service, get("/"))));
    drop(second);
    let figures = budget.snapshot();
    assert_eq!((figures.in_flight, figures.admitted), (0, 2));
    assert_eq!((figures.refused, figures.would_refuse), (3, 2));
}

#[test]
fn p24_under_a_storm_of_changes_no_request_and_no_permit_is_lost() {
    const REQUESTS: usize = 20_000;
    let budget = Budget::fixed(2);
    let shed = LoadShed::ratio(1.0).budget(&budget);
    let outer = LoadShed::observe().budget(&budget);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|nth| {
                let service = outer.layer(shed.layer(holding()));
                let alone = shed.layer(holding());
                scope.spawn(move || {
                    let mut services = (service, alone);
                    for request in 0..REQUESTS {
                        if (request + nth) % 2 == 0 {
                            drop(answer(&mut services.0, get("/")));
                        } else {
                            drop(answer(&mut services.1, get("/")));
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            let handle = shed.handle();
            for step in 0_usize.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                handle.set_dry_run(step % 2 == 0);
                handle.set_ratio([0.3, 1.0, 0.9][step % 3]).unwrap();
                budget.set_limit(1 + step % 4).unwrap();
            }
        });
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    let figures = budget.snapshot();
    assert_eq!(figures.in_flight, 0);
    assert_eq!(
        figures.admitted + figures.refused + figures.would_refuse,
        2 * REQUESTS
    );
    assert!((1..=4).contains(&figures.limit));
}
