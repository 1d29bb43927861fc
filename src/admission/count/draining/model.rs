//! No interleaving leaves a watch waiting while nothing is in flight:
//! `RUSTFLAGS="--cfg loadshed_loom" cargo test --lib loom`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use loom::thread;
use tokio::time::Instant;

use super::Count;
use crate::{
    admission::{
        claim::Claim,
        count::count::{Denied, Gate},
        model::{all, holding, model_the_likely},
    },
    threshold::threshold::Threshold,
};

/// Notes that it was called.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A watch that has been polled once.
struct Watch {
    woken: Arc<Woken>,
    was_ready: bool,
}

impl Watch {
    fn begin(count: &'static Count) -> Self {
        let woken = Arc::<Woken>::default();
        let number = count.watch();
        count.drain.wait(number, &Waker::from(Arc::clone(&woken)));
        let was_ready = count.is_unused_after_wait();
        Self { woken, was_ready }
    }

    fn knows(&self) -> bool {
        self.was_ready || self.woken.0.load(Ordering::Relaxed)
    }
}

#[test]
fn loom_p26_a_release_and_a_watch_do_not_miss_each_other() {
    loom::model(|| {
        let count = holding(1, 1);
        let release = thread::spawn(move || count.release(1));
        let watch = Watch::begin(count);
        release.join().unwrap();
        assert!(watch.knows());
    });
}

#[test]
fn loom_p26_of_two_releases_the_last_tells_each_watch() {
    model_the_likely(|| {
        let count = holding(2, 2);
        let release = thread::spawn(move || count.release(1));
        let watches = [Watch::begin(count), Watch::begin(count)];
        count.release(1);
        release.join().unwrap();
        assert!(watches.iter().all(Watch::knows));
    });
}

#[test]
fn loom_p26_a_refusal_by_an_inner_layer_and_a_watch_do_not_miss_each_other() {
    model_the_likely(|| {
        let count = holding(1, 2);
        let refuse = thread::spawn(move || {
            assert!(count.keep(1, 1, all).is_err());
            count.serve_waiters();
            count.release(1);
        });
        let watch = Watch::begin(count);
        refuse.join().unwrap();
        assert!(watch.knows());
    });
}

#[test]
fn loom_p26_cached_permits_and_a_watch_do_not_miss_each_other() {
    model_the_likely(|| {
        // The other thread opens the stripes, where it can.
        let count = holding(64, 1);
        let other = thread::spawn(move || {
            count.open();
            count.release(1);
        });
        let watch = Watch::begin(count);
        other.join().unwrap();
        assert!(watch.knows());
        assert_eq!(count.level().in_flight, 0);
    });
}

#[test]
fn loom_p26_once_a_drained_count_is_unused_no_request_is_counted() {
    for opens in [false, true] {
        model_the_likely(move || {
            let count = Count::claim(4);
            if opens {
                count.open();
            }
            let claim = Claim::from(Threshold::NEVER_SHED);
            let request = thread::spawn(move || match count.admit(1, all, Gate::Stops) {
                Ok(_) => true,
                Err(denied) => {
                    assert_eq!(denied, Denied::Gated);
                    count.decide_at_gate(&claim, |reason| {
                        reason.is_none() && count.acquire(1, all).is_ok()
                    })
                }
            });
            count.set_drain(Some(Instant::now()));
            let is_unused = Watch::begin(count).was_ready;
            let is_counted = request.join().unwrap();
            assert!(!(is_unused && is_counted));
            assert_eq!(count.level().in_flight, u32::from(is_counted));
        });
    }
}

#[test]
fn loom_p26_a_request_that_is_refused_at_the_gate_and_a_release_tell_the_watch() {
    model_the_likely(|| {
        let count = holding(1, 1);
        count.set_drain(Some(Instant::now()));
        let claim = Claim::from(Threshold::NEVER_SHED);
        let refused = thread::spawn(move || {
            count.decide_at_gate(&claim, |reason| assert!(reason.is_some()));
        });
        let watch = Watch::begin(count);
        count.release(1);
        refused.join().unwrap();
        assert!(watch.knows());
    });
}
