//! Measures one request, for one sample.

use std::{num::NonZero, time::Duration};

use super::budget::Budget;
use crate::{
    admission::sampler::{Finished, Sampler, drawn},
    control::controller::{CLIENT_TIMEOUTS, Outcome, Sample},
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
    /// In milliseconds, as far as it fits.
    client_timeout: Option<NonZero<u16>>,
    rarity: Rarity,
    /// Whether the inner service runs. Stays set if it panics.
    pub(crate) inside: bool,
}

/// Another 8 bytes would make the future of each request larger, measured or not.
const _: () = assert!(size_of::<SampleTimer>() <= 24);

/// The rarity at the admission in the lower 4 bits, and the highest rarity at which the request would be measured in the upper 4
/// bits. At a rarity of 15 a budget admits 800 million requests per second.
#[derive(Clone, Copy)]
struct Rarity(u8);

impl Rarity {
    const MAX: u8 = 15;

    fn new(rarity: u8, drawn: u8) -> Self {
        let drawn = drawn.min(Self::MAX);
        // Another thread may have changed the rarity since the request was chosen.
        Self(drawn << 4 | rarity.min(drawn))
    }
}

impl SampleTimer {
    /// Starts at the admission of a request of so many `units` under `threshold`, which goes on into the inner service. Its caller
    /// waits for `client_timeout`, if the request states it. `sampler` is that of the budget.
    #[cold]
    pub(crate) fn new(
        budget: &Budget,
        sampler: &Sampler,
        units: u32,
        threshold: Threshold,
        client_timeout: Option<Duration>,
    ) -> Self {
        let (admitted_at, rarity) = (sampler.now(), sampler.rarity());
        // Read before a window is closed, which may move the limit.
        let level = sampler.level.get(budget.count, admitted_at);
        sampler.close_if_due(budget, admitted_at);
        let drawn = drawn(budget.inner.counters.admitted_here());
        Self {
            admitted_at,
            rarity: Rarity::new(rarity, drawn),
            client_timeout: client_timeout.and_then(millis),
            // The level may be older than the request.
            in_flight: level.in_flight.max(units),
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
        sample.client_timeout = self
            .client_timeout
            .and_then(|millis| Duration::from_millis(millis.get().into()).checked_sub(waited))
            .filter(|left| CLIENT_TIMEOUTS.contains(left));
        let finished = Finished {
            sample,
            rarity: self.rarity.0 & Rarity::MAX,
            drawn: self.rarity.0 >> 4,
        };
        sampler.record(budget, finished, now);
    }
}

/// Returns whole milliseconds, 65,535 at most, or `None` for a timeout out of range.
fn millis(client_timeout: Duration) -> Option<NonZero<u16>> {
    if !CLIENT_TIMEOUTS.contains(&client_timeout) {
        return None;
    }
    NonZero::new(u16::try_from(client_timeout.as_millis()).unwrap_or(u16::MAX))
}
