use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// What has happened under a budget since it was made.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    admissions: Admissions,
    pub(crate) refused: Counter,
    pub(crate) would_refuse: Counter,
    pub(crate) exempt: Counter,
}

/// Written by all that are admitted, hence on a line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Admissions {
    admitted: AtomicUsize,
    peak_in_flight: AtomicU32,
}

/// A number of events.
///
/// # Memory ordering
///
/// `Relaxed`, here and in [`Tally`]: each number stands for itself and orders nothing.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicUsize);

impl Counter {
    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Tally {
    /// Returns how many had been admitted before this one.
    #[inline]
    pub(crate) fn admit(&self, in_flight: u32) -> usize {
        let peak = &self.admissions.peak_in_flight;
        // Reads before it writes: in a steady state the peak stands.
        if in_flight > peak.load(Ordering::Relaxed) {
            peak.fetch_max(in_flight, Ordering::Relaxed);
        }
        self.admissions.admitted.fetch_add(1, Ordering::Relaxed)
    }

    /// One that an outer layer had admitted was refused by an inner one.
    pub(crate) fn withdraw(&self) {
        self.admissions.admitted.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn admitted(&self) -> usize {
        self.admissions.admitted.load(Ordering::Relaxed)
    }

    pub(crate) fn peak_in_flight(&self) -> u32 {
        self.admissions.peak_in_flight.load(Ordering::Relaxed)
    }
}
