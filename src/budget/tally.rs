use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::lanes::LaneCounter;

/// What has happened under a budget since it was made.
#[derive(Debug)]
pub(super) struct Tally {
    admitted: LaneCounter,
    /// By how many units those cost more than one each.
    surcharge: LaneCounter,
    peak_in_flight: AtomicU32,
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
    pub(super) fn new() -> Self {
        Self {
            admitted: LaneCounter::new(),
            surcharge: LaneCounter::new(),
            peak_in_flight: AtomicU32::new(0),
            refused: Counter::default(),
            would_refuse: Counter::default(),
            exempt: Counter::default(),
            waited: Counter::default(),
        }
    }

    #[inline]
    pub(super) fn admit(&self, in_flight: u32, units: u32) {
        // Reads before it writes: in a steady state the peak stands.
        if in_flight > self.peak_in_flight.load(Ordering::Relaxed) {
            self.peak_in_flight.fetch_max(in_flight, Ordering::Relaxed);
        }
        self.admitted.add(1);
        self.charge(units - 1);
    }

    /// One that is admitted costs more than was counted.
    #[inline]
    pub(super) fn charge(&self, surcharge: u32) {
        if surcharge > 0 {
            self.surcharge.add(surcharge as usize);
        }
    }

    /// How many this thread has admitted.
    #[inline]
    pub(super) fn admitted_here(&self) -> usize {
        self.admitted.here()
    }

    /// One that an outer layer had admitted was refused by an inner one.
    pub(super) fn withdraw(&self, units: u32) {
        self.admitted.take_back(1);
        if units > 1 {
            self.surcharge.take_back(units as usize - 1);
        }
    }

    /// One that was taken back while the lanes are read may be seen before it was counted: less than 0 is 0.
    pub(super) fn admitted(&self) -> usize {
        let admitted = self.admitted.sum() as isize;
        admitted.max(0) as usize
    }

    /// What those cost.
    pub(super) fn admitted_units(&self) -> usize {
        let surcharge = self.surcharge.sum() as isize;
        self.admitted().wrapping_add(surcharge.max(0) as usize)
    }

    pub(super) fn peak_in_flight(&self) -> usize {
        self.peak_in_flight.load(Ordering::Relaxed) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_back_before_it_is_seen_counted_is_0_and_not_the_largest_number() {
        let tally = Tally::new();
        tally.withdraw(1);
        assert_eq!(tally.admitted(), 0);
        tally.admit(1, 1);
        tally.admit(1, 1);
        assert_eq!(tally.admitted(), 1);
    }
}
