//! Calls that are dropped, polled too often or not at all, and handlers that panic.

use std::sync::{Arc, Mutex};

use loadshed::{Budget, LoadShed, control::Outcome};

use super::{
    Server, ms, pass,
    support::{FnController, Gate, Scripted, Step, caught, get, holding},
    three_wait,
};
use tokio_test::task::spawn;
use tower::{Layer, Service};

#[tokio::test(start_paused = true)]
async fn a_dropped_call_leaves_the_queue() {
    let (budget, shed) = three_wait(1);
    let mut server = Server::new(shed);
    let held = server.served("/");
    let [first, mut second] = [server.waiting("/"), server.waiting("/")];
    drop(first);
    assert_eq!(budget.snapshot().waiting, 1);
    drop(held);
    drop(second.served());
    let now = budget.snapshot();
    assert_eq!(
        (now.in_flight, now.waiting, now.admitted, now.refused),
        (0, 0, 2, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_after_its_admission_gives_its_permit_to_the_next() {
    let (budget, shed) = three_wait(1);
    let mut server = Server::new(shed);
    let held = server.served("/");
    let [first, mut second] = [server.waiting("/"), server.waiting("/")];
    drop(held);
    assert!(first.0.is_woken() && !second.0.is_woken());
    drop(first);
    assert!(second.0.is_woken());
    drop(second.served());
    assert_eq!((budget.in_flight(), budget.snapshot().admitted), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_expensive_call_admits_a_cheaper_one_behind_it() {
    let budget = Budget::fixed(3);
    let shed = LoadShed::ratio(1.0).budget(&budget).wait(3, ms(100));
    let mut server = Server::new(shed.cost(|head| head.uri().path()[1..].parse().unwrap()));
    let _held = server.served("/2");
    let expensive = server.waiting("/2");
    let mut cheap = server.waiting("/1");
    drop(expensive);
    assert!(cheap.0.is_woken());
    drop(cheap.served());
}

#[tokio::test(start_paused = true)]
async fn polls_change_nothing_and_only_the_admission_wakes_a_call() {
    let (budget, shed) = three_wait(1);
    let mut server = Server::new(shed);
    let held = server.served("/");
    let mut waiting = [server.waiting("/"), server.waiting("/")];
    for nth in 0..10_000 {
        assert!(waiting[nth % 2].waits());
    }
    assert_eq!(
        (budget.snapshot().waiting, budget.snapshot().waited),
        (2, 2)
    );
    drop(held);
    assert!(waiting[0].0.is_woken() && !waiting[1].0.is_woken());
    let _served = waiting[0].served();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_polled_is_skipped_after_the_longest_wait() {
    let (budget, shed) = three_wait(1);
    let mut server = Server::new(shed);
    let held = server.served("/");
    let mut forgotten = server.call("/");
    pass(50).await;
    let mut waiting = server.waiting("/");
    pass(50).await;
    drop(held);
    let _served = waiting.served();
    forgotten.refused();
    assert_eq!((budget.in_flight(), budget.snapshot().refused), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_after_the_wait_gives_its_permit_to_the_next() {
    let budget = Budget::fixed(1);
    let shed = LoadShed::ratio(1.0).budget(&budget).wait(3, ms(100));
    let held = Server::new(shed.clone()).served("/");
    let mut panics = [
        spawn(
            shed.layer(Scripted {
                call_panics: true,
                ..holding()
            })
            .call(get("/")),
        ),
        spawn(
            shed.layer(Scripted {
                poll: [Step::Panic].into(),
                ..holding()
            })
            .call(get("/")),
        ),
        spawn(
            shed.layer(Scripted {
                ready: [Step::Panic].into(),
                ..holding()
            })
            .call(get("/")),
        ),
    ];
    for call in &mut panics {
        assert!(call.poll().is_pending());
    }
    drop(held);
    for mut call in panics {
        assert!(call.is_woken());
        caught(|| call.poll());
        drop(call);
    }
    assert_eq!((budget.in_flight(), budget.snapshot().admitted), (0, 4));
}

#[tokio::test(start_paused = true)]
async fn an_admitted_call_waits_for_the_inner_service_as_any_other() {
    let budget = Budget::fixed(1);
    let shed = LoadShed::ratio(1.0).budget(&budget).wait(3, ms(100));
    let held = Server::new(shed.clone()).served("/");
    let gate = Gate::new(holding());
    let seen = Arc::clone(&gate.seen);
    let mut call = spawn(shed.layer(gate).call(get("/")));
    assert!(call.poll().is_pending());
    let asked = || seen.asked.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(asked(), 0, "a queued call does not poll the inner service");
    drop(held);
    assert!(call.poll().is_pending());
    pass(1_000).await;
    assert!(call.poll().is_pending());
    assert_eq!((asked(), budget.in_flight()), (2, 1));
    seen.open.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(call.poll().is_ready());
}

#[tokio::test(start_paused = true)]
async fn the_latency_of_a_queued_request_begins_with_its_admission() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let controller = {
        let seen = Arc::clone(&seen);
        FnController::new(1..=1, 1, move |window| {
            let samples = window.samples.iter();
            seen.lock()
                .unwrap()
                .extend(samples.map(|sample| (sample.latency, sample.outcome)));
            1
        })
    };
    let budget = Budget::new(controller);
    let shed = LoadShed::ratio(1.0).budget(&budget).wait(3, ms(100));
    let held = budget.try_acquire(loadshed::Threshold::ratio(1.0)).unwrap();
    let mut slow = Scripted {
        poll: [Step::Wait].into(),
        ..holding()
    };
    slow.ready.clear();
    let mut call = spawn(shed.layer(slow).call(get("/")));
    assert!(call.poll().is_pending());
    pass(70).await;
    held.discard();
    assert!(call.poll().is_pending());
    pass(30).await;
    assert!(call.poll().is_ready());
    assert_eq!(*seen.lock().unwrap(), [(ms(30), Outcome::Success)]);
}
