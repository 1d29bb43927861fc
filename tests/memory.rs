//! The memory of routes and of budgets. The allocations of the test's own thread are counted.

mod support;

use loadshed::{Budget, LoadShed, Threshold};
use tower::Layer;

use support::{Req, alone, answer, get, holding, next_frame};

/// Returns what was made, and the bytes that were allocated for it and not freed.
fn kept<T>(make: impl FnOnce() -> T) -> (T, i64) {
    let mut made = None;
    let bytes = allocation_counter::measure(|| made = Some(make())).bytes_current;
    (made.expect("it was called"), bytes)
}

fn use_once(budget: Budget) -> Budget {
    drop(budget.try_acquire(Threshold::NEVER_SHED));
    budget
}

fn fixed() -> Budget {
    use_once(Budget::fixed(200))
}

fn learned() -> Budget {
    use_once(Budget::adaptive())
}

/// A budget with fair shares.
fn fair() -> Budget {
    let budget = Budget::fixed(200);
    let shed = LoadShed::ratio(1.0).budget(&budget).fair_by(|_| 1);
    drop(answer(&mut shed.layer(holding()), get("/")));
    budget
}

/// Holds so many budgets of each kind at once, and drops them.
fn hold(most: usize) {
    for make in [fixed, learned, fair] {
        drop((0..most).map(|_| make()).collect::<Vec<_>>());
    }
}

fn route(nth: usize) -> String {
    format!("/v1/accounts/{{account}}/orders/table-{nth:04}/{{*rest}}")
}

fn request_to(nth: usize) -> Req {
    get(&format!("/v1/accounts/7/orders/table-{nth:04}/items"))
}

/// A layer with so many routes.
fn with_routes(routes: usize) -> impl tower::Service<Req, Response: Sized, Error: std::fmt::Debug> {
    let shed = LoadShed::ratio(0.85).budget(fixed());
    shed.only((0..routes).map(route)).layer(holding())
}

#[test]
fn p17_a_route_takes_at_most_300_bytes_and_100_routes_30_kb() {
    let _alone = alone();
    // The first budget may need memory that others reuse.
    drop(with_routes(0));
    let (_, none) = kept(|| with_routes(0));
    for routes in [100, 200, 1_000] {
        let (_, bytes) = kept(|| with_routes(routes));
        let most = 300 * routes as i64;
        assert!(
            bytes - none <= most,
            "{routes} routes: {} bytes",
            bytes - none
        );
    }
}

#[test]
fn p17_only_a_route_that_is_used_has_counters() {
    let _alone = alone();
    let by_first = |routes| {
        let mut service = with_routes(routes);
        let mut bytes = |nth| kept(|| drop(answer(&mut service, request_to(nth)))).1;
        // The first request of a budget may allocate what later requests reuse.
        bytes(routes);
        let first = bytes(0);
        assert_eq!(bytes(0), 0, "the counters of a route are made once");
        first
    };
    assert_eq!(by_first(100), by_first(1), "bytes of one used route");
}

#[test]
fn p17_budgets_that_follow_one_another_take_the_memory_of_one() {
    let _alone = alone();
    hold(1);
    let ((), bytes) = kept(|| (0..500).for_each(|_| hold(1)));
    assert_eq!(bytes, 0);
}

#[test]
fn p17_budgets_reuse_the_memory_of_as_many_dropped_budgets_of_another_kind() {
    let _alone = alone();
    drop((0..300).map(|_| fixed()).collect::<Vec<_>>());
    let ((), bytes) = kept(|| drop((0..300).map(|_| learned()).collect::<Vec<_>>()));
    assert_eq!(bytes, 0);
}

#[test]
fn p17_a_budget_without_fair_shares_takes_over_no_shares() {
    let _alone = alone();
    hold(100);
    // The shares of each dropped budget are those of the next, whichever budget gets the rest of its memory.
    let one_after_another = || {
        let plain = (0..50).map(|_| {
            drop(fair());
            fixed()
        });
        plain.collect::<Vec<_>>()
    };
    let (budgets, with) = kept(one_after_another);
    let (others, without) = kept(|| (0..50).map(|_| fixed()).collect::<Vec<_>>());
    let more = with - without;
    assert!(more < 1_000, "{more} bytes more");
    drop((budgets, others));
}

#[test]
fn p17_a_dropped_budget_keeps_nothing_of_its_responses() {
    let _alone = alone();
    let of = |responses: usize| {
        let shed = LoadShed::ratio(1.0).budget(Budget::fixed(2 * responses));
        let mut service = shed.layer(holding());
        let mut held: Vec<_> = (0..responses)
            .map(|_| answer(&mut service, get("/")))
            .collect();
        // A response that has begun may stall, and is noted.
        held.iter_mut()
            .for_each(|response| drop(next_frame(response)));
    };
    of(1);
    let ((), bytes) = kept(|| of(1_000));
    assert_eq!(bytes, 0);
}
