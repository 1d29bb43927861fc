//! Promise 3: a place is given back exactly once.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    thread,
};

use http::Response;
use loadshed::{Budget, LoadShed, Threshold};
use tokio_test::task;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{boxed, everywhere};
use crate::support;
use crate::support::{
    Broken, Req, Scripted, ScriptedBody, Step, all, answer, body, caught, get, holding, next_frame,
    run,
};

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
fn p03_what_has_failed_lets_go_of_all_it_holds_before_its_place_is_given_back() {
    /// Of what the inner future holds until it is dropped: a connection of a pool.
    struct Held(Budget, Arc<AtomicUsize>);

    impl Drop for Held {
        fn drop(&mut self) {
            self.1.store(self.0.in_flight(), Ordering::Relaxed);
        }
    }

    let (pool, in_flight) = (Budget::fixed(2), Arc::new(AtomicUsize::new(0)));
    let inner = service_fn({
        let (pool, in_flight) = (pool.clone(), in_flight.clone());
        move |_: Req| {
            let held = Held(pool.clone(), in_flight.clone());
            poll_fn(move |_| {
                let _held = &held;
                Poll::Ready(Err::<Response<ScriptedBody>, _>(Broken("failed")))
            })
        }
    });
    let mut service = LoadShed::ratio(1.0).budget(&pool).layer(inner);
    let mut future = task::spawn(service.call(get("/")));
    assert!(matches!(future.poll(), Poll::Ready(Err(Broken("failed")))));
    assert_eq!(in_flight.load(Ordering::Relaxed), 1);
    assert_eq!(pool.in_flight(), 0);
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
