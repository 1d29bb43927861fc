//! What a learned budget costs a request that it measures.
//!
//! At the rates of a benchmark it measures one in hundreds, at those of most servers all of them. This law never closes
//! its window, so the budget never learns that there are too many.

use std::{ops::RangeInclusive, time::Duration};

use loadshed::control::{Controller, Decision, Window};

/// Every request is measured, and this is the limit.
#[derive(Debug)]
pub(crate) struct Every(pub(crate) usize);

impl Controller for Every {
    fn limits(&self) -> RangeInclusive<usize> {
        1..=self.0
    }

    fn initial_limit(&self) -> usize {
        self.0
    }

    fn window(&self) -> Duration {
        Duration::from_secs(3_600)
    }

    fn update(&mut self, window: &Window<'_>) -> Decision {
        Decision::new(window.limit, "none")
    }
}
