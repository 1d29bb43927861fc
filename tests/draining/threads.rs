//! Draining while many threads admit and release.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use loadshed::{Budget, Reason};

use crate::{GRACE, support::all};

const THREADS: usize = 1_000;

/// Runs the future in real time: threads do not follow a paused clock.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().build().unwrap();
    let soon = async { tokio::time::timeout(12 * GRACE, future).await };
    runtime.block_on(soon).expect("in time")
}

#[test]
fn p26_emptied_sees_the_releases_of_a_thousand_threads() {
    let budget = Budget::fixed(10 * THREADS);
    for limit in [10 * THREADS, THREADS] {
        budget.set_limit(limit).unwrap();
        thread::scope(|scope| {
            for _ in 0..THREADS {
                let permit = budget.try_acquire(all()).unwrap();
                scope.spawn(move || drop(permit));
            }
            block_on(budget.emptied());
            assert_eq!(budget.in_flight(), 0);
        });
    }
}

#[test]
fn p26_after_a_drain_no_thread_is_admitted_and_nothing_stays_in_flight() {
    for round in 0..20 {
        // With permits that threads cache, and without.
        let budget = Budget::fixed(if round % 2 == 0 { 64 } else { 64_000 });
        let (admitted, late) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    loop {
                        match budget.try_acquire(all()) {
                            Ok(permit) => {
                                admitted.fetch_add(1, Ordering::Relaxed);
                                drop(permit);
                            }
                            Err(shed) if shed.reason() == Reason::Draining => break,
                            Err(_) => {}
                        }
                    }
                    late.fetch_add(
                        usize::from(budget.try_acquire(all()).is_ok()),
                        Ordering::Relaxed,
                    );
                });
            }
            block_on(async {
                while admitted.load(Ordering::Relaxed) == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                budget.begin_drain(Duration::from_millis(20));
                budget.emptied().await;
                assert_eq!(budget.in_flight(), 0);
                let before = admitted.load(Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
                assert_eq!(admitted.load(Ordering::Relaxed), before);
            });
        });
        assert_eq!(late.into_inner(), 0);
    }
}
