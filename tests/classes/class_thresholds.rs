//! Where each class stops, and what is told of it.

use loadshed::{
    Budget,
    Criticality::{Critical, CriticalPlus, Sheddable, SheddablePlus},
    LoadShed, Threshold,
};
use tower::Layer;

use crate::{
    ALL, by_class, of, room, rooms, shed_of,
    support::{all, answer, get, holding, is_refused, panic_on_purpose, quiet},
};

#[test]
fn the_ratio_is_where_the_lowest_class_stops_and_the_others_divide_the_rest() {
    assert_eq!(
        rooms(&by_class(LoadShed::ratio(0.29)), 300),
        [87, 158, 229, 300]
    );
    assert_eq!(
        rooms(&by_class(LoadShed::ratio(0.85)), 200),
        [170, 180, 190, 200]
    );
    assert_eq!(rooms(&by_class(LoadShed::ratio(0.85)), 1), [1; 4]);
    assert_eq!(rooms(&by_class(LoadShed::ratio(1.0)), 10), [10; 4]);
}

#[test]
fn each_class_can_be_set_and_the_others_move_with_the_ratio() {
    let shed =
        by_class(LoadShed::ratio(0.5)).class_ratios([(SheddablePlus, 0.8), (Critical, 0.98)]);
    assert_eq!(rooms(&shed, 100), [50, 80, 98, 100]);
    shed.handle().set_ratio(0.6).unwrap();
    assert_eq!(rooms(&shed, 100), [60, 80, 98, 100]);

    let shed =
        by_class(LoadShed::ratio(0.5)).class_ratios([(CriticalPlus, 0.95), (Sheddable, 0.4)]);
    assert_eq!(rooms(&shed, 100), [40, 60, 80, 95]);

    let shed = by_class(LoadShed::ratio(0.7));
    shed.handle().set_ratio(0.1).unwrap();
    assert_eq!(rooms(&shed, 100), [10, 40, 70, 100]);

    // An observer has no ladder until it is given a ratio.
    let shed = by_class(LoadShed::observe()).class_ratios([(Critical, 0.9)]);
    assert_eq!(rooms(&shed, 10), [11; 4]);
    shed.handle().set_ratio(0.1).unwrap();
    assert_eq!(rooms(&shed, 10), [1, 4, 9, 10]);
}

#[test]
fn a_ladder_out_of_order_is_refused_with_both_classes_named() {
    let told = |ratios: &[_]| {
        let set = LoadShed::ratio(0.85).try_class_ratios(ratios.iter().copied());
        set.unwrap_err().to_string()
    };
    assert_eq!(
        told(&[(Critical, 0.88)]),
        "invalid class ratios CRITICAL at 0.88: must be in class order, and \
         SHEDDABLE_PLUS would be at 0.9, CRITICAL at 0.88"
    );
    assert_eq!(
        told(&[(Critical, 0.95), (SheddablePlus, 0.96)]),
        "invalid class ratios CRITICAL at 0.95, SHEDDABLE_PLUS at 0.96: must be in class order, \
         and SHEDDABLE_PLUS would be at 0.96, CRITICAL at 0.95"
    );
    assert_eq!(
        told(&[(Critical, 1.5)]),
        "invalid ratio 1.5: must be greater than 0 and at most 1"
    );

    let shed = by_class(LoadShed::ratio(0.5)).class_ratios([(SheddablePlus, 0.8)]);
    assert_eq!(
        shed.handle().set_ratio(0.81).unwrap_err().to_string(),
        "invalid ratio 0.81: must be in class order, and SHEDDABLE would be at 0.81, \
         SHEDDABLE_PLUS at 0.8"
    );
    assert_eq!(room(&shed, 100, Sheddable), 50, "the old one stays");
    shed.handle().set_ratio(0.8).unwrap();
}

#[test]
fn the_class_of_a_refused_request_is_told() {
    for class in ALL {
        let budget = Budget::fixed(1);
        let _held = budget.try_acquire(all()).unwrap();
        let service = |shed: LoadShed| by_class(shed).budget(&budget).layer(holding());
        let mut laddered = service(LoadShed::ratio(0.5));
        let refused = answer(&mut laddered, of(class));
        assert_eq!(shed_of(&refused).criticality(), class);
        // Also where it is not the class that decides.
        let mut routed = service(LoadShed::ratio(1.0).at("/{class}", 0.5));
        assert_eq!(
            shed_of(&answer(&mut routed, of(class))).criticality(),
            class
        );
        let mut decided = service(LoadShed::ratio(1.0).threshold(|_| Threshold::ratio(0.5)));
        assert_eq!(
            shed_of(&answer(&mut decided, of(class))).criticality(),
            class
        );
    }
    let budget = Budget::fixed(1);
    let _held = budget.try_acquire(all()).unwrap();
    let mut plain = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    assert_eq!(
        shed_of(&answer(&mut plain, get("/"))).criticality(),
        Sheddable
    );
}

#[tokio::test(start_paused = true)]
async fn lower_classes_are_told_to_wait_longer() {
    let budget = Budget::fixed(1);
    let _held = budget.try_acquire(all()).unwrap();
    let mut service = by_class(LoadShed::ratio(0.5))
        .budget(&budget)
        .layer(holding());
    let mut wait = |class| shed_of(&answer(&mut service, of(class))).retry_after();
    let mut last = ALL.map(|_| std::time::Duration::ZERO);
    for _ in 0..20 {
        last = ALL.map(&mut wait);
    }
    assert!(
        last.is_sorted_by(|lower, higher| lower > higher),
        "{last:?}"
    );
}

#[test]
fn a_closure_for_thresholds_decides_whatever_the_class() {
    let shed = by_class(LoadShed::ratio(1.0)).threshold(|_| Threshold::ratio(0.3));
    assert_eq!(rooms(&shed, 10), [3; 4]);
}

#[test]
fn p09_a_panic_in_a_classifier_counts_as_never() {
    quiet();
    let budget = Budget::fixed(1);
    let shed = LoadShed::ratio(0.5)
        .budget(&budget)
        .classify(|_| panic_on_purpose());
    let mut service = shed.layer(holding());
    let running: Vec<_> = (0..3).map(|_| answer(&mut service, get("/"))).collect();
    assert!(!running.iter().any(is_refused));
    assert_eq!(budget.in_flight(), 3);
}
