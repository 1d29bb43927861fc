//! No interleaving leaves a request in the queue while it fits:
//! `RUSTFLAGS="--cfg loadshed_loom" cargo test --lib loom`.

use loom::thread;
use tokio::time::Instant;

use super::queue::WaitOutcome;
use crate::admission::model::{all, holding, is_admitted, join, model_the_likely};

#[test]
fn loom_a_release_and_a_join_do_not_miss_each_other() {
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
fn loom_a_raise_of_the_limit_and_a_join_do_not_miss_each_other() {
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
fn loom_a_refusal_by_an_inner_layer_and_a_join_do_not_miss_each_other() {
    model_the_likely(|| {
        let count = holding(1, 2);
        let refuse = thread::spawn(move || {
            assert!(count.keep(1, 1, all).is_err());
            count.serve_waiters();
            count.release(1);
        });
        let ticket = join(count, 1);
        refuse.join().unwrap();
        assert!(is_admitted(count, &ticket));
    });
}

#[test]
fn loom_a_waiter_that_leaves_passes_its_permit_on() {
    loom::model(|| {
        let count = holding(1, 1);
        let [first, second] = [join(count, 1), join(count, 1)];
        let release = thread::spawn(move || count.release(1));
        let now = Instant::now();
        if let Some(outcome) = count.leave(&first, now) {
            assert_eq!(outcome, WaitOutcome::Admitted);
            count.release(1);
        }
        release.join().unwrap();
        assert!(is_admitted(count, &second));
        assert_eq!((count.level().in_flight, count.queue.waiting()), (1, 0));
    });
}
