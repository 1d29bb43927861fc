//! The interleavings in which stripes cache permits, or may: see [`model`](crate::admission::count::count::model) for the word alone.

use loom::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use super::Count;
use crate::{
    admission::{
        count::pool::POOL,
        model::{all, half, holding, is_admitted, join, model_the_likely},
    },
    support::per_thread::NUMBER,
};

/// A count of 4 with open stripes. Of 2 units taken, `held` are in flight and the others cached by the first stripe. Both were in
/// flight at once.
fn caching(held: u32) -> &'static Count {
    let count = Count::claim(4);
    open(count);
    assert!(count.acquire(1, all).is_ok() && count.acquire(1, all).is_ok());
    (held..2).for_each(|_| count.release(1));
    let taken = count.word.load(Ordering::Relaxed).level().in_flight;
    assert_eq!((taken, cached(count)), (2, 2 - held));
    count
}

fn open(count: &Count) {
    count.open();
    assert!(count.word.load(Ordering::Relaxed).is_caching());
}

fn cached(count: &Count) -> u32 {
    count.stripes.cached()[0]
}

/// Runs on a thread with the second stripe. The model's first thread has the first stripe.
fn on_the_second_stripe<T: 'static>(run: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    on_stripe(1, run)
}

fn on_stripe<T: 'static>(stripe: usize, run: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    thread::spawn(move || {
        NUMBER.with(|number| number.set(stripe));
        run()
    })
}

/// Returns the units in flight once no thread runs and nothing is cached.
fn rest(count: &Count) -> u32 {
    let level = count.level();
    assert_eq!(level, count.reclaim().level(), "exact at rest");
    level.in_flight
}

#[test]
fn loom_p02_a_cached_permit_is_reclaimed_by_a_request_that_needs_it_and_given_away_once() {
    loom::model(|| {
        let count = caching(1);
        // One of these fits, and not both at once.
        let request = move || match count.acquire(1, half) {
            Ok(_) => {
                count.release(1);
                true
            }
            Err(level) => {
                assert_eq!(level.in_flight, 2, "refused although it fits");
                false
            }
        };
        let other = on_the_second_stripe(request);
        let own = request();
        assert!(own | other.join().unwrap(), "both refused");
        assert_eq!(rest(count), 1);
    });
}

#[test]
fn loom_p02_no_more_requests_are_in_flight_at_once_than_fit() {
    model_the_likely(|| {
        let count = caching(1);
        let inside = Arc::new(AtomicUsize::new(1));
        let request = {
            let inside = Arc::clone(&inside);
            move || {
                if count.acquire(1, half).is_ok() {
                    assert!(
                        inside.fetch_add(1, Ordering::Relaxed) < 2,
                        "two in flight already"
                    );
                    inside.fetch_sub(1, Ordering::Relaxed);
                    count.release(1);
                }
            }
        };
        let second = on_the_second_stripe(request.clone());
        let third = on_the_second_stripe(request.clone());
        request();
        second.join().unwrap();
        third.join().unwrap();
        assert_eq!(rest(count), 1);
    });
}

#[test]
fn loom_p02_a_request_with_a_cap_below_the_cached_units_takes_no_cached_permit() {
    loom::model(|| {
        let count = caching(1);
        let low = |_| 1;
        let other = on_the_second_stripe(move || count.acquire(1, all).is_ok());
        assert_eq!(count.acquire(1, low).unwrap_err().limit, 4);
        assert!(other.join().unwrap());
        assert_eq!(rest(count), 2);
    });
}

#[test]
fn loom_p02_of_two_nested_requests_at_one_too_many_exactly_one_is_refused() {
    // Both are counted already, by an outer layer that never sheds.
    for count in [|| holding(4, 2), || caching(2)] {
        loom::model(move || {
            let count = count();
            let one = |limit: u32| limit / 4;
            let other = on_the_second_stripe(move || count.keep(1, 1, one).is_ok());
            let own = count.keep(1, 1, one).is_ok();
            assert_ne!(own, other.join().unwrap());
            assert_eq!(rest(count), 1);
        });
    }
}

#[test]
fn loom_p02_no_unit_is_lost_or_doubled_when_stripes_open_while_requests_begin_and_end() {
    loom::model(|| {
        let count = holding(4, 1);
        let other = on_the_second_stripe(move || {
            count.open();
            count.release(1);
        });
        assert!(count.acquire(1, half).is_ok());
        count.release(1);
        assert!(count.acquire(1, half).is_ok());
        other.join().unwrap();
        assert_eq!(rest(count), 1);
    });
}

#[test]
fn loom_p02_a_late_reclaim_does_not_mistake_another_opening_for_the_opening_it_has_seen() {
    loom::model(|| {
        let count = caching(1);
        let late = on_the_second_stripe(move || count.reclaim());
        count.reclaim();
        count.open();
        // The word is as it was. The cached units are not.
        assert!(count.acquire(1, all).is_ok());
        late.join().unwrap();
        assert_eq!(rest(count), 2);
    });
}

#[test]
fn loom_p02_two_threads_share_the_units_of_one_stripe() {
    loom::model(|| {
        let count = caching(0);
        let request = move || {
            assert!(count.acquire(1, all).is_ok(), "it fits, beside the other");
        };
        let other = on_the_second_stripe(request);
        request();
        other.join().unwrap();
        assert_eq!(rest(count), 2);
    });
}

#[test]
fn loom_p02_a_late_release_to_a_stripe_is_not_cached_without_the_word() {
    loom::model(|| {
        let count = caching(2);
        let late = on_the_second_stripe(move || count.release(1));
        count.reclaim();
        count.open();
        count.reclaim();
        // The stripes are shut, or open again while the word does not say so.
        let told = count.level().in_flight;
        late.join().unwrap();
        assert!(told >= 1);
        assert_eq!(rest(count), 1);
    });
}

#[test]
fn loom_p02_of_three_threads_at_the_same_stripes_one_opens_them() {
    model_the_likely(|| {
        let count = caching(2);
        let second = on_the_second_stripe(move || count.release(1));
        let third = on_the_second_stripe(move || count.reclaim());
        count.reclaim();
        count.open();
        second.join().unwrap();
        third.join().unwrap();
        assert_eq!(rest(count), 1);
    });
}

#[test]
fn loom_p02_of_two_threads_that_open_the_stripes_at_once_one_does() {
    model_the_likely(|| {
        let count = holding(4, 1);
        let second = on_the_second_stripe(move || count.open());
        let third = on_the_second_stripe(move || count.release(1));
        count.open();
        second.join().unwrap();
        third.join().unwrap();
        assert_eq!(rest(count), 0);
    });
}

#[test]
fn loom_p05_a_lowered_limit_holds_for_cached_permits_at_once() {
    loom::model(|| {
        let count = caching(1);
        let is_lowered = Arc::new(AtomicBool::new(false));
        let lowers = {
            let is_lowered = Arc::clone(&is_lowered);
            on_the_second_stripe(move || {
                let before = count.set_limit(1);
                is_lowered.store(true, Ordering::Release);
                before
            })
        };
        let is_late = is_lowered.load(Ordering::Acquire);
        // There is a cached permit for it, which it takes only before the change.
        let admitted = count.acquire(1, all).is_ok();
        assert!(!(admitted && is_late));
        assert_eq!(admitted, lowers.join().unwrap().in_flight == 2);
        assert_eq!(count.level().limit, 1);
    });
}

#[test]
fn loom_p05_a_late_release_to_a_stripe_is_cached_under_the_limit_of_that_moment() {
    loom::model(|| {
        let count = caching(2);
        let late = on_the_second_stripe(move || count.release(1));
        count.set_limit(8);
        count.open();
        late.join().unwrap();
        // On that stripe's thread, whether the unit is cached there or not.
        NUMBER.with(|number| number.set(1));
        assert_eq!(count.acquire(1, all).unwrap().limit, 8);
        assert_eq!(rest(count), 2);
    });
}

#[test]
fn loom_the_peak_is_no_less_than_the_most_units_in_flight_at_once() {
    model_the_likely(|| {
        let count = holding(4, 1);
        open(count);
        count.release(1);
        assert_eq!((cached(count), count.peak()), (2, 1));
        let inside = Arc::new(AtomicUsize::new(0));
        let request = {
            let inside = Arc::clone(&inside);
            move || {
                assert!(count.acquire(1, all).is_ok());
                let now = 1 + inside.fetch_add(1, Ordering::Relaxed);
                inside.fetch_sub(1, Ordering::Relaxed);
                count.release(1);
                now
            }
        };
        let other = on_the_second_stripe(request.clone());
        let most = request().max(other.join().unwrap());
        assert!(count.peak() as usize >= most);
        assert_eq!(rest(count), 0);
    });
}

#[test]
fn loom_a_permit_passes_on_with_all_that_was_done_under_it() {
    // Released to the word; to an empty stripe; to a stripe that has cached a permit before.
    let two_held = [
        || holding(4, 2),
        || caching(2),
        || {
            let count = caching(1);
            assert!(count.acquire(1, all).is_ok());
            count
        },
    ];
    // Taken from the same stripe by its thread, and by another.
    for (count, stripe) in two_held
        .into_iter()
        .flat_map(|count| [(count, 0), (count, 1)])
    {
        loom::model(move || {
            let count = count();
            let protected = Arc::new(AtomicUsize::new(0));
            let next = {
                let protected = Arc::clone(&protected);
                on_stripe(stripe, move || {
                    if count.acquire(1, half).is_ok() {
                        assert_eq!(protected.load(Ordering::Relaxed), 1);
                    }
                })
            };
            protected.store(1, Ordering::Relaxed);
            count.release(1);
            next.join().unwrap();
        });
    }
}

#[test]
fn loom_a_permit_that_another_thread_reclaims_passes_on_with_all_that_was_done_under_it() {
    model_the_likely(|| {
        let count = caching(1);
        assert!(count.acquire(1, all).is_ok());
        let protected = Arc::new(AtomicUsize::new(0));
        let calls_in = on_the_second_stripe(move || count.reclaim());
        let next = {
            let protected = Arc::clone(&protected);
            on_the_second_stripe(move || {
                if count.acquire(1, half).is_ok() {
                    assert_eq!(protected.load(Ordering::Relaxed), 1);
                }
            })
        };
        protected.store(1, Ordering::Relaxed);
        count.release(1);
        calls_in.join().unwrap();
        next.join().unwrap();
    });
}

#[test]
fn loom_p03_a_count_goes_back_to_the_pool_exactly_once() {
    let goes_back = |count: &'static Count| {
        let first = thread::spawn(move || count.release(1));
        let second = on_the_second_stripe(move || count.release(1));
        count.abandon();
        first.join().unwrap();
        second.join().unwrap();
        let pooled = POOL.lock().unwrap();
        assert_eq!(pooled.len(), 1);
        assert!(std::ptr::eq(pooled[0], count));
    };
    loom::model(move || goes_back(holding(2, 2)));
    model_the_likely(move || goes_back(caching(2)));
}

#[test]
fn loom_a_join_misses_no_permit_that_a_stripe_caches() {
    model_the_likely(|| {
        let count = caching(1);
        let release = on_the_second_stripe(move || count.release(1));
        let ticket = join(count, 4);
        release.join().unwrap();
        assert!(is_admitted(count, &ticket));
    });
}

#[test]
fn loom_a_join_and_an_opening_of_the_stripes_do_not_miss_each_other() {
    model_the_likely(|| {
        let count = caching(1);
        count.reclaim();
        let second = on_the_second_stripe(move || {
            count.open();
            count.release(1);
        });
        let ticket = join(count, 4);
        second.join().unwrap();
        assert!(is_admitted(count, &ticket));
    });
}
