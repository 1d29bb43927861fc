use crate::{support::clock::Now, threshold::criticality::Criticality};

/// The unit of a hint, by protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// HTTP.
    Seconds,
    /// gRPC, and work outside of tower.
    Milliseconds,
}

/// The events under a budget since its creation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) completed: usize,
    /// Admitted or refused.
    pub(crate) arrived: usize,
}

/// The refused request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal<'a> {
    /// The number of the refusal, in a sequence of which each thread has its own section.
    pub(crate) nth: u64,
    pub(crate) class: Criticality,
    pub(crate) unit: Unit,
    /// The cost of the request.
    pub(crate) units: u32,
    pub(crate) in_flight: u32,
    pub(crate) now: &'a Now,
}

impl Unit {
    /// Returns the shortest hint in nanoseconds: a second over HTTP, otherwise about the round-trip time of a call.
    pub(crate) const fn least(self) -> u64 {
        match self {
            Self::Seconds => 1_000_000_000,
            Self::Milliseconds => 10_000_000,
        }
    }
}
