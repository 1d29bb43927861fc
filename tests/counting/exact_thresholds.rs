//! Promise 1: the exact threshold.

use loadshed::{Budget, LoadShed, Threshold};
use tower::Layer;

use crate::support::{all, answer, get, holding, is_refused};

#[test]
fn p01_what_is_admitted_is_ratio_times_limit_rounded_down_in_decimal_and_at_least_one() {
    for (ratio, limit, admitted) in [
        (0.29, 100, 29),
        (0.57, 100, 57),
        (0.58, 50, 29),
        (0.85, 200, 170),
        (0.85, 199, 169),
        (0.999, 1000, 999),
        (5.0 / 6.0, 600, 500),
        (0.1 + 0.2, 10, 3),
        (1.0, 7, 7),
        (1.0 - 1e-12, 7, 6),
        (0.5, 1, 1),
        (0.001, 10, 1),
        (f64::MIN_POSITIVE, 5, 1),
    ] {
        let budget = Budget::fixed(limit);
        let mut service = LoadShed::ratio(ratio).budget(&budget).layer(holding());
        let responses: Vec<_> = (0..limit + 3)
            .map(|_| answer(&mut service, get("/")))
            .collect();
        let first_refused = responses.iter().position(is_refused);
        assert_eq!(first_refused, Some(admitted), "{ratio} of {limit}");
        assert!(responses[admitted..].iter().all(is_refused));
        assert_eq!(budget.in_flight(), admitted);
        drop(responses);

        let threshold = Threshold::ratio(ratio);
        let permits: Vec<_> = (0..limit + 3)
            .map_while(|_| budget.try_acquire(threshold).ok())
            .collect();
        assert_eq!(
            permits.len(),
            admitted,
            "{ratio} of {limit}, without a layer"
        );
    }
}

#[test]
fn p01_one_more_is_admitted_for_each_one_that_ends() {
    let budget = Budget::fixed(10);
    let mut service = LoadShed::ratio(0.3).budget(&budget).layer(holding());
    let mut running: Vec<_> = (0..3).map(|_| answer(&mut service, get("/"))).collect();
    for _ in 0..10 {
        assert!(is_refused(&answer(&mut service, get("/"))));
        running.remove(0);
        running.push(answer(&mut service, get("/")));
        assert!(running.iter().all(|response| !is_refused(response)));
    }
    assert!(is_refused(&answer(&mut service, get("/"))));
}

#[test]
fn p01_thresholds_of_different_requests_are_measured_against_one_count() {
    let budget = Budget::fixed(10);
    let take = |threshold, n: usize| {
        let taken: Vec<_> = (0..n)
            .map_while(|_| budget.try_acquire(threshold).ok())
            .collect();
        (taken.len(), taken)
    };
    let (half, _half) = take(Threshold::ratio(0.5), 20);
    assert_eq!(half, 5);
    assert_eq!(take(Threshold::ratio(0.5), 1).0, 0);
    let (rest, rest_permits) = take(all(), 20);
    assert_eq!(rest, 5);
    let (never, _never) = take(Threshold::NEVER_SHED, 3);
    assert_eq!((never, budget.in_flight()), (3, 13));
    drop(rest_permits);
    // Eight are left: three of them were never to be shed, and count all the same.
    assert_eq!(take(Threshold::ratio(0.8), 1).0, 0);
    assert_eq!(take(Threshold::ratio(0.9), 5).0, 1);
}

#[test]
fn p01_the_largest_limit_is_as_exact_as_a_small_one() {
    let most = (1 << 31) - 1;
    let budget = Budget::fixed(most);
    let _permit = budget.try_acquire(Threshold::ratio(1e-300)).unwrap();
    assert!(
        budget.try_acquire(Threshold::ratio(1e-10)).is_err(),
        "a fifth of one: one"
    );
    let _second = budget.try_acquire(Threshold::ratio(1e-9)).unwrap();
    assert!(
        budget.try_acquire(Threshold::ratio(1e-9)).is_err(),
        "2.1: two"
    );
    assert_eq!((budget.limit(), budget.in_flight()), (most, 2));
}
