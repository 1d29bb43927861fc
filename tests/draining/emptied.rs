//! When `Budget::emptied` resolves.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use futures_util::FutureExt;
use http::StatusCode;
use loadshed::{Budget, LoadShed};
use tokio::{
    task::yield_now,
    time::{Instant, advance, sleep, timeout},
};
use tower::Layer;

use crate::{
    GRACE, MOMENT, served,
    support::{all, answer, get, holding},
};

fn is_ready(future: impl Future<Output = ()>) -> bool {
    future.now_or_never().is_some()
}

#[tokio::test(start_paused = true)]
async fn p26_emptied_resolves_once_nothing_is_in_flight_and_the_grace_has_passed() {
    for in_flight_for in [GRACE / 2, 3 * GRACE] {
        let budget = Budget::fixed(4);
        let held = [(); 3].map(|()| budget.try_acquire(all()).unwrap());
        let start = Instant::now();
        budget.begin_drain(GRACE);
        tokio::spawn(async move {
            sleep(in_flight_for).await;
            drop(held);
        });
        budget.emptied().await;
        let expected = in_flight_for.max(GRACE);
        let took = start.elapsed();
        assert!((expected..=expected + MOMENT).contains(&took), "{took:?}");
        assert_eq!(budget.in_flight(), 0);
        assert!(budget.is_draining());
        budget.emptied().await;
    }
}

#[tokio::test(start_paused = true)]
async fn p26_emptied_waits_for_the_grace_although_nothing_is_in_flight() {
    let budget = Budget::fixed(4);
    budget.begin_drain(GRACE);
    assert!(!is_ready(budget.emptied()));
    advance(GRACE).await;
    assert!(is_ready(budget.emptied()));
}

#[tokio::test(start_paused = true)]
async fn p26_a_request_that_is_admitted_during_the_grace_is_waited_for() {
    let budget = Budget::fixed(4);
    let mut service = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    budget.begin_drain(GRACE);
    let emptied = budget.emptied();
    let mut emptied = pin!(emptied);
    assert!(timeout(GRACE / 2, emptied.as_mut()).await.is_err());
    let response = answer(&mut service, get("/"));
    assert_eq!(response.status(), StatusCode::OK);
    assert!(timeout(2 * GRACE, emptied.as_mut()).await.is_err());
    drop(response);
    assert!(is_ready(emptied));
}

#[tokio::test]
async fn p26_emptied_resolves_without_a_drain_and_without_a_timer() {
    let budget = Budget::fixed(4);
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(pin!(budget.emptied()).poll(&mut cx), Poll::Ready(()));
    let held = budget.try_acquire(all()).unwrap();
    let mut emptied = pin!(budget.emptied());
    assert_eq!(emptied.as_mut().poll(&mut cx), Poll::Pending);
    // The budget serves on.
    assert!(budget.try_acquire(all()).is_ok());
    let mut service = served(&LoadShed::ratio(1.0).budget(&budget));
    assert_eq!(answer(&mut service, get("/")).status(), StatusCode::OK);
    drop(held);
    assert_eq!(emptied.as_mut().poll(&mut cx), Poll::Ready(()));
}

#[tokio::test(start_paused = true)]
async fn p26_any_number_of_tasks_wait_and_a_dropped_one_takes_no_wake_up_with_it() {
    let budget = Budget::fixed(4);
    let held = budget.try_acquire(all()).unwrap();
    let wait = || {
        let budget = budget.clone();
        tokio::spawn(async move { budget.emptied().await })
    };
    let tasks: Vec<_> = (0..100).map(|_| wait()).collect();
    yield_now().await;
    let (dropped, waiting): (Vec<_>, Vec<_>) = (0..).zip(tasks).partition(|(nth, _)| nth % 3 == 0);
    dropped.into_iter().for_each(|(_, task)| task.abort());
    yield_now().await;
    assert!(waiting.iter().all(|(_, task)| !task.is_finished()));
    // Also one that is dropped without having been polled.
    drop(budget.emptied());
    drop(held);
    for (_, task) in waiting {
        timeout(GRACE, task).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn p26_a_drain_that_begins_changes_or_ends_is_seen_by_tasks_that_wait() {
    let budget = Budget::fixed(4);
    let held = budget.try_acquire(all()).unwrap();
    let task = {
        let budget = budget.clone();
        tokio::spawn(async move {
            budget.emptied().await;
            Instant::now()
        })
    };
    yield_now().await;
    let start = Instant::now();
    budget.begin_drain(100 * GRACE);
    drop(held);
    advance(GRACE).await;
    assert!(!task.is_finished(), "the grace has not passed");
    budget.begin_drain(2 * GRACE);
    sleep(GRACE).await;
    assert!(!task.is_finished(), "the new grace has not passed");
    budget.end_drain();
    let took = task.await.unwrap() - start;
    assert!(
        (2 * GRACE..=2 * GRACE + 2 * MOMENT).contains(&took),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn p26_permits_that_threads_have_cached_do_not_keep_emptied_from_resolving() {
    let budget = Budget::fixed(100_000);
    // Enough of them for permits to be cached.
    for _ in 0..1_000 {
        drop(budget.try_acquire(all()).unwrap());
    }
    let held = budget.try_acquire(all()).unwrap();
    let task = {
        let budget = budget.clone();
        tokio::spawn(async move { budget.emptied().await })
    };
    yield_now().await;
    // None is cached while a task waits.
    for _ in 0..1_000 {
        drop(budget.try_acquire(all()).unwrap());
    }
    assert!(!task.is_finished());
    drop(held);
    timeout(GRACE, task).await.unwrap().unwrap();
    assert_eq!(budget.in_flight(), 0);
}

#[test]
fn p26_the_future_of_emptied_is_send() {
    fn is_send(_: impl Future<Output = ()> + Send) {}
    is_send(Budget::fixed(1).emptied());
}
