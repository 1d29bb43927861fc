use std::sync::atomic::{AtomicUsize, Ordering};

use super::Count;

/// What has happened under a budget since it was made.
#[derive(Debug)]
pub(super) struct Tally {
    /// It counts what it admits: that is the same line.
    count: &'static Count,
    pub(super) refused: Counter,
    pub(super) would_refuse: Counter,
    pub(super) exempt: Counter,
    pub(super) waited: Counter,
}

/// A number of requests, and what they cost.
///
/// # Memory ordering
///
/// `Relaxed`, here and in [`Tally`]: each number stands for itself and orders nothing.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Counter {
    requests: AtomicUsize,
    /// By how many units they cost more than one each.
    surcharge: AtomicUsize,
}

impl Counter {
    pub(super) fn add(&self, units: u32) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if units > 1 {
            let surcharge = units as usize - 1;
            self.surcharge.fetch_add(surcharge, Ordering::Relaxed);
        }
    }

    pub(super) fn get(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn units(&self) -> usize {
        let surcharge = self.surcharge.load(Ordering::Relaxed);
        self.get().wrapping_add(surcharge)
    }
}

impl Tally {
    pub(super) fn new(count: &'static Count) -> Self {
        Self {
            count,
            refused: Counter::default(),
            would_refuse: Counter::default(),
            exempt: Counter::default(),
            waited: Counter::default(),
        }
    }

    /// One that is admitted costs more than was counted.
    pub(super) fn charge(&self, surcharge: u32) {
        self.count.correct(0, surcharge as usize);
    }

    /// How many this thread has admitted.
    #[inline]
    pub(super) fn admitted_here(&self) -> usize {
        self.count.admitted_here()
    }

    /// One that an outer layer had admitted was refused by an inner one.
    pub(super) fn withdraw(&self, units: u32) {
        let surcharge = units as usize - 1;
        self.count
            .correct(1_usize.wrapping_neg(), surcharge.wrapping_neg());
    }

    /// One that was taken back while the lanes are read may be seen before it was counted: less than 0 is 0.
    pub(super) fn admitted(&self) -> usize {
        let admitted = self.count.admitted() as isize;
        admitted.max(0) as usize
    }

    /// What those cost.
    pub(super) fn admitted_units(&self) -> usize {
        let surcharge = self.count.surcharge() as isize;
        self.admitted().wrapping_add(surcharge.max(0) as usize)
    }

    pub(super) fn peak_in_flight(&self) -> usize {
        self.count.peak() as usize
    }
}

#[cfg(all(test, not(loadshed_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_back_before_it_is_seen_counted_is_0_and_not_the_largest_number() {
        let count = Count::claim(2);
        let tally = Tally::new(count);
        tally.withdraw(1);
        assert_eq!(tally.admitted(), 0);
        assert!(count.acquire(1, |limit| limit).is_ok());
        assert!(count.acquire(1, |limit| limit).is_ok());
        assert_eq!(tally.admitted(), 1);
    }
}
