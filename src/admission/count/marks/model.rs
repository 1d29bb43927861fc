//! The interleavings of layers in dry run and layers that enforce:
//! `RUSTFLAGS="--cfg loadshed_loom" cargo test --lib loom`.

use loom::thread;

use super::{Count, Marked};
use crate::admission::model::{all, holding, model_the_likely};

/// Nothing is in flight, and nothing is marked.
fn is_at_rest(count: &'static Count) -> bool {
    count.level().in_flight == 0 && count.marked() == 0
}

#[test]
fn loom_p10_a_dry_run_and_an_enforcing_request_take_the_last_permit_once() {
    model_the_likely(|| {
        let count = holding(2, 1);
        let dry_run = thread::spawn(move || match count.acquire_or_mark(1, all) {
            Ok(()) => {
                count.release(1);
                true
            }
            Err(Marked { counted, .. }) => {
                assert!(counted);
                count.release_marked(1);
                false
            }
        });
        let enforced = count.acquire(1, all).is_ok();
        if enforced {
            count.release(1);
        }
        // One of them is first, and fits.
        assert!(dry_run.join().unwrap() || enforced);
        count.release(1);
        assert!(is_at_rest(count));
    });
}

#[test]
fn loom_p22_what_is_marked_leaves_the_marks_with_its_units() {
    model_the_likely(|| {
        let count = holding(1, 1);
        assert!(count.acquire_or_mark(1, all).is_err());
        let release = thread::spawn(move || count.release_marked(1));
        // Beside what is marked, one is in flight: no other fits, before and after the release.
        assert!(count.acquire_or_mark(1, all).is_err());
        count.release_marked(1);
        release.join().unwrap();
        count.release(1);
        assert!(is_at_rest(count));
    });
}

#[test]
fn loom_p07_a_marked_request_that_an_enforcing_layer_refuses_leaves_both() {
    model_the_likely(|| {
        let count = holding(1, 1);
        assert!(count.acquire_or_mark(1, all).is_err());
        let release = thread::spawn(move || count.release(1));
        let kept = count.keep_marked(1, 1, all).is_ok();
        release.join().unwrap();
        assert_eq!(count.marked(), u32::from(kept));
        if kept {
            count.release_marked(1);
        }
        assert!(is_at_rest(count));
    });
}
