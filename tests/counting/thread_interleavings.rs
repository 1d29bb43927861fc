//! Promise 2: every interleaving of threads.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use loadshed::{Budget, LoadShed};
use tower::Layer;

use crate::support::{all, answer, get, holding, is_refused};

/// Runs `work` on so many threads at once, and returns what each returns.
fn on_threads<T: Send>(threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = (0..threads)
            .map(|nth| scope.spawn(move || work(nth)))
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// Two threads try, hold for a moment and give back, as fast as they can. Returns how often they were admitted.
fn storm<T>(budget: &Budget, tries: usize, attempt: impl Fn() -> Option<T> + Sync) -> usize {
    let holders = AtomicUsize::new(0);
    let admitted = on_threads(2, |_| {
        let mut admitted = 0;
        for _ in 0..tries {
            let Some(_held) = attempt() else { continue };
            assert_eq!(
                holders.fetch_add(1, Ordering::SeqCst),
                0,
                "two at once under a cap of 1"
            );
            admitted += 1;
            holders.fetch_sub(1, Ordering::SeqCst);
        }
        admitted
    });
    let admitted = admitted.into_iter().sum();
    let figures = budget.snapshot();
    assert_eq!((figures.in_flight, figures.admitted), (0, admitted));
    assert_eq!(figures.refused, 2 * tries - admitted);
    assert!(
        figures.refused > 0,
        "the threads never met: nothing was tested"
    );
    admitted
}

#[test]
fn p02_holders_never_exceed_the_cap_and_none_is_lost_from_the_figures() {
    let budget = Budget::fixed(1);
    storm(&budget, 300_000, || budget.try_acquire(all()).ok());
    assert_eq!(budget.snapshot().peak_in_flight, 1);

    let budget = Budget::fixed(2);
    let layer = LoadShed::ratio(0.5).budget(&budget);
    let served = || {
        let response = answer(&mut layer.layer(holding()), get("/"));
        (!is_refused(&response)).then_some(response)
    };
    storm(&budget, 50_000, served);
    assert_eq!(budget.snapshot().peak_in_flight, 1);
}

#[test]
fn p02_the_figures_are_right_however_many_threads_come_and_go() {
    let budget = Budget::fixed(1_000);
    for _ in 0..3 {
        // More than the machine runs at once, and then again, under the numbers of those that are gone.
        let together = Barrier::new(12);
        on_threads(12, |_| {
            together.wait();
            for _ in 0..40_000 {
                drop(budget.try_acquire(all()).unwrap());
            }
        });
    }
    let figures = budget.snapshot();
    assert_eq!(
        (figures.admitted, figures.refused, figures.in_flight),
        (3 * 12 * 40_000, 0, 0)
    );
}

/// All threads try at once, hold what they got until all have tried, and give it back; many times over. Returns how
/// many were admitted in each round.
fn rounds<T>(threads: usize, rounds: usize, attempt: impl Fn() -> Option<T> + Sync) -> Vec<usize> {
    let arrived = AtomicUsize::new(0);
    // A `Barrier` wakes one after the other, too far apart for them to meet.
    let meet = |nth_time: usize| {
        arrived.fetch_add(1, Ordering::SeqCst);
        for spin in 0_usize.. {
            if arrived.load(Ordering::SeqCst) >= threads * nth_time {
                break;
            }
            if spin % 1_000 == 999 {
                thread::yield_now();
            }
        }
    };
    let admitted = on_threads(threads, |_| {
        let attempts = (0..rounds).map(|round| {
            meet(2 * round + 1);
            let got = attempt();
            meet(2 * round + 2);
            usize::from(got.is_some())
        });
        attempts.collect::<Vec<_>>()
    });
    (0..rounds)
        .map(|round| admitted.iter().map(|thread| thread[round]).sum())
        .collect()
}

#[test]
fn p02_as_many_as_there_is_room_for_are_all_admitted_when_they_come_at_once() {
    let budget = Budget::fixed(2);
    let admitted = rounds(2, 50_000, || budget.try_acquire(all()).ok());
    assert!(
        admitted.iter().all(|n| *n == 2),
        "one was refused where it had room"
    );
}

#[test]
fn p02_when_more_come_at_once_than_there_is_room_for_exactly_the_cap_is_admitted() {
    for (threads, cap, times) in [(2, 1, 50_000), (5, 3, 1_000)] {
        let budget = Budget::fixed(5);
        let layer = LoadShed::ratio(cap as f64 / 5.0).budget(&budget);
        let admitted = rounds(threads, times, || {
            let response = answer(&mut layer.layer(holding()), get("/"));
            (!is_refused(&response)).then_some(response)
        });
        let as_told = admitted.iter().all(|n| *n == cap);
        assert!(as_told, "of {threads}, not always {cap}");
    }
}

#[test]
fn p02_an_outer_layer_that_counts_first_makes_no_two_refuse_each_other() {
    for (threads, cap, times) in [(2, 1, 50_000), (3, 2, 1_000), (4, 2, 1_000)] {
        let budget = Budget::fixed(4);
        let outer = LoadShed::observe().budget(&budget);
        let inner = LoadShed::ratio(cap as f64 / 4.0).budget(&budget);
        let admitted = rounds(threads, times, || {
            let response = answer(&mut outer.layer(inner.layer(holding())), get("/"));
            (!is_refused(&response)).then_some(response)
        });
        let as_told = admitted.iter().all(|n| *n == cap);
        assert!(as_told, "of {threads}, not always {cap}");
        let figures = budget.snapshot();
        assert_eq!((figures.in_flight, figures.admitted), (0, cap * times));
        assert_eq!(figures.refused, (threads - cap) * times);
    }
}
