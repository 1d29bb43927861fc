//! A simulator for limit algorithms of [`loadshed`]: servers, callers and faults in virtual time, with the real layer in
//! the path of each call.
//!
//! A [`Scenario`] describes a server, its callers and its load over time. [`Lab`] runs one scenario under one budget.
//! [`Evaluator`] runs many scenarios under several [`Candidate`]s, and compares each candidate to the best fixed limit
//! ([`Oracle`]). [`scenarios`] returns the catalogue that the default controller of `loadshed` is tested against: one kind of
//! work on one server. [`mixtures()`] have several [`Kind`]s of work under one budget, [`spikes()`] a second of ten times the capacity,
//! and [`drawn_faults`] a server, its load, its faults and its kinds drawn at random.
//!
//! [`Aimd`], [`Vegas`] and [`Gradient2`] are published limit algorithms, for comparison. [`controls()`] returns candidates
//! that must fail: a control that passes shows that the scenarios are too weak.
//!
//! ```
//! use std::time::Duration;
//! use loadshed::Budget;
//! use loadshed_lab::{Lab, Phase, Scenario, Server, Times};
//!
//! let server = Server::pool(4, Duration::from_millis(80), Times::Fixed);
//! let scenario = Scenario::new("overload", server).then(Phase::new("over", 20.0, 3.0));
//! let report = Lab::seed(1).run(&scenario, || Budget::fixed(8));
//! assert!(report.phases[0].goodput() > 45.0, "the capacity is 50 requests a second");
//! ```
//!
//! A kind has a server of its own, or shares that of another one. The oracle of a kind is what it would get if its own bottleneck
//! had the best limit, whatever the other kinds do:
//!
//! ```
//! use std::time::Duration;
//! use loadshed::Budget;
//! use loadshed_lab::{Conditions, Kind, Lab, Oracle, Phase, Scenario, Server, Times};
//!
//! let millis = Duration::from_millis;
//! let job = Kind::new("job", Server::pool(4, millis(20), Times::Exponential)).at("/job");
//! let poll = Kind::unqueued("poll", Server::dependency(millis(25_000), Times::Exponential))
//!     .at("/poll")
//!     .timeout(millis(60_000));
//! let scenario = Scenario::of("beside polls", [job, poll])
//!     .then(Phase::of("all", 30.0, [Conditions::at(3.0), Conditions::at(2.0)]));
//! let report = Lab::seed(1).run(&scenario, || Budget::fixed(30));
//! let [job, poll] = [0, 1].map(|nth| &report.of_kind(nth)[0]);
//! assert!(job.good as f64 > 0.9 * Oracle::of(&scenario, 1).scores[0][0].good);
//! assert!(poll.refused * 2 > poll.offered, "the limit is for the polls, too");
//! ```
//!
//! The crate uses the public API of `loadshed` only, so it measures any controller in the same way as the controllers of `loadshed`.
//! It enables tokio's feature `test-util`: the clock can be paused, and is slower to read. Use the crate in tests and
//! benches.
//!
//! The crate promises no API stability.

mod algorithms;
mod allocation;
mod arrivals;
mod bound;
mod call_hasher;
mod candidate;
mod catalogue;
mod cell;
mod controls;
mod criteria;
mod criterion;
mod disturbances;
mod drawn;
mod evaluator;
mod events;
mod handler;
mod instance;
mod mixtures;
mod options;
mod oracle;
mod phase_report;
mod random;
mod report;
mod row;
mod run;
mod scenario;
mod sender;
mod simulation;
mod size;
mod spikes;
mod station;
mod storm;
mod table;

pub use self::{
    algorithms::{Aimd, Gradient2, Vegas},
    allocation::{TenantLoad, TenantShares, UPLOADS, flood, uploads},
    candidate::Candidate,
    catalogue::scenarios,
    controls::controls,
    criterion::Criterion,
    drawn::{
        overload::drawn_scenario,
        promises::{broken_promises, is_refused_in_vain},
        scenario::drawn_faults,
    },
    evaluator::Evaluator,
    mixtures::mixtures::{mixture_cases, mixtures},
    options::{Lab, LayerOptions},
    oracle::{Oracle, OracleScore},
    phase_report::{PhaseReport, Tick},
    report::Report,
    row::{PhaseMetrics, Row},
    scenario::{
        callers::{Callers, ClientMix, RetryDelay},
        kind::{Answer, Counted, Failure, Kind},
        load::Load,
        phase::{Conditions, Disturbance, Phase},
        scenario::Scenario,
        server::{Server, Station, Times},
    },
    size::{Length, Size},
    spikes::spikes,
    storm::{Storm, Wave},
};

#[cfg(test)]
mod tests;
