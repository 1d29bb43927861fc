//! Measures one request, for one sample.

use std::time::Duration;

use super::budget::Budget;
use crate::{
    admission::sampler::{Finished, drawn},
    control::controller::{Outcome, Sample},
    threshold::threshold::Threshold,
};

/// The figures of a measured request at its admission. Small, as it moves with every request's future.
pub(crate) struct SampleTimer {
    /// Nanoseconds since the sampler's epoch.
    admitted_at: u64,
    /// Units in flight.
    in_flight: u32,
    limit: u32,
    cap: u32,
    rarity: u8,
    drawn: u8,
    /// Whether the inner service runs. Stays set if it panics.
    pub(crate) inside: bool,
}

impl SampleTimer {
    /// Starts at the admission of a request under `threshold`, which goes on into the inner service.
    #[cold]
    pub(crate) fn new(budget: &Budget, threshold: Threshold) -> Self {
        // Read before a window is closed, which may move the limit.
        let level = budget.level();
        let (admitted_at, rarity) = budget.sampler().map_or((0, 0), |sampler| {
            let (now, rarity) = (sampler.now(), sampler.rarity());
            sampler.close_if_due(budget, now);
            (now, rarity)
        });
        let drawn = drawn(budget.inner.counters.admitted_here());
        Self {
            admitted_at,
            // Another thread may have changed the rarity since the request was chosen.
            rarity: rarity.min(drawn),
            drawn,
            in_flight: level.in_flight,
            limit: level.limit,
            cap: threshold.cap(level.limit).min(level.limit),
            inside: true,
        }
    }

    /// Notes that an inner layer has admitted the request under `threshold`. The limit is still that of the first admission.
    pub(crate) fn lower(&mut self, threshold: Threshold) {
        if !threshold.is_never_shed() {
            self.cap = self.cap.min(threshold.cap(self.limit));
        }
    }

    /// Ends the measurement, and gives the sample to the budget that has admitted the request.
    #[cold]
    pub(crate) fn finish(self, budget: &Budget, outcome: Outcome) {
        self.finish_without(Duration::ZERO, budget, outcome);
    }

    /// The same for a request that has `waited` for its client, or in the queue of an inner layer: that time is no latency.
    #[cold]
    pub(crate) fn finish_without(self, waited: Duration, budget: &Budget, outcome: Outcome) {
        let Some(sampler) = budget.sampler() else {
            return;
        };
        let now = sampler.now();
        let mut sample = Sample::new(sampler.at(self.admitted_at));
        let elapsed = Duration::from_nanos(now.saturating_sub(self.admitted_at));
        sample.latency = elapsed.saturating_sub(waited);
        sample.in_flight = self.in_flight as usize;
        sample.limit = self.limit as usize;
        sample.cap = self.cap as usize;
        sample.outcome = outcome;
        let finished = Finished {
            sample,
            rarity: self.rarity,
            drawn: self.drawn,
        };
        sampler.record(budget, finished, now);
    }
}
