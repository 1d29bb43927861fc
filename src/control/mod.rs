//! Controllers: they decide from finished requests how many may be in flight.
//!
//! A controller is a pure state machine. The budget shows it a [`Window`] of finished requests, and the controller returns
//! the limit and the reason for it. A controller reads no clock, takes no lock, counts nothing and logs nothing: the budget
//! does that around it. So a controller can be tested with numbers alone.
//!
//! ```
//! use std::ops::RangeInclusive;
//! use loadshed::{Budget, control::{Controller, Decision, Outcome, Window}};
//!
//! /// Halves the limit on any overload response, and raises it by 1 while requests are refused.
//! #[derive(Debug)]
//! struct Cautious;
//!
//! impl Controller for Cautious {
//!     fn limits(&self) -> RangeInclusive<usize> {
//!         4..=1_000
//!     }
//!
//!     fn initial_limit(&self) -> usize {
//!         100
//!     }
//!
//!     fn update(&mut self, window: &Window<'_>) -> Decision {
//!         if window.samples.iter().any(|sample| sample.outcome == Outcome::Overload) {
//!             return Decision::new(window.limit / 2, "overload");
//!         }
//!         if window.refused > 0 {
//!             return Decision::new(window.limit + 1, "headroom");
//!         }
//!         Decision::new(window.limit, "within target")
//!     }
//! }
//!
//! let budget = Budget::new(Cautious);
//! assert_eq!(budget.limit(), 100);
//! ```

pub(crate) mod adaptive;
pub(crate) mod average;
pub(crate) mod controller;
pub(crate) mod latency_target;
pub(crate) mod overtaking;
pub(crate) mod range;
pub(crate) mod reason;

pub use self::{
    adaptive::adaptive::Adaptive,
    controller::{Controller, Decision, Learned, Outcome, Sample, Window},
    latency_target::latency_target::LatencyTarget,
};
