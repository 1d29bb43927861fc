use std::fmt;

use super::{Count, sampler::Probe};
use crate::control::Outcome;

/// One request's place in a [`Budget`](super::Budget), given back when it is dropped.
///
/// Under a learned budget the time from admission to the drop is taken as the latency of a success, unless the
/// thread is panicking. [`discard`](Self::discard) gives the place back without teaching the budget anything.
#[must_use = "a permit that is dropped at once holds no place"]
pub struct Permit {
    /// `None` holds no place: exempt, or withdrawn.
    count: Option<&'static Count>,
    /// Only in a learned budget, and only for the requests that it measures.
    probe: Option<Probe>,
}

impl Permit {
    pub(super) fn new(count: &'static Count, probe: Option<Probe>) -> Self {
        Self {
            count: Some(count),
            probe,
        }
    }

    /// For what is exempt.
    pub(super) fn uncounted() -> Self {
        Self {
            count: None,
            probe: None,
        }
    }

    pub(super) fn is_of(&self, count: &'static Count) -> bool {
        self.count.is_some_and(|own| std::ptr::eq(own, count))
    }

    /// The count has taken this one out by itself.
    pub(super) fn withdrawn(mut self) {
        self.count = None;
        self.probe = None;
    }

    /// Ends the measurement. The place stays taken.
    pub(crate) fn measured(&mut self, outcome: Outcome) {
        if let Some(probe) = self.probe.take() {
            probe.finish(outcome);
        }
    }

    /// Gives the place back and takes no sample: for work that was cut short, whose latency says nothing.
    pub fn discard(mut self) {
        self.probe = None;
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        // The place first: what follows may close a window and take a while.
        if let Some(count) = self.count {
            count.release();
        }
        if let Some(probe) = self.probe.take() {
            probe.dropped();
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("counted", &self.count.is_some())
            .field("measured", &self.probe.is_some())
            .finish()
    }
}
