//! A judge of control laws: servers, callers and trouble in virtual time, with the real layer in the path.
//!
//! No stability is promised for what is here.

pub(crate) mod arrivals;
pub(crate) mod bars;
pub(crate) mod catalogue;
pub(crate) mod controls;
pub(crate) mod crowd;
pub(crate) mod drawn;
pub(crate) mod instance;
pub(crate) mod judge;
pub(crate) mod oracle;
pub(crate) mod random;
pub(crate) mod report;
pub(crate) mod row;
pub(crate) mod run;
pub(crate) mod scenario;
pub(crate) mod station;
pub(crate) mod storm;
pub(crate) mod world;

pub use self::{
    bars::Bar,
    catalogue::{Length, Size, scenarios},
    controls::controls,
    crowd::{Crowd, Got, UPLOADS, flood, uploads},
    drawn::drawn,
    judge::{Judge, Law},
    oracle::{Oracle, Par},
    report::{PhaseReport, Report, Tick},
    row::{Figures, Row},
    run::{By, Lab},
    scenario::{Callers, Load, Mix, Phase, Scenario, Server, Station, Times, Waits},
    storm::{Storm, Wave},
};

#[cfg(test)]
pub(crate) mod tests;
