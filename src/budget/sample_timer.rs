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

    /// The same for a request whose handler has waited for its client for `client_time`, which is no latency.
    #[cold]
    pub(crate) fn finish_without(self, client_time: Duration, budget: &Budget, outcome: Outcome) {
        let Some(sampler) = budget.sampler() else {
            return;
        };
        let now = sampler.now();
        let mut sample = Sample::new(sampler.at(self.admitted_at));
        let elapsed = Duration::from_nanos(now.saturating_sub(self.admitted_at));
        sample.latency = elapsed.saturating_sub(client_time);
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

/// A measured request in flight, for as long as it holds its permit, which may be longer than it is measured.
pub(crate) struct Watch<T: AsBudget> {
    owner: T,
    /// The units in flight that it stands for.
    weight: u32,
    responded: bool,
}

/// A type that has a budget.
pub(crate) trait AsBudget {
    fn budget(&self) -> &Budget;
}

impl AsBudget for Budget {
    fn budget(&self) -> &Self {
        self
    }
}

impl<T: AsBudget> Watch<T> {
    /// Begins for a request that holds `units`.
    pub(crate) fn begin(owner: T, units: u32) -> Self {
        let weight = owner.budget().sampler().map_or(0, |sampler| {
            let weight = sampler.one_in().saturating_mul(units as usize);
            let weight = u32::try_from(weight).unwrap_or(u32::MAX);
            sampler.watched.add(weight as usize);
            weight
        });
        Self {
            owner,
            weight,
            responded: false,
        }
    }

    /// Returns the units in flight that the request stands for.
    pub(crate) fn units(&self) -> u32 {
        self.weight
    }

    pub(crate) fn owner(&self) -> &T {
        &self.owner
    }

    pub(crate) fn budget(&self) -> &Budget {
        self.owner.budget()
    }

    /// Notes that the request has responded and keeps its permit.
    pub(crate) fn respond(&mut self) {
        if let (Some(sampler), false) = (self.budget().sampler(), self.responded) {
            sampler.responded.add(self.weight as usize);
            self.responded = true;
        }
    }
}

impl<T: AsBudget> Drop for Watch<T> {
    fn drop(&mut self) {
        if let Some(sampler) = self.budget().sampler() {
            let weight = self.weight as usize;
            if self.responded {
                sampler.responded.subtract(weight);
            }
            sampler.watched.subtract(weight);
        }
    }
}
