use std::fmt;

use super::{budget::Budget, sample_timer::SampleTimer};
use crate::{
    admission::{claim::Claim, measured_units::Weight, permit::CountPermit, sampler::Sampler},
    control::controller::Outcome,
    retry_after::{refusal::Unit, retry_after::RetryAfter},
    shed::Shed,
    threshold::{criticality::Criticality, threshold::Threshold},
};

/// The units of one request in a [`Budget`], released when the permit is dropped.
///
/// A learned budget learns from permits that end with an outcome: [`succeeded`](Self::succeeded) or [`failed`](Self::failed).
/// The time from admission to that call is the latency. A permit that is only dropped counts as cancelled, as the work may have
/// been cut short. [`responded`](Self::responded) ends the time as a success and keeps the permit. [`discard`](Self::discard)
/// takes no sample at all. In a fixed budget all of these only release the permit.
#[must_use = "a permit that is dropped at once holds no units"]
pub struct Permit {
    permit: CountPermit,
    /// `None` in a fixed budget, and for requests that are not measured.
    measured: Option<Measured>,
}

struct Measured {
    /// `None` once the request has responded.
    timer: Option<SampleTimer>,
    weight: Weight,
    budget: Budget,
}

impl Measured {
    fn change_weight(&mut self, change: impl FnOnce(&mut Weight, &Sampler)) {
        if let Some(sampler) = self.budget.sampler() {
            change(&mut self.weight, sampler);
        }
    }

    /// Ends the measured time, if it has not ended yet.
    fn finish(&mut self, outcome: Outcome) {
        if let Some(timer) = self.timer.take() {
            timer.finish(&self.budget, outcome);
        }
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.change_weight(|weight, sampler| weight.count(sampler, 0));
    }
}

impl Budget {
    /// Acquires a permit of 1 unit for work that passes no layer: a message from a queue, a scheduled job.
    ///
    /// The unit is in flight until the permit is dropped. It is counted separately from a request that holds a permit already.
    ///
    /// ```
    /// # use loadshed::{Budget, Threshold};
    /// # let budget = Budget::adaptive();
    /// # fn work() {}
    /// # fn retry_in(_: std::time::Duration) {}
    /// match budget.try_acquire(Threshold::ratio(0.85)) {
    ///     Ok(permit) => {
    ///         work();
    ///         permit.succeeded();
    ///     }
    ///     Err(shed) => retry_in(shed.retry_after()),
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// If 1 more unit does not fit under `threshold`, or a [queued request](crate::LoadShed::wait) has priority,
    /// or the budget [drains](Self::begin_drain) and its grace has passed.
    pub fn try_acquire(&self, threshold: Threshold) -> Result<Permit, Shed> {
        self.try_acquire_many(1, threshold)
    }

    /// Acquires a permit of `units`, for work that costs more than 1 unit of the budget. 0 counts as 1.
    ///
    /// Work that costs more units than `threshold` allows counts as that many. It is admitted when nothing else is in flight.
    ///
    /// # Errors
    ///
    /// If the units do not fit under `threshold`, or a [queued request](crate::LoadShed::wait) has priority,
    /// or the budget [drains](Self::begin_drain) and its grace has passed.
    pub fn try_acquire_many(&self, units: usize, threshold: Threshold) -> Result<Permit, Shed> {
        let mut claim = Claim::of(threshold, units);
        if threshold.is_exempt() {
            self.inner.counters.exempt.add(claim.units);
            return Ok(Permit {
                permit: CountPermit::EMPTY,
                measured: None,
            });
        }
        if claim.units > 1 {
            claim = self.bound(claim);
        }
        let permit = match self.acquire(&claim) {
            Ok(permit) => permit,
            Err(refused) => {
                let (hint, unit) = (&RetryAfter::adaptive(), Unit::Milliseconds);
                let counted = self.refused(&refused);
                counted.end_slow_uploads(threshold);
                return Err(counted.shed(hint, unit, Criticality::default()));
            }
        };
        let sampler = self.sampler().filter(|_| self.measures(&permit));
        let measured = sampler.map(|sampler| Measured {
            timer: Some(SampleTimer::new(
                self,
                sampler,
                permit.units(),
                threshold,
                None,
            )),
            weight: Weight::begin(sampler, permit.units()),
            budget: self.clone(),
        });
        Ok(Permit { permit, measured })
    }
}

impl Permit {
    /// Releases the permit of work that is complete.
    pub fn succeeded(mut self) {
        self.end(Outcome::Success);
    }

    /// Releases the permit of work that failed in a way that reports overload: a timeout, a back end that is full. Use
    /// [`discard`](Self::discard) for a failure that says nothing about load.
    pub fn failed(mut self) {
        self.end(Outcome::Overload);
    }

    /// Releases the permit and takes no sample: for work whose latency says nothing.
    pub fn discard(mut self) {
        self.measured = None;
    }

    /// Ends the measured time as a success and keeps the permit: for a socket that stays open, or a result that is still being
    /// sent.
    ///
    /// A learned budget takes the time from admission to this call as the latency, and counts the work as complete. In any
    /// budget the units stay in flight until the permit is dropped.
    pub fn responded(&mut self) {
        if let Some(measured) = &mut self.measured {
            measured.change_weight(Weight::respond);
            measured.finish(Outcome::Success);
        }
    }

    fn end(&mut self, outcome: Outcome) {
        // The permit first: a sample may close a window, which takes longer.
        self.permit = CountPermit::EMPTY;
        if let Some(mut measured) = self.measured.take() {
            // Before the sample: the window that it may close is of the requests that are still in flight.
            measured.change_weight(|weight, sampler| weight.count(sampler, 0));
            measured.finish(outcome);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.end(match std::thread::panicking() {
            true => Outcome::Ignored,
            false => Outcome::Cancelled,
        });
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("counted", &self.permit.is_some())
            .field("measured", &self.measured.is_some())
            .finish()
    }
}
