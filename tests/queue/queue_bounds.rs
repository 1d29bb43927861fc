//! The bounds of the queue: number, time and the caller's deadline. And its counters.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use loadshed::{Budget, LoadShed, RetryAfter, Threshold};

use super::{
    Server, ms, pass,
    support::{answer, get, holding, is_refused, panic_on_purpose, quiet},
    three_wait, with_header,
};
use tower::Layer;

#[tokio::test(start_paused = true)]
async fn a_request_waits_until_capacity_is_free() {
    let (budget, shed) = three_wait(1);
    let mut server = Server::new(shed);
    let held = server.served("/");
    let mut waiting = server.waiting("/");
    let now = budget.snapshot();
    assert_eq!((now.in_flight, now.waiting, now.waited), (1, 1, 1));
    pass(99).await;
    assert!(waiting.waits());
    drop(held);
    assert!(waiting.0.is_woken());
    // The waiter is counted before it is polled.
    assert_eq!((budget.in_flight(), budget.snapshot().waiting), (1, 0));
    drop(waiting.served());
    let now = budget.snapshot();
    assert_eq!((now.in_flight, now.peak_in_flight), (0, 1));
    assert_eq!((now.admitted, now.refused, now.waited), (2, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn no_request_waits_by_default() {
    let budget = Budget::fixed(1);
    let mut server = Server::new(LoadShed::ratio(1.0).budget(&budget));
    let _held = server.served("/");
    server.call("/").refused();
    assert_eq!(budget.snapshot().waited, 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_is_refused_as_any_other_request_after_the_longest_wait() {
    let (budget, shed) = three_wait(1);
    let mut server = Server::new(shed.retry_after(RetryAfter::fixed(ms(7_000))));
    let _held = server.served("/");
    let mut waiting = server.waiting("/");
    pass(99).await;
    assert!(waiting.waits());
    assert_eq!(budget.snapshot().refused, 0);
    pass(1).await;
    assert!(waiting.0.is_woken());
    assert_eq!(waiting.refused().retry_after(), ms(7_000));
    let now = budget.snapshot();
    assert_eq!(
        (now.in_flight, now.waiting, now.refused, now.admitted),
        (1, 0, 1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_finds_the_queue_full_is_refused_at_once() {
    let (budget, shed) = three_wait(1);
    let mut server = Server::new(shed);
    let held = server.served("/");
    let mut waiting: Vec<_> = (0..3).map(|_| server.waiting("/")).collect();
    server.call("/").refused();
    assert_eq!(budget.snapshot().waiting, 3);
    drop(waiting.pop());
    waiting.push(server.waiting("/"));
    drop(held);
    let _next = waiting[0].served();
    waiting.push(server.waiting("/"));
    server.call("/").refused();
    assert_eq!(
        (budget.snapshot().waiting, budget.snapshot().refused),
        (3, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_joins_a_standing_queue_waits_for_a_twentieth_of_the_longest_wait() {
    let (_, shed) = three_wait(1);
    let mut server = Server::new(shed);
    let held = server.served("/");
    let mut first = server.waiting("/");
    pass(60).await;
    let mut second = server.waiting("/");
    pass(41).await;
    first.refused();
    let mut late = server.waiting("/");
    pass(4).await;
    assert!(late.waits());
    pass(1).await;
    late.refused();
    // The bound of a waiter is set when it joins.
    assert!(second.waits());
    drop(held);
    drop(second.served());
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_was_emptied_by_admissions_is_not_standing_when_it_fills_again() {
    let (_, shed) = three_wait(1);
    let mut server = Server::new(shed);
    let mut held = server.served("/");
    for _ in 0..5 {
        let mut waiting = server.waiting("/");
        pass(90).await;
        drop(held);
        held = waiting.served();
    }
    let mut waiting = server.waiting("/");
    pass(90).await;
    assert!(waiting.waits());
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_was_emptied_by_timeouts_is_still_standing() {
    let (_, shed) = three_wait(1);
    let mut server = Server::new(shed);
    let _held = server.served("/");
    let mut waiting = server.waiting("/");
    pass(101).await;
    waiting.refused();
    let mut waiting = server.waiting("/");
    pass(5).await;
    waiting.refused();
    // No request has arrived for the longest wait.
    pass(101).await;
    let mut waiting = server.waiting("/");
    pass(99).await;
    assert!(waiting.waits());
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_was_standing_is_not_standing_under_the_next_budget() {
    for _ in 0..10 {
        let (_, shed) = three_wait(1);
        let mut server = Server::new(shed);
        let _held = server.served("/");
        let mut waiting = server.waiting("/");
        pass(99).await;
        assert!(waiting.waits());
        pass(2).await;
        waiting.refused();
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_no_longer_than_its_deadline() {
    let (budget, shed) = three_wait(1);
    let shed = shed.wait_deadline(|head| {
        let left = head.headers().get("x-left")?.to_str().ok()?;
        left.parse().ok().map(Duration::from_millis)
    });
    let mut server = Server::new(shed);
    let _held = server.served("/");
    for (name, value) in [("grpc-timeout", "20m"), ("x-left", "20")] {
        let mut waiting = server.send(with_header(name, value));
        pass(19).await;
        assert!(waiting.waits(), "{name}");
        pass(1).await;
        waiting.refused();
    }
    for (name, value) in [("grpc-timeout", "0n"), ("x-left", "0")] {
        server.send(with_header(name, value)).refused();
    }
    assert_eq!(
        budget.snapshot().waited,
        2,
        "a call past its deadline does not join"
    );
}

#[tokio::test(start_paused = true)]
async fn a_deadline_beyond_the_longest_wait_has_no_effect() {
    let (_, shed) = three_wait(1);
    let mut server = Server::new(shed);
    let _held = server.served("/");
    for timeout in ["2S", "99999999H", "nonsense"] {
        let mut waiting = server.send(with_header("grpc-timeout", timeout));
        pass(99).await;
        assert!(waiting.waits(), "{timeout}");
        pass(1).await;
        waiting.refused();
        // So that the queue is not standing.
        pass(1_000).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_closure_that_panics_sets_no_deadline() {
    quiet();
    let (_, shed) = three_wait(1);
    let mut server = Server::new(shed.wait_deadline(|_| panic_on_purpose()));
    let _held = server.served("/");
    let mut waiting = server.waiting("/");
    pass(99).await;
    assert!(waiting.waits());
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_never_shed_or_exempt_do_not_wait() {
    let budget = Budget::fixed(1);
    let shed = LoadShed::ratio(1.0).budget(&budget).wait(3, ms(100));
    let mut server = Server::new(shed.except(["/login"]).exempt(["/healthz"]));
    let _held = server.served("/");
    let _waiting = server.waiting("/");
    let _others = [server.served("/login"), server.served("/healthz")];
    assert_eq!(budget.in_flight(), 2);
}

#[test]
fn without_a_timer_no_request_waits_and_one_message_says_so() {
    let (budget, shed) = three_wait(1);
    let refuses = |shed: &loadshed::LoadShed| {
        let mut service = shed.layer(holding());
        let held = answer(&mut service, get("/"));
        assert!(is_refused(&answer(&mut service, get("/"))));
        drop(held);
    };
    refuses(&shed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    // Other tests run at the same time, and may have panics of their own.
    static MESSAGES: AtomicUsize = AtomicUsize::new(0);
    let here = std::thread::current().id();
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |told| match std::thread::current().id() {
        id if id == here => _ = MESSAGES.fetch_add(1, Ordering::Relaxed),
        _ => eprintln!("{told}"),
    }));
    runtime.block_on(async { (0..3).for_each(|_| refuses(&shed)) });
    std::panic::set_hook(usual);
    assert_eq!(MESSAGES.load(Ordering::Relaxed), 1);
    assert_eq!((budget.snapshot().waited, budget.in_flight()), (0, 0));
}

#[test]
fn invalid_bounds_are_errors_that_say_what_is_allowed() {
    for (most, longest, expected) in [
        (
            0,
            ms(1),
            "invalid max waiting 0: must be from 1 to 2147483647",
        ),
        (
            1 << 31,
            ms(1),
            "invalid max waiting 2147483648: must be from 1 to 2147483647",
        ),
        (
            1,
            ms(0),
            "invalid max wait 0ns: must be greater than 0 and at most 3600s",
        ),
        (
            1,
            Duration::MAX,
            "invalid max wait 18446744073709551615.999999999s: must be greater than 0 and at most 3600s",
        ),
    ] {
        let error = LoadShed::ratio(1.0).try_wait(most, longest).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    assert!(
        LoadShed::ratio(1.0)
            .try_wait(1, Duration::from_secs(3_600))
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_not_queue_is_refused_while_waiters_wait_for_the_free_capacity() {
    let budget = Budget::fixed(3);
    let shed = LoadShed::ratio(1.0)
        .budget(&budget)
        .wait(3, ms(100))
        .cost(|_| 2);
    let mut server = Server::new(shed);
    let held = server.served("/");
    let mut waiting = server.waiting("/");
    // One unit is free, which is not enough for the waiter yet.
    assert!(budget.try_acquire(Threshold::ratio(1.0)).is_err());
    assert!(budget.try_acquire(Threshold::NEVER_SHED).is_ok());
    drop(held);
    let _served = waiting.served();
    assert!(budget.try_acquire(Threshold::ratio(1.0)).is_ok());
}
