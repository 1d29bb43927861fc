//! All interleavings of the count's operations, under loom:
//! `RUSTFLAGS="--cfg loadshed_loom" cargo test --lib loom`.

use loom::thread;

use super::Count;
use crate::admission::model::{all, holding};

#[test]
fn loom_p02_no_interleaving_admits_one_too_many_or_refuses_one_too_few() {
    loom::model(|| {
        // One is held from the start. Beside it, one of the others fits, and not both at once.
        let count = holding(1, 1);
        let two = |_| 2;
        let request = move || match count.acquire(1, two) {
            Ok(level) => {
                assert_eq!(level.in_flight, 2, "two in flight, this one included");
                count.release(1);
                true
            }
            Err(level) => {
                assert_eq!(level.in_flight, 2, "refused although it fits");
                false
            }
        };
        let other = thread::spawn(request);
        let own = request();
        assert!(own | other.join().unwrap(), "both refused");
        assert_eq!(count.level().in_flight, 1);
    });
}

#[test]
fn loom_p02_an_expensive_request_is_alone_or_fits_whatever_the_interleaving() {
    loom::model(|| {
        let count = Count::claim(4);
        let request = move |units| match count.acquire(units, all) {
            Ok(level) => {
                assert!(level.in_flight <= 4 || level.in_flight == units);
                count.release(units);
                true
            }
            Err(level) => {
                assert!(level.in_flight > 0 && level.in_flight + units > 4);
                false
            }
        };
        let other = thread::spawn(move || request(3));
        let own = request(6);
        assert!(own | other.join().unwrap(), "both refused");
        assert_eq!(count.level().in_flight, 0);
    });
}

#[test]
fn loom_p02_of_two_nested_requests_whose_cost_rises_one_fits() {
    loom::model(|| {
        // Both are counted already, by an outer layer that never sheds.
        let count = holding(4, 2);
        let other = thread::spawn(move || count.keep(1, 3, all).is_ok());
        let own = count.keep(1, 3, all).is_ok();
        // The first to decide fits with its 3 units beside the other's unit. The second is then refused.
        assert_ne!(own, other.join().unwrap());
        assert_eq!(count.level().in_flight, 3);
    });
}

#[test]
fn loom_p05_once_a_limit_is_lowered_nothing_is_admitted_under_the_old_one() {
    loom::model(|| {
        let count = holding(2, 1);
        let other = thread::spawn(move || count.acquire(1, all).is_ok());
        let before = count.set_limit(1);
        // Admitted means: before the change.
        assert_eq!(other.join().unwrap(), before.in_flight == 2);
        assert_eq!(count.level().limit, 1);
    });
}

#[test]
fn loom_p03_a_count_that_is_handed_out_again_begins_empty() {
    loom::model(|| {
        let count = holding(1, 1);
        let permit = thread::spawn(move || count.release(1));
        count.abandon();
        let next = Count::claim(7);
        let level = next.level();
        assert_eq!((level.limit, level.in_flight), (7, 0));
        assert!(next.acquire(1, all).is_ok());
        permit.join().unwrap();
        assert_eq!(next.level().in_flight, 1);
    });
}
