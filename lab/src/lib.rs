//! A simulator for controllers of [`loadshed`]: servers, callers and faults in virtual time, with the real layer in the
//! path.
//!
//! A [`Scenario`] describes a server, its callers, and what happens to them. [`Lab`] runs one under one budget. [`Evaluator`]
//! runs many scenarios under several controllers, and compares each to the best fixed limit ([`Oracle`]). [`scenarios`]
//! is the catalogue that the default controller of the crate is held to.
//!
//! [`Aimd`], [`Vegas`] and [`Gradient2`] are published limit algorithms, for comparison. [`controls()`] are algorithms that
//! must fail: if one of them passes, the scenarios are too weak.
//!
//! ```
//! use std::time::Duration;
//! use loadshed::Budget;
//! use loadshed_lab::{Lab, Phase, Scenario, Server, Times};
//!
//! let server = Server::pool(4, Duration::from_millis(80), Times::Fixed);
//! let scenario = Scenario::new("overload", server).then(Phase::new("over", 20.0, 3.0));
//! let report = Lab::seed(1).run(&scenario, || Budget::fixed(8));
//! assert!(report.phases[0].goodput() > 45.0, "of the 50 requests a second that it can do");
//! ```
//!
//! The crate uses the public API of `loadshed` only, so a controller outside of `loadshed` is measured as its own ones are.
//! It enables the feature `test-util` of tokio, which makes the clock one that can be paused, and slower to read: use it in
//! tests and benches.
//!
//! No stability is promised for this crate.

mod algorithms;
mod allocation;
mod arrivals;
mod candidate;
mod catalogue;
mod controls;
mod criteria;
mod drawn_scenario;
mod evaluator;
mod instance;
mod options;
mod oracle;
mod random;
mod report;
mod row;
mod run;
mod scenario;
mod simulation;
mod station;
mod storm;
mod table;

pub use self::{
    algorithms::{Aimd, Gradient2, Vegas},
    allocation::{TenantLoad, TenantShares, UPLOADS, flood, uploads},
    candidate::Candidate,
    catalogue::{Length, Size, scenarios},
    controls::controls,
    criteria::Criterion,
    drawn_scenario::drawn_scenario,
    evaluator::Evaluator,
    options::{Lab, LayerOptions},
    oracle::{Oracle, OracleScore},
    report::{PhaseReport, Report, Tick},
    row::{PhaseMetrics, Row},
    scenario::{Callers, ClientMix, Load, Phase, RetryDelay, Scenario, Server, Station, Times},
    storm::{Storm, Wave},
};

#[cfg(test)]
mod tests;
