use std::sync::atomic::{AtomicUsize, Ordering};

use super::{count::count::Count, counter::SharedCounter};
use crate::support::spread::spread;

/// What has happened under a budget since it was made.
#[derive(Debug)]
pub(crate) struct Counters {
    /// It counts what it admits and what it refuses, each thread on its own line.
    count: &'static Count,
    /// How many threads have refused anything.
    refusing: AtomicUsize,
    pub(crate) would_refuse: SharedCounter,
    pub(crate) exempt: SharedCounter,
    pub(crate) waited: SharedCounter,
}

impl Counters {
    pub(crate) fn new(count: &'static Count) -> Self {
        Self {
            count,
            refusing: AtomicUsize::new(0),
            would_refuse: SharedCounter::default(),
            exempt: SharedCounter::default(),
            waited: SharedCounter::default(),
        }
    }

    /// One that is admitted costs more than was counted.
    pub(crate) fn charge(&self, surcharge: u32) {
        self.correct(0, surcharge as usize);
    }

    /// How many this thread has admitted.
    #[inline]
    pub(crate) fn admitted_here(&self) -> usize {
        self.count.admitted_here()
    }

    /// One that an outer layer had admitted was refused by an inner one.
    pub(crate) fn withdraw(&self, units: u32) {
        let surcharge = units as usize - 1;
        self.correct(1_usize.wrapping_neg(), surcharge.wrapping_neg());
    }

    fn correct(&self, admitted: usize, surcharge: usize) {
        let (lane, writers) = self.count.own();
        lane.admitted.correct(admitted, surcharge, writers);
    }

    /// One that was taken back while the lanes are read may be seen before it was counted: less than 0 is 0.
    pub(crate) fn admitted(&self) -> usize {
        let admitted = self.count.admitted() as isize;
        admitted.max(0) as usize
    }

    /// What those cost.
    pub(crate) fn admitted_units(&self) -> usize {
        let surcharge = self.count.sum(|lane| lane.admitted.surcharge()) as isize;
        self.admitted().wrapping_add(surcharge.max(0) as usize)
    }

    pub(crate) fn refuse(&self, units: u32) {
        let (lane, writers) = self.count.own();
        if lane.refused.requests() == 0 {
            let threads = self.refusing.fetch_add(1, Ordering::Relaxed);
            let begin = spread(threads as u64) as usize;
            lane.sequence.store(begin, Ordering::Relaxed);
        }
        lane.refused.add(units, writers);
    }

    /// Which refusal the latest on this thread is, in a sequence that no two threads are at the same place of for long.
    pub(crate) fn nth_refused(&self) -> u64 {
        let (lane, _) = self.count.own();
        let begin = lane.sequence.load(Ordering::Relaxed);
        begin.wrapping_add(lane.refused.requests()) as u64
    }

    pub(crate) fn refused(&self) -> usize {
        self.count.sum(|lane| lane.refused.requests())
    }

    /// What those would have cost.
    pub(crate) fn refused_units(&self) -> usize {
        let surcharge = self.count.sum(|lane| lane.refused.surcharge());
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

    #[test]
    fn refusals_of_all_threads_are_counted_each_once_and_for_what_it_would_have_cost() {
        let counters = Counters::new(Count::claim(1));
        thread::scope(|scope| {
            // More than there are lanes on a small machine: some share the last one.
            for _ in 0..8 {
                scope.spawn(|| (0..1_000).for_each(|_| counters.refuse(3)));
            }
        });
        assert_eq!(
            (counters.refused(), counters.refused_units()),
            (8_000, 24_000)
        );
        assert_eq!((counters.admitted(), counters.admitted_units()), (0, 0));
    }

    #[test]
    fn threads_that_refuse_at_once_are_at_places_of_their_own_in_the_sequence() {
        let counters = Counters::new(Count::claim(1));
        let refuse = || {
            counters.refuse(1);
            counters.nth_refused()
        };
        assert_eq!([refuse(), refuse()], [1, 2], "as it is on one thread");
        let elsewhere = thread::scope(|scope| scope.spawn(refuse).join().unwrap());
        assert!(![1, 2, 3].contains(&elsewhere), "{elsewhere}");
    }

    #[test]
    fn what_is_taken_back_before_it_is_seen_counted_is_0_and_not_the_largest_number() {
        let count = Count::claim(2);
        let counters = Counters::new(count);
        counters.withdraw(1);
        assert_eq!(counters.admitted(), 0);
        assert!(count.acquire(1, |limit| limit).is_ok());
        assert!(count.acquire(1, |limit| limit).is_ok());
        assert_eq!(counters.admitted(), 1);
    }
}
