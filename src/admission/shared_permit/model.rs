//! The interleavings of the parts of a program that share a permit:
//! `RUSTFLAGS="--cfg loadshed_loom" cargo test --lib loom`.

use std::sync::Arc;

use loom::thread;

use super::{SharedPermit, Stalling, Standing};
use crate::{
    admission::{
        claim::Claim,
        count::count::Count,
        counted_units::CountedUnits,
        model::{all, holding, model_the_likely},
    },
    threshold::threshold::Threshold,
};

/// Returns a permit of the one unit in flight under `limit`.
fn shared(limit: u32) -> (&'static Count, Arc<SharedPermit>) {
    let count = holding(limit, 1);
    let claim = Claim::of(Threshold::ratio(1.0), 1);
    let held = CountedUnits::of(count, &claim);
    let permit = SharedPermit::new(held, Threshold::NEVER_SHED, false);
    (count, Arc::new(permit))
}

/// Decides as an inner layer that refuses, as another unit is in flight.
fn refuse(count: &'static Count, permit: &SharedPermit) {
    permit.decide(|held, threshold| {
        assert!(count.keep(held.units, held.units, |_| 1).is_err());
        (Standing::Refused(held), threshold, ())
    });
}

#[test]
fn loom_p03_a_response_that_stalls_while_it_ends_is_released_once() {
    model_the_likely(|| {
        let (count, permit) = shared(2);
        let sweep = Arc::clone(&permit);
        let sweep = thread::spawn(move || sweep.stall(Some(0)));
        drop(permit);
        sweep.join().unwrap();
        assert_eq!((count.level().in_flight, count.stalls.now()), (0, 0));
    });
}

#[test]
fn loom_p04_a_response_that_goes_on_while_it_stalls_is_counted_once() {
    model_the_likely(|| {
        let (count, permit) = shared(2);
        let sweep = Arc::clone(&permit);
        let sweep = thread::spawn(move || sweep.stall(Some(0)));
        assert!(SharedPermit::resume(&permit), "there is free capacity");
        sweep.join().unwrap();
        // It was about to be read: it has not stalled, or no longer.
        assert_eq!((count.level().in_flight, count.stalls.now()), (1, 0));
        drop(permit);
        assert_eq!((count.level().in_flight, count.stalls.now()), (0, 0));
    });
}

#[test]
fn loom_p03_detached_work_of_a_refused_request_is_counted_until_its_permit_is_dropped() {
    model_the_likely(|| {
        let (count, permit) = shared(2);
        assert!(count.acquire(1, all).is_ok());
        permit.take_along();
        let work = Arc::clone(&permit);
        refuse(count, &permit);
        let work = thread::spawn(move || {
            work.bring_back();
            drop(work);
        });
        permit.end_request();
        drop(permit);
        work.join().unwrap();
        assert_eq!(count.level().in_flight, 1);
    });
}

#[test]
fn loom_p07_a_request_that_is_refused_inside_and_works_on_is_counted_once() {
    model_the_likely(|| {
        let (count, permit) = shared(2);
        assert!(count.acquire(1, all).is_ok());
        let inner = Arc::clone(&permit);
        let inner = thread::spawn(move || refuse(count, &inner));
        permit.works_on();
        inner.join().unwrap();
        permit.works_on();
        assert_eq!(count.level().in_flight, 2);
        drop(permit);
        assert_eq!(count.level().in_flight, 1);
    });
}

#[test]
fn loom_p03_units_that_come_back_to_a_count_of_another_budget_are_not_counted() {
    model_the_likely(|| {
        let (count, permit) = shared(2);
        assert!(count.acquire(1, all).is_ok());
        refuse(count, &permit);
        count.release(1);
        // Nothing is in flight: the count may be handed out again.
        let next = thread::spawn(move || {
            count.abandon();
            Count::claim(5)
        });
        permit.works_on();
        let next = next.join().unwrap();
        drop(permit);
        let level = next.level();
        assert_eq!((level.limit, level.in_flight), (5, 0));
    });
}
