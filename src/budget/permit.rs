use std::fmt;

use super::{
    budget::Budget,
    sample_timer::{SampleTimer, Watch},
};
use crate::{
    admission::{claim::Claim, held::CountPermit},
    control::controller::Outcome,
    retry_after::retry_after::{RetryAfter, Unit},
    shed::Shed,
    threshold::{criticality::Criticality, threshold::Threshold},
};

/// One request's place in a [`Budget`], given back when it is dropped.
///
/// Under a learned budget the time from admission to the drop is taken as the latency of a success, unless the
/// thread is panicking. [`responded`](Self::responded) ends that time and keeps the place;
/// [`discard`](Self::discard) gives the place back without teaching the budget anything.
#[must_use = "a permit that is dropped at once holds no place"]
pub struct Permit {
    permit: CountPermit,
    /// Only in a learned budget, and only for the requests that it measures.
    measured: Option<Measured>,
}

struct Measured {
    /// `None` once it was answered.
    timer: Option<SampleTimer>,
    watch: Watch<Budget>,
}

impl Budget {
    /// Takes a place for work that no layer sees: a message from a queue, an upgraded connection.
    ///
    /// The place is held until the permit is dropped. It is one of its own, also within a request that holds one.
    ///
    /// ```
    /// # use loadshed::{Budget, Threshold};
    /// # let budget = Budget::adaptive();
    /// # fn work() {}
    /// # fn retry_in(_: std::time::Duration) {}
    /// match budget.try_acquire(Threshold::ratio(0.85)) {
    ///     Ok(permit) => {
    ///         work();
    ///         drop(permit);
    ///     }
    ///     Err(shed) => retry_in(shed.retry_after()),
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// If there is no room under `threshold`, or what there is is for requests that [wait](crate::LoadShed::wait).
    pub fn try_acquire(&self, threshold: Threshold) -> Result<Permit, Shed> {
        self.try_acquire_many(1, threshold)
    }

    /// [`try_acquire`](Self::try_acquire) for work that costs `units` of the budget. 0 counts as 1. Work that is dearer than
    /// all that it may use is admitted when nothing else is in flight, and then counts as that.
    ///
    /// # Errors
    ///
    /// If there is no room for so many under `threshold`.
    pub fn try_acquire_many(&self, units: usize, threshold: Threshold) -> Result<Permit, Shed> {
        let mut claim = Claim::of(threshold, units);
        if threshold.is_exempt() {
            self.inner.counters.exempt.add(claim.units);
            return Ok(Permit::new(CountPermit::default()));
        }
        if claim.units > 1 {
            claim = self.bound(claim);
        }
        let permit = match self.acquire(&claim) {
            Ok(permit) => permit,
            Err(refused) => {
                let (hint, unit) = (&RetryAfter::adaptive(), Unit::Milliseconds);
                let counted = self.refused(&refused);
                return Err(counted.shed(hint, unit, Criticality::default()));
            }
        };
        if !self.measures(&permit) {
            return Ok(Permit::new(permit));
        }
        let timer = SampleTimer::new(self, threshold);
        Ok(Permit::measured(permit, self, timer))
    }
}

impl Permit {
    pub(crate) fn new(permit: CountPermit) -> Self {
        let measured = None;
        Self { permit, measured }
    }

    pub(crate) fn measured(permit: CountPermit, budget: &Budget, timer: SampleTimer) -> Self {
        let measured = Some(Measured {
            timer: Some(timer),
            watch: Watch::begin(budget.clone(), permit.units()),
        });
        Self { permit, measured }
    }

    /// The work is done, and the place is kept: by a socket that stays open, a result that is still being sent.
    ///
    /// A learned budget takes the time from admission to here as the latency, and the place as one that nobody waits
    /// for. A fixed one counts it as before.
    pub fn responded(&mut self) {
        if let Some(Measured { timer, watch }) = &mut self.measured {
            watch.respond();
            if let Some(timer) = timer.take() {
                timer.finish(watch.budget(), outcome());
            }
        }
    }

    /// Gives the place back and takes no sample: for work that was cut short, whose latency says nothing.
    pub fn discard(mut self) {
        self.measured = None;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // The place first: a sample may close a window, which takes longer.
        drop(std::mem::take(&mut self.permit));
        if let Some(Measured {
            timer: Some(timer),
            watch,
        }) = self.measured.take()
        {
            timer.finish(watch.budget(), outcome());
        }
    }
}

fn outcome() -> Outcome {
    if std::thread::panicking() {
        Outcome::Ignored
    } else {
        Outcome::Success
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
