use std::fmt;

use super::{Budget, held::Place, sampler::Probe};
use crate::control::Outcome;

/// One request's place in a [`Budget`], given back when it is dropped.
///
/// Under a learned budget the time from admission to the drop is taken as the latency of a success, unless the
/// thread is panicking. [`discard`](Self::discard) gives the place back without teaching the budget anything.
#[must_use = "a permit that is dropped at once holds no place"]
pub struct Permit {
    place: Place,
    /// Only in a learned budget, and only for the requests that it measures.
    probe: Option<(Budget, Probe)>,
}

impl Permit {
    pub(super) fn new(place: Place, probe: Option<(Budget, Probe)>) -> Self {
        Self { place, probe }
    }

    /// Gives the place back and takes no sample: for work that was cut short, whose latency says nothing.
    pub fn discard(mut self) {
        self.probe = None;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((budget, probe)) = self.probe.take() {
            let outcome = if std::thread::panicking() {
                Outcome::Ignored
            } else {
                Outcome::Success
            };
            // The place first: a sample may close a window, which takes longer.
            drop(std::mem::take(&mut self.place));
            probe.finish(&budget, outcome);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("counted", &self.place.is_some())
            .field("measured", &self.probe.is_some())
            .finish()
    }
}
