use std::fmt;

use super::{
    budget::Budget,
    sample_timer::{SampleTimer, Watch},
};
use crate::{admission::held::CountPermit, control::controller::Outcome};

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
