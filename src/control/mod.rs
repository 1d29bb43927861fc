//! Control laws: from what requests did to how many may be in flight.
//!
//! A law is a pure state machine. It is shown a [`Window`] of finished requests and says what the limit should be and
//! why. It reads no clock, takes no lock, counts nothing and logs nothing: the budget does that around it. So a law can
//! be tested with numbers alone.
//!
//! ```
//! use std::ops::RangeInclusive;
//! use loadshed::{Budget, control::{Controller, Decision, Outcome, Window}};
//!
//! /// Halves on any sign of overload, takes one step up while somebody is refused.
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
pub(crate) mod controller;
pub(crate) mod latency_target;
pub(crate) mod range;

pub use self::{
    adaptive::adaptive::Adaptive,
    controller::{Controller, Decision, Outcome, Sample, Window},
    latency_target::latency_target::LatencyTarget,
};
