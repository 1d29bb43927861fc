//! Requests that a layer admits without a look at them, while its budget is far from full.

use std::sync::{MutexGuard, atomic::Ordering};

use super::settings::Settings;
use crate::{
    admission::counted_units::CountedUnits,
    budget::budget::Budget,
    threshold::{rounded::RoundedThreshold, threshold::Threshold},
};

impl Settings {
    /// Admits a request without a look at it, if a permit is cached for it: then it fits under every threshold that may apply.
    /// Returns its units, and how many requests this thread has admitted.
    ///
    /// `None` is no refusal: the request has to be decided upon.
    #[inline]
    pub(crate) fn admit_unseen(&self, budget: &Budget) -> Option<(CountedUnits, usize)> {
        match self.unseen.load(Ordering::Relaxed) {
            0 => None,
            bits => budget.admit_cached(RoundedThreshold::from_bits(bits)),
        }
    }

    /// Finds out whether requests may be admitted without a look at them. `_alone`: no other thread changes the settings meanwhile.
    pub(super) fn find_unseen(&self, _alone: &MutexGuard<'_, ()>) {
        let found = self.unseen_threshold();
        // Never 0, as it reaches half of the budget.
        let bits = found.map_or(0, |threshold| RoundedThreshold::from(threshold).to_bits());
        self.unseen.store(bits, Ordering::Relaxed);
    }

    /// Returns the threshold under which requests count as admitted that are not looked at: the highest that may apply. `None` if
    /// each request has to be looked at, or a request may not use half of the budget.
    fn unseen_threshold(&self) -> Option<Threshold> {
        if self.uploads.are_watched() || self.decisions.are_counted() {
            return None;
        }
        let (base, class_thresholds) = (self.threshold(), self.class_thresholds.load());
        match &self.decide {
            None => Some(base).filter(|base| !base.is_exempt() && base.reaches_half()),
            // A learned budget is told the threshold of each measured request.
            Some(decide) => {
                let is_fixed = self.budget.get()?.sampler().is_none();
                decide
                    .highest_threshold(base, class_thresholds)
                    .filter(|_| is_fixed)
            }
        }
    }
}
