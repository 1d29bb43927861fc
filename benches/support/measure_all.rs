//! A learned budget that measures every request, for the cost of a measured request.
//!
//! At the request rates of a benchmark, a budget measures one request in hundreds; at those of most servers, all. This
//! controller's window never closes in a run, so the budget never reduces the share of measured requests.

use std::{ops::RangeInclusive, time::Duration};

use loadshed::control::{Controller, Decision, Window};

/// A controller with this constant limit, under which every request is measured.
#[derive(Debug)]
pub(crate) struct MeasureAll(pub(crate) usize);

impl Controller for MeasureAll {
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
