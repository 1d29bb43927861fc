//! No interleaving leaves anybody waiting while there is room:
//! `RUSTFLAGS="--cfg loadshed_loom" cargo test --lib loom`.

use loom::thread;
use tokio::time::Instant;

use super::queue::WaitOutcome;
use crate::admission::model::{all, holding, is_admitted, join};

#[test]
fn loom_a_release_and_one_who_joins_do_not_miss_each_other() {
    loom::model(|| {
        let count = holding(1, 1);
        let release = thread::spawn(move || count.release(1));
        let ticket = join(count, 1);
        release.join().unwrap();
        assert!(is_admitted(count, &ticket));
        assert_eq!(count.level().in_flight, 1);
    });
}

#[test]
fn loom_a_limit_that_is_raised_and_one_who_joins_do_not_miss_each_other() {
    loom::model(|| {
        let count = holding(1, 1);
        let raise = thread::spawn(move || {
            count.set_limit(2);
        });
        let ticket = join(count, 1);
        raise.join().unwrap();
        assert!(is_admitted(count, &ticket));
    });
}

#[test]
fn loom_one_that_an_inner_layer_refuses_and_one_who_joins_do_not_miss_each_other() {
    loom::model(|| {
        let count = holding(1, 2);
        let refuse = thread::spawn(move || {
            assert!(count.keep(1, 1, all).is_err());
            count.release(1);
        });
        let ticket = join(count, 1);
        refuse.join().unwrap();
        assert!(is_admitted(count, &ticket));
    });
}

#[test]
fn loom_one_who_leaves_passes_on_what_it_was_given() {
    loom::model(|| {
        let count = holding(1, 1);
        let [first, second] = [join(count, 1), join(count, 1)];
        let release = thread::spawn(move || count.release(1));
        match count.queue.leave(&first, Instant::now()) {
            None => count.queue_has_changed(),
            Some(outcome) => {
                assert_eq!(outcome, WaitOutcome::Admitted);
                count.release(1);
            }
        }
        release.join().unwrap();
        assert!(is_admitted(count, &second));
        assert_eq!((count.level().in_flight, count.queue.waiting()), (1, 0));
    });
}
