//! In number, in time, by the caller's deadline; and what is counted.

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
async fn a_request_for_which_there_is_no_room_waits_until_there_is_some() {
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
    // It is counted before it knows.
    assert_eq!((budget.in_flight(), budget.snapshot().waiting), (1, 0));
    drop(waiting.served());
    let now = budget.snapshot();
    assert_eq!((now.in_flight, now.peak_in_flight), (0, 1));
    assert_eq!((now.admitted, now.refused, now.waited), (2, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_unless_that_is_asked_for() {
    let budget = Budget::fixed(1);
    let mut server = Server::new(LoadShed::ratio(1.0).budget(&budget));
    let _held = server.served("/");
    server.call("/").refused();
    assert_eq!(budget.snapshot().waited, 0);
}

#[tokio::test(start_paused = true)]
async fn it_is_refused_as_any_other_once_it_has_waited_for_too_long() {
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
async fn no_more_wait_than_may_and_the_next_is_refused_at_once() {
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
async fn once_the_line_has_stood_for_the_longest_wait_a_newcomer_waits_for_a_twentieth_of_it() {
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
    // The bound is that of the time at which one joins.
    assert!(second.waits());
    drop(held);
    drop(second.served());
}

#[tokio::test(start_paused = true)]
async fn a_line_that_was_served_to_its_end_is_a_burst_when_it_begins_again() {
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
async fn a_line_that_all_have_given_up_still_stands() {
    let (_, shed) = three_wait(1);
    let mut server = Server::new(shed);
    let _held = server.served("/");
    let mut waiting = server.waiting("/");
    pass(101).await;
    waiting.refused();
    let mut waiting = server.waiting("/");
    pass(5).await;
    waiting.refused();
    // Nobody has wanted anything for as long as a line may stand.
    pass(101).await;
    let mut waiting = server.waiting("/");
    pass(99).await;
    assert!(waiting.waits());
}

#[tokio::test(start_paused = true)]
async fn a_line_that_stood_under_one_budget_says_nothing_about_the_next() {
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
async fn a_call_that_gives_up_earlier_waits_no_longer_than_that() {
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
        "who has given up does not join"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_would_wait_for_longer_does_not() {
    let (_, shed) = three_wait(1);
    let mut server = Server::new(shed);
    let _held = server.served("/");
    for timeout in ["2S", "99999999H", "nonsense"] {
        let mut waiting = server.send(with_header("grpc-timeout", timeout));
        pass(99).await;
        assert!(waiting.waits(), "{timeout}");
        pass(1).await;
        waiting.refused();
        // For the line to be new.
        pass(1_000).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_closure_for_the_deadline_that_panics_says_nothing() {
    quiet();
    let (_, shed) = three_wait(1);
    let mut server = Server::new(shed.wait_deadline(|_| panic_on_purpose()));
    let _held = server.served("/");
    let mut waiting = server.waiting("/");
    pass(99).await;
    assert!(waiting.waits());
}

#[tokio::test(start_paused = true)]
async fn what_is_never_shed_does_not_wait_and_what_is_exempt_neither() {
    let budget = Budget::fixed(1);
    let shed = LoadShed::ratio(1.0).budget(&budget).wait(3, ms(100));
    let mut server = Server::new(shed.except(["/login"]).exempt(["/healthz"]));
    let _held = server.served("/");
    let _waiting = server.waiting("/");
    let _others = [server.served("/login"), server.served("/healthz")];
    assert_eq!(budget.in_flight(), 2);
}

#[test]
fn where_there_is_no_timer_nothing_waits_and_one_message_says_so() {
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
fn bounds_that_make_no_sense_are_refused_with_what_is_allowed() {
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
async fn what_takes_no_part_in_the_line_is_refused_while_others_wait_for_what_is_free() {
    let budget = Budget::fixed(3);
    let shed = LoadShed::ratio(1.0)
        .budget(&budget)
        .wait(3, ms(100))
        .cost(|_| 2);
    let mut server = Server::new(shed);
    let held = server.served("/");
    let mut waiting = server.waiting("/");
    // One unit is free, and is no use to the one that waits: not yet.
    assert!(budget.try_acquire(Threshold::ratio(1.0)).is_err());
    assert!(budget.try_acquire(Threshold::NEVER_SHED).is_ok());
    drop(held);
    let _served = waiting.served();
    assert!(budget.try_acquire(Threshold::ratio(1.0)).is_ok());
}
