use std::sync::atomic::{AtomicUsize, Ordering};

use super::{count::count::Count, counter::SharedCounter};
use crate::support::spread::spread;

/// The events under a budget since it was made.
#[derive(Debug)]
pub(crate) struct Counters {
    /// Counts the requests that it admits and refuses, each thread in a cache line of its own.
    count: &'static Count,
    /// The number of threads that have refused a request.
    refusing: AtomicUsize,
    pub(crate) would_refuse: SharedCounter,
    /// The refusals of drains, which are among all refusals. They say nothing about load.
    pub(crate) draining: SharedCounter,
    pub(crate) exempt: SharedCounter,
    pub(crate) waited: SharedCounter,
}

impl Counters {
    pub(crate) fn new(count: &'static Count) -> Self {
        Self {
            count,
            refusing: AtomicUsize::new(0),
            would_refuse: SharedCounter::default(),
            draining: SharedCounter::default(),
            exempt: SharedCounter::default(),
            waited: SharedCounter::default(),
        }
    }

    /// Adds to the cost of a request that is admitted already.
    pub(crate) fn charge(&self, surcharge: u32) {
        let (slot, writers) = self.count.own();
        slot.admitted.charge(surcharge, writers);
    }

    /// Returns the number of requests that this thread has admitted.
    #[inline]
    pub(crate) fn admitted_here(&self) -> usize {
        self.count.admitted_here()
    }

    /// Takes back the admission of a request of `units`, which an inner layer refuses.
    // A counter of its own: what happens once in so many admissions goes by the number of admissions on a thread.
    pub(crate) fn withdraw(&self, units: u32) {
        let (slot, writers) = self.count.own();
        slot.withdrawn.add(units, writers);
    }

    /// Returns the number of requests admitted. Another thread's withdrawal may be read before the admission that it takes back:
    /// a negative number is returned as 0.
    pub(crate) fn admitted(&self) -> usize {
        let admitted = self.count.admitted() as isize;
        admitted.max(0) as usize
    }

    /// Returns the cost of the requests admitted.
    pub(crate) fn admitted_units(&self) -> usize {
        let surcharge = self.count.sum(|slot| {
            let withdrawn = slot.withdrawn.surcharge();
            slot.admitted.surcharge().wrapping_sub(withdrawn)
        }) as isize;
        self.admitted().wrapping_add(surcharge.max(0) as usize)
    }

    /// Counts a refusal of a request of `units`. Returns its position in the sequence of retry hints. Each thread starts at a
    /// position of its own, so that two threads do not run through the same positions.
    pub(crate) fn refuse(&self, units: u32) -> u64 {
        let (slot, writers) = self.count.own();
        if slot.refused.requests() == 0 {
            let threads = self.refusing.fetch_add(1, Ordering::Relaxed);
            let begin = spread(threads as u64) as usize;
            slot.sequence.store(begin, Ordering::Relaxed);
        }
        let begin = slot.sequence.load(Ordering::Relaxed);
        begin.wrapping_add(slot.refused.add(units, writers)) as u64
    }

    pub(crate) fn refused(&self) -> usize {
        self.count.sum(|slot| slot.refused.requests())
    }

    /// Returns the cost of the requests refused.
    pub(crate) fn refused_units(&self) -> usize {
        let surcharge = self.count.sum(|slot| slot.refused.surcharge());
        self.refused().wrapping_add(surcharge)
    }

    pub(crate) fn peak_in_flight(&self) -> usize {
        self.count.peak() as usize
    }
}

#[cfg(all(test, not(loadshed_loom)))]
mod tests {
    use std::thread;

    use super::*;
    use crate::support::per_thread::as_thread;

    #[test]
    fn refusals_of_all_threads_are_counted_once_each_with_their_cost() {
        let counters = Counters::new(Count::claim(1));
        thread::scope(|scope| {
            // More threads than values on a small machine: some threads share one.
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        counters.refuse(3);
                    }
                });
            }
        });
        assert_eq!(
            (counters.refused(), counters.refused_units()),
            (8_000, 24_000)
        );
        assert_eq!((counters.admitted(), counters.admitted_units()), (0, 0));
    }

    #[test]
    fn threads_that_refuse_at_once_are_at_positions_of_their_own_in_the_sequence() {
        let counters = Counters::new(Count::claim(1));
        // Two numbers that have a stripe each, however many threads other tests have.
        let refuse = |thread| as_thread(thread, || counters.refuse(1));
        assert_eq!([refuse(0), refuse(0)], [1, 2], "one thread goes on by one");
        let elsewhere = refuse(1);
        assert!(![1, 2, 3].contains(&elsewhere), "{elsewhere}");
    }

    #[test]
    fn a_withdrawal_that_is_seen_before_its_admission_counts_as_0_admitted() {
        let count = Count::claim(2);
        let counters = Counters::new(count);
        counters.withdraw(1);
        assert_eq!(counters.admitted(), 0);
        assert!(count.acquire(1, |limit| limit).is_ok());
        assert!(count.acquire(1, |limit| limit).is_ok());
        assert_eq!(counters.admitted(), 1);
    }
}
