use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;
use tower_layer::Layer;

use super::*;
use crate::{
    budget::budget::Budget, middleware::load_shed::load_shed::LoadShed,
    threshold::threshold::Threshold,
};

/// Enters units of this tenant one by one. Returns how far the last may go.
fn enter(shares: &Shares, tenant: Tenant, units: u32) -> f32 {
    let entered = (0..units).map(|_| shares.enter(tenant, 1, 1));
    entered.last().unwrap_or_default()
}

/// Looks again after `millis`, with these figures of the whole budget.
async fn look(shares: &Shares, millis: u64, in_flight: u32, admitted: usize) {
    tokio::time::advance(Duration::from_millis(millis)).await;
    shares.look_if_due(Instant::now(), || Seen {
        in_flight,
        admitted,
    });
}

#[test]
fn p16_with_a_seed_a_tenant_is_known_by_the_hash_of_the_seed() {
    let hashes = |seed| [1, 2, 3].map(|tenant| Tenant::seeded(seed, &tenant));
    assert_eq!(hashes(7), hashes(7));
    assert_ne!(hashes(7), hashes(8));
}

#[tokio::test(start_paused = true)]
async fn a_tenant_above_its_share_stops_early_and_a_tenant_below_does_not() {
    let shares = Shares::new();
    let [large, small, new] = [1, 2, 3].map(|tenant| Tenant::of(&tenant));
    enter(&shares, large, 90);
    enter(&shares, small, 10);
    look(&shares, 50, 100, 100).await;
    for seconds in 1..=5 {
        // No request is refused: the share is infinite.
        assert_eq!(
            [large, small].map(|tenant| shares.enter(tenant, 0, 1)),
            [1.0; 2]
        );
        look(&shares, 1_000, 100, 100 * seconds).await;
    }
    shares.refused(large, 50);
    look(&shares, 50, 100, 500).await;
    // The large tenant wants more than its share. The small tenant still gets all it wants.
    assert_eq!(shares.enter(small, 0, 1), 1.0);
    let mut admitted = 500;
    for _ in 0..20 {
        shares.refused(small, 50);
        shares.refused(large, 50);
        admitted += 10;
        look(&shares, 50, 100, admitted).await;
    }
    // Both want more: half of the budget each.
    assert_eq!(load(&shares.fair_share).round(), 50.0);
    assert_eq!(
        [large, small, new].map(|tenant| shares.enter(tenant, 0, 1)),
        [0.0, 1.0, 1.0]
    );
    // A tenant that has used nothing may take some units at once, and not all.
    assert_eq!(enter(&shares, new, 50), 1.0);
    assert_eq!(enter(&shares, new, 150), 0.0);
}

#[tokio::test(start_paused = true)]
async fn what_a_tenant_has_used_is_forgotten_within_seconds() {
    let shares = Shares::new();
    let [large, small] = [1, 2].map(|tenant| Tenant::of(&tenant));
    enter(&shares, large, 90);
    enter(&shares, small, 10);
    look(&shares, 50, 100, 100).await;
    look(&shares, 1_000, 100, 100).await;
    for _ in 0..90 {
        shares.leave(large, 1);
    }
    let had = |tenant| load(&shares.of(tenant)[0].average);
    assert!(had(large) > 50.0);
    for _ in 0..60 {
        look(&shares, 50, 10, 100).await;
    }
    assert!(
        had(large) < 5.0 && had(small) > 9.0,
        "{}, {}",
        had(large),
        had(small)
    );
    for _ in 0..600 {
        look(&shares, 50, 10, 100).await;
    }
    assert_eq!(had(large), 0.0);
}

#[tokio::test(start_paused = true)]
async fn invented_tenants_take_no_memory_and_do_not_hide_a_large_tenant() {
    let shares = Shares::new();
    let [large, small] = ["large", "small"].map(|tenant| Tenant::of(&tenant));
    enter(&shares, large, 300);
    enter(&shares, small, 1);
    look(&shares, 50, 301, 0).await;
    for round in 1..=40 {
        // 100,000 requests are refused, each with an invented tenant.
        let names = (0..100_000_u64).map(|n| Tenant::of(&(round, n)));
        for name in names {
            shares.enter(name, 1, 1);
            shares.leave(name, 1);
            shares.refused(name, 1);
        }
        look(&shares, 50, 301, 10 * round).await;
    }
    assert_eq!(shares.cells.len(), 4_096);
    assert_eq!(shares.enter(large, 0, 1), 0.0);
    shares.leave(large, 300);
    shares.leave(small, 1);
    assert!(shares.is_empty());
}

#[tokio::test(start_paused = true)]
async fn hardly_any_tenant_is_taken_for_one_of_a_hundred_large_tenants() {
    let shares = Shares::new();
    let large: Vec<_> = (0..100).map(|n| Tenant::of(&("large", n))).collect();
    for tenant in &large {
        enter(&shares, *tenant, 10);
    }
    look(&shares, 50, 1_000, 0).await;
    look(&shares, 1_000, 1_000, 0).await;
    store(&shares.fair_share, 4.0);
    assert!(
        large
            .iter()
            .all(|tenant| shares.enter(*tenant, 0, 1) == 0.0)
    );
    let names = (0..100_000).map(|n| Tenant::of(&("small", n)));
    let wronged = names
        .filter(|tenant| shares.enter(*tenant, 0, 1) < 1.0)
        .count();
    // 0.093⁴ of them, 7 or 8, are expected; 30 occur once in many millions.
    assert!(wronged < 30, "{wronged} of 100,000");
}

#[test]
fn a_clock_that_stands_still_or_goes_back_changes_nothing() {
    let shares = Shares::new();
    let mut history = History::default();
    let tenant = Tenant::of(&1);
    enter(&shares, tenant, 3);
    shares.refused(tenant, 3);
    let now = Instant::now();
    for at in [now, now, now - Duration::from_secs(5), now] {
        let seen = Seen {
            in_flight: 3,
            admitted: 0,
        };
        shares.look(&mut history, at, &seen);
        let allowed = shares.enter(tenant, 0, 1);
        assert!((0.0..=1.0).contains(&allowed), "{allowed}");
    }
}

proptest! {
    #[test]
    fn p03_what_tenants_hold_is_never_shown_too_small_and_ends_at_0(
        steps in proptest::collection::vec((0_u8..20, 1_u32..1_000), 1..200),
    ) {
        let shares = Shares::new();
        let mut held = [0_u64; 20];
        for &(tenant, units) in &steps {
            shares.enter(Tenant::of(&tenant), units, units);
            held[usize::from(tenant)] += u64::from(units);
        }
        for (tenant, held) in (0_u8..).zip(held) {
            for cell in shares.of(Tenant::of(&tenant)) {
                prop_assert!(cell.held.load(Ordering::Relaxed) >= held);
            }
        }
        for (tenant, units) in steps {
            shares.leave(Tenant::of(&tenant), units);
        }
        prop_assert!(shares.is_empty());
    }

    #[test]
    fn a_share_is_between_0_and_1_whatever_the_figures(
        used in -1e9_f32..1e19,
        fair_share in proptest::num::f32::POSITIVE | proptest::num::f32::ZERO | proptest::num::f32::INFINITE,
    ) {
        prop_assume!(fair_share >= 0.0);
        let share = share(used, fair_share);
        prop_assert!((0.0..=1.0).contains(&share), "{} of {}: {}", used, fair_share, share);
    }
}

/// Two layers of one budget, each of which gives a request a tenant and a cost of its own.
#[test]
fn p03_however_a_request_ends_its_units_leave_its_tenants_share() {
    use http::{Request, Response};
    use http_body_util::Empty;
    use tower_service::Service;

    type Empties = Empty<bytes::Bytes>;
    let budget = Budget::fixed(40);
    budget.make_shares();
    let is_empty = || budget.shares().is_some_and(Shares::is_empty);
    let by = |name: &'static str| {
        move |head: &Request<()>| {
            let value = head.headers().get(name)?.to_str().ok()?;
            value.parse::<usize>().ok()
        }
    };
    let layer = |shed: LoadShed, tenant, cost| {
        let cost = by(cost);
        shed.budget(&budget)
            .fair_by(by(tenant))
            .cost(move |head| cost(head).unwrap_or(1))
    };
    let inner = tower::service_fn(async |request: Request<Empties>| {
        match request.headers().get("panics") {
            Some(_) => panic!("on purpose"),
            None => Ok::<_, std::convert::Infallible>(Response::new(Empties::new())),
        }
    });
    let shed = layer(LoadShed::ratio(0.5), "inner-tenant", "inner-cost");
    let dry_run = shed.clone().dry_run(true);
    for shed in [shed, dry_run] {
        let stack = layer(LoadShed::observe(), "tenant", "cost").layer(shed.layer(inner));
        for headers in [
            &["tenant: 1"][..],
            &["inner-tenant: 1"],
            &["tenant: 1", "inner-tenant: 2"],
            &["tenant: 1", "cost: 5", "inner-cost: 9"],
            &["tenant: 1", "cost: 9", "inner-cost: 5"],
            &["inner-tenant: 1", "cost: 9", "inner-cost: 30"],
            &["tenant: 1", "inner-tenant: 2", "cost: 30"],
        ] {
            let request = |panics| {
                let mut request = Request::builder();
                for header in headers.iter().copied().chain(panics) {
                    let (name, value) = header.split_once(": ").unwrap();
                    request = request.header(name, value);
                }
                request.body(Empties::new()).unwrap()
            };
            // With free capacity and without.
            for held in [0, 10, 40] {
                let held = budget.try_acquire_many(held.max(1), Threshold::NEVER_SHED);
                let mut service = stack.clone();
                drop(service.call(request(None)));
                drop(service.call(request(None)).now_or_never());
                let panicking = std::panic::AssertUnwindSafe(|| {
                    drop(service.call(request(Some("panics: 1"))).now_or_never());
                });
                drop(std::panic::catch_unwind(panicking));
                drop(held);
                assert!(is_empty(), "{headers:?}");
                assert_eq!(budget.in_flight(), 0);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_queued_request_counts_against_its_share_until_it_is_served_refused_or_dropped() {
    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Empty;
    use tower_service::Service;

    let budget = Budget::fixed(1);
    let is_empty = || budget.shares().is_some_and(Shares::is_empty);
    let inner = tower::service_fn(async |_: Request<Empty<Bytes>>| {
        Ok::<_, std::convert::Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let shed = LoadShed::ratio(1.0).budget(&budget).fair_by(|_| "a tenant");
    let shed = shed.wait(1, Duration::from_millis(100));
    let mut service = shed.layer(inner);
    let held = || budget.try_acquire(Threshold::ratio(1.0)).unwrap();
    for end in ["served", "refused", "dropped", "queue full"] {
        let permit = held();
        let mut waiting = tokio_test::task::spawn(service.call(Request::default()));
        assert!(waiting.poll().is_pending(), "{end}");
        assert!(!is_empty(), "{end}");
        match end {
            "served" => {
                drop(permit);
                assert!(waiting.poll().is_ready());
            }
            "refused" => {
                tokio::time::advance(Duration::from_millis(101)).await;
                assert!(waiting.poll().is_ready());
            }
            "dropped" => drop(waiting),
            _ => {
                let second = service.call(Request::default()).now_or_never();
                assert!(second.is_some(), "the second request is not queued");
                drop(waiting);
            }
        }
        assert!(is_empty(), "{end}");
    }
}
