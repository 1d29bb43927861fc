use std::time::Duration;

use crate::{support::clock::Now, threshold::criticality::Criticality};

/// The unit of a hint, by protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// HTTP.
    Seconds,
    /// gRPC, and work outside of tower.
    Milliseconds,
}

/// What has happened under a budget since it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) completed: usize,
    /// Admitted or refused.
    pub(crate) arrived: usize,
}

/// The refused request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal<'a> {
    /// Which it is, in a sequence in which each thread has a part of its own.
    pub(crate) nth: u64,
    pub(crate) class: Criticality,
    pub(crate) unit: Unit,
    /// What it costs.
    pub(crate) units: u32,
    pub(crate) in_flight: u32,
    pub(crate) now: &'a Now,
}

impl Unit {
    /// HTTP cannot say less than a second. Elsewhere, as long as a call takes to go there and back.
    pub(crate) const fn least(self) -> Duration {
        match self {
            Self::Seconds => Duration::from_secs(1),
            Self::Milliseconds => Duration::from_millis(10),
        }
    }
}
