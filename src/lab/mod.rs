//! A judge of control laws: servers, callers and trouble in virtual time, with the real layer in the path.
//!
//! No stability is promised for what is here.

mod arrivals;
mod bars;
mod catalogue;
mod controls;
mod crowd;
mod drawn;
mod instance;
mod judge;
mod oracle;
mod random;
mod report;
mod row;
mod run;
mod scenario;
mod station;
mod storm;
mod world;

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
mod tests;
