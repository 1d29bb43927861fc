//! How often a request writes to what other threads write as well: counted, as time says little on a small machine.

use std::sync::atomic::Ordering;

use super::Count;
use crate::{
    admission::count::stripes::Stripes,
    support::{
        per_thread::{PerThread, as_thread},
        sync::SHARED_WRITES,
    },
};

#[derive(Clone, Copy, Debug)]
enum Ends {
    WhereItBegan,
    Anywhere,
}

/// Returns the shared writes of a request, with a tenth of the limit in flight.
fn shared_writes(threads: usize, limit: u32, ends: Ends) -> f64 {
    const REQUESTS: usize = 50_000;
    let count = Count::with(Stripes::of(PerThread::with(threads + 1)));
    count.word.renew(limit);
    // It lives as long as the process, as every count.
    let count: &'static Count = Box::leak(Box::new(count));
    let mut random = fastrand::Rng::with_seed(0);
    let mut in_flight = Vec::new();
    let begin = |random: &mut fastrand::Rng| {
        let thread = random.usize(..threads);
        as_thread(thread, || assert!(count.acquire(1, |limit| limit).is_ok()));
        thread
    };
    in_flight.extend((0..limit / 10).map(|_| begin(&mut random)));
    let before = SHARED_WRITES.get();
    for _ in 0..REQUESTS {
        let began_on = in_flight.swap_remove(random.usize(..in_flight.len()));
        let thread = match ends {
            Ends::WhereItBegan => began_on,
            Ends::Anywhere => random.usize(..threads),
        };
        as_thread(thread, || count.release(1));
        in_flight.push(begin(&mut random));
    }
    assert!(count.word.load(Ordering::Relaxed).is_caching());
    (SHARED_WRITES.get() - before) as f64 / REQUESTS as f64
}

#[test]
fn threads_hardly_ever_write_to_what_others_write_while_a_tenth_is_in_flight() {
    for threads in [1, 2, 8, 64] {
        for limit in [200, 2_000] {
            // A stripe of this one has a unit or two.
            let most = if (threads, limit) == (64, 200) {
                0.65
            } else {
                0.1
            };
            for ends in [Ends::WhereItBegan, Ends::Anywhere] {
                let writes = shared_writes(threads, limit, ends);
                assert!(
                    writes <= most,
                    "{threads} threads, limit {limit}, {ends:?}: {writes}"
                );
            }
        }
    }
}
