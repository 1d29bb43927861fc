//! One phase of a scenario.

use std::time::Duration;

use super::load::Load;
use crate::criterion::Criterion;

/// One phase of a scenario.
#[derive(Clone, Debug)]
pub struct Phase {
    /// The name, for tables and charts.
    pub name: String,
    /// The duration.
    pub length: Duration,
    /// The conditions of each kind, in the order of the kinds. A kind without any sends no calls.
    pub kinds: Vec<Conditions>,
    /// Whether the phase is part of the evaluation. By default true.
    pub scored: bool,
}

/// The load and the faults of one kind in one phase.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// The load of SHEDDABLE calls.
    pub load: Load,
    /// The load of CRITICAL calls, in addition, in the same units. Their threshold lies two thirds of the way from the ratio
    /// to the full limit; that of the other calls is the ratio.
    pub critical: f64,
    /// The share of the workers that is available. By default 1. Kinds that share workers have that of the first of them.
    pub workers: f64,
    /// Recurring disturbances of the workers, by default none. Kinds that share workers have those of the first of them.
    pub disturbance: Option<Disturbance>,
    /// The factor on the service time at the beginning and at the end of the phase; linear in between. By default 1.
    pub service: (f64, f64),
    /// The factor on the dependency's response time, in the same way. By default 1.
    pub slowdown: (f64, f64),
    /// The share of calls that hang in the dependency until the caller times out. By default 0.
    pub hanging: f64,
    /// The share of calls that [fail](super::kind::Failure). By default 0.
    pub failing: f64,
    /// The share of long calls, where times are bimodal. By default 0.
    pub long: f64,
    /// The pass criterion, in place of that of the scenario's name.
    pub criterion: Option<Criterion>,
    /// Whether the kind is part of the evaluation in this phase. By default true.
    pub scored: bool,
}

/// A disturbance of the workers at regular intervals, the first of them half an interval into the phase.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disturbance {
    /// The duration of each.
    pub lasts: Duration,
    /// The time from the beginning of one to that of the next.
    pub every: Duration,
    /// The share of the workers that is available meanwhile. At 0 everything stops, calls in service included, as in a pause
    /// of a garbage collector.
    pub workers: f64,
}

impl Phase {
    /// Creates a phase of a scenario with one kind: of this duration, in seconds, and at this load, in units of the capacity,
    /// without faults.
    #[must_use]
    pub fn new(name: impl Into<String>, seconds: f64, load: f64) -> Self {
        Self::of(name, seconds, [Conditions::at(load)])
    }

    /// Creates a phase of this duration, in seconds, with these conditions of the kinds.
    #[must_use]
    pub fn of(
        name: impl Into<String>,
        seconds: f64,
        kinds: impl IntoIterator<Item = Conditions>,
    ) -> Self {
        Self {
            name: name.into(),
            length: Duration::from_secs_f64(seconds),
            kinds: kinds.into_iter().collect(),
            scored: true,
        }
    }

    /// Excludes the phase from the evaluation.
    #[must_use]
    pub fn unscored(mut self) -> Self {
        self.scored = false;
        self
    }

    /// Returns the conditions of this kind.
    #[must_use]
    pub fn kind(&self, nth: usize) -> Conditions {
        self.kinds.get(nth).copied().unwrap_or_default()
    }
}

impl Conditions {
    /// Creates conditions at this load, without faults.
    #[must_use]
    pub fn at(load: f64) -> Self {
        Self::under(Load::Steady(load))
    }

    /// Creates conditions under this load, without faults.
    #[must_use]
    pub fn under(load: Load) -> Self {
        Self {
            load,
            critical: 0.0,
            workers: 1.0,
            disturbance: None,
            service: (1.0, 1.0),
            slowdown: (1.0, 1.0),
            hanging: 0.0,
            failing: 0.0,
            long: 0.0,
            criterion: None,
            scored: true,
        }
    }

    /// Returns the highest rate of calls of both classes, in units of the kind.
    pub(crate) fn peak(&self) -> f64 {
        self.load.peak() + self.critical
    }

    /// Sets the pass criterion.
    #[must_use]
    pub fn must(self, criterion: Criterion) -> Self {
        Self {
            criterion: Some(criterion),
            ..self
        }
    }

    /// Excludes the kind from the evaluation in this phase.
    #[must_use]
    pub fn unscored(self) -> Self {
        Self {
            scored: false,
            ..self
        }
    }
}

impl Default for Conditions {
    /// Creates conditions without calls.
    fn default() -> Self {
        Self::at(0.0).unscored()
    }
}
