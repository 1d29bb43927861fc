//! Several layers of one budget, and dry runs.

use std::task::Poll;

use loadshed::{Budget, LoadShed, LoadShedService};
use tokio_test::task::spawn;
use tower::{Layer, Service};

use super::{
    Server, ms, pass,
    support::{Scripted, all, answer, get, holding, is_refused},
    three_wait,
};

type Nested = LoadShedService<LoadShedService<Scripted>>;

/// An outer layer that counts all requests, and an inner layer that sheds.
fn nested(budget: &Budget) -> Nested {
    let inner = LoadShed::ratio(1.0).budget(budget).wait(3, ms(100));
    LoadShed::observe()
        .budget(budget)
        .layer(inner.layer(holding()))
}

#[tokio::test(start_paused = true)]
async fn a_request_that_an_outer_layer_has_counted_leaves_the_count_while_it_waits() {
    let budget = Budget::fixed(1);
    let mut service = nested(&budget);
    let held = answer(&mut service, get("/"));
    let mut waiting = [spawn(service.call(get("/"))), spawn(service.call(get("/")))];
    for call in &mut waiting {
        assert!(call.poll().is_pending());
    }
    let now = budget.snapshot();
    assert_eq!((now.in_flight, now.waiting, now.admitted), (1, 2, 1));
    drop(held);
    let Poll::Ready(Ok(served)) = waiting[0].poll() else {
        panic!("the waiter is admitted");
    };
    assert_eq!((budget.in_flight(), budget.snapshot().admitted), (1, 2));
    pass(100).await;
    let Poll::Ready(Ok(refused)) = waiting[1].poll() else {
        panic!("the longest wait is over");
    };
    assert!(is_refused(&refused));
    drop(served);
    let now = budget.snapshot();
    assert_eq!((now.in_flight, now.admitted, now.refused), (0, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_an_outer_layer_has_counted_does_not_overtake_waiters() {
    let budget = Budget::fixed(4);
    let shed = LoadShed::ratio(1.0).budget(&budget).wait(3, ms(100));
    let cost = |head: &http::Request<()>| head.uri().path()[1..].parse().unwrap();
    let mut inner = Server::new(shed.clone().cost(cost));
    let held = inner.served("/3");
    let mut expensive = inner.waiting("/3");
    // The request would fit, but must not overtake the waiter.
    let observe = LoadShed::observe().budget(&budget);
    let mut nested = observe.layer(shed.clone().layer(holding()));
    let mut cheap = spawn(nested.call(get("/")));
    assert!(cheap.poll().is_pending());
    assert_eq!((budget.in_flight(), budget.snapshot().waiting), (3, 2));
    drop(held);
    let _expensive = expensive.served();
    assert!(cheap.poll().is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_the_outer_layer_has_admitted_keeps_its_permit_at_an_inner_layer_of_the_same_ratio()
 {
    let (budget, shed) = three_wait(1);
    let mut twice = shed.layer(shed.layer(holding()));
    let held = answer(&mut twice, get("/"));
    let mut waiting = [spawn(twice.call(get("/"))), spawn(twice.call(get("/")))];
    for call in &mut waiting {
        assert!(call.poll().is_pending());
    }
    drop(held);
    let served = waiting[0].poll();
    assert!(served.is_ready(), "the second waiter is behind it");
    assert_eq!((budget.in_flight(), budget.snapshot().waited), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn layers_of_one_budget_share_a_queue_and_each_has_its_own_bounds() {
    let budget = Budget::fixed(1);
    let shed = LoadShed::ratio(1.0).budget(&budget);
    let mut short = Server::new(shed.clone().wait(1, ms(10)));
    let mut long = Server::new(shed.wait(3, ms(100)));
    let _held = short.served("/");
    let mut first = short.waiting("/");
    short.call("/").refused();
    let mut second = long.waiting("/");
    pass(10).await;
    first.refused();
    short.call("/").refused();
    assert!(second.waits());
}

#[tokio::test(start_paused = true)]
async fn no_request_waits_in_a_dry_run() {
    let (budget, shed) = three_wait(1);
    let mut server = Server::new(shed.dry_run(true));
    let held = [server.served("/"), server.served("/")];
    let now = budget.snapshot();
    let seen = (now.in_flight, now.marked, now.would_refuse, now.waited);
    assert_eq!(seen, (2, 1, 1, 0));
    drop(held);
    assert_eq!(budget.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_permit_admits_the_next_waiter_of_its_own_budget_only() {
    let (budget, shed) = three_wait(1);
    let permit = budget.try_acquire(all()).unwrap();
    let other = Budget::fixed(1);
    let another = other.try_acquire(all()).unwrap();
    let mut server = Server::new(shed);
    let mut waiting = server.waiting("/");
    drop((another, other));
    assert!(waiting.waits());
    drop(permit);
    drop(waiting.served());
}

#[tokio::test(start_paused = true)]
async fn a_budget_lives_for_as_long_as_a_request_waits_under_it() {
    let (budget, shed) = three_wait(1);
    let permit = budget.try_acquire(all()).unwrap();
    let mut server = Server::new(shed);
    let mut waiting = server.waiting("/");
    drop((budget, server));
    drop(permit);
    drop(waiting.served());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_at_an_inner_layer_keeps_the_cost_of_the_outer_layer() {
    let budget = Budget::fixed(10);
    let inner = LoadShed::ratio(1.0).budget(&budget).wait(3, ms(100));
    let outer = LoadShed::observe().budget(&budget).cost(|_| 8);
    let mut service = outer.layer(inner.layer(holding()));
    let held = answer(&mut service, get("/"));
    let mut waiting = spawn(service.call(get("/")));
    assert!(waiting.poll().is_pending());
    assert_eq!(budget.in_flight(), 8);
    let small = budget.try_acquire(all());
    assert!(small.is_err(), "the free capacity is for the waiter");
    drop(held);
    let Poll::Ready(Ok(served)) = waiting.poll() else {
        panic!("the waiter is admitted");
    };
    assert_eq!(budget.in_flight(), 8);
    drop(served);
    assert_eq!(budget.in_flight(), 0);
}
