//! A judge of control laws: servers, callers and trouble in virtual time, with the real layer in the path.
//!
//! No stability is promised for what is here.

mod catalogue;
mod oracle;
mod random;
mod report;
mod run;
mod scenario;
mod station;

pub use self::{
    catalogue::{Length, Size, scenarios},
    oracle::Oracle,
    report::{PhaseReport, Report, Tick},
    run::Lab,
    scenario::{Callers, Load, Phase, Scenario, Server, Station, Times},
};
