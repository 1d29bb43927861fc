//! A scenario.

use loadshed::{Measure, RetryAfter};

use super::{
    callers::ClientMix,
    kind::Kind,
    phase::Phase,
    server::{Server, Station},
};

/// Kinds of work, and the phases of their load.
///
/// All fields are public: start from [`Scenario::new`] and change the fields that differ.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The name, for tables and charts.
    pub name: String,
    /// The kinds of work, at least one.
    pub kinds: Vec<Kind>,
    /// The retry hints of refusals.
    pub retry_after: RetryAfter,
    /// Up to where the latency is measured.
    pub measure: Measure,
    /// The tenants among the callers, and the cost of their calls.
    pub client_mix: ClientMix,
    /// The number of servers that share the load, round robin. Each has its own budget.
    pub instances: usize,
    /// The initial limits, with a run for each; `usize::MAX` is the largest limit of the candidate. If empty, one run with the
    /// candidate's default.
    pub initial_limits: Vec<usize>,
    /// The phases, in order.
    pub phases: Vec<Phase>,
}

/// The kinds whose calls share workers: a bottleneck.
#[derive(Clone, Debug)]
pub(crate) struct Bottleneck {
    /// The kinds by their numbers, the one with the workers first.
    pub(crate) kinds: Vec<usize>,
}

impl Scenario {
    /// Creates a scenario with one kind of work on this server, and without phases.
    #[must_use]
    pub fn new(name: impl Into<String>, server: Server) -> Self {
        Self::of(name, [Kind::new("calls", server)])
    }

    /// Creates a scenario with these kinds of work, and without phases.
    #[must_use]
    pub fn of(name: impl Into<String>, kinds: impl IntoIterator<Item = Kind>) -> Self {
        Self {
            name: name.into(),
            kinds: kinds.into_iter().collect(),
            retry_after: RetryAfter::default(),
            measure: Measure::default(),
            client_mix: ClientMix::default(),
            instances: 1,
            initial_limits: Vec::new(),
            phases: Vec::new(),
        }
    }

    /// Adds a phase at the end.
    #[must_use]
    pub fn then(mut self, phase: Phase) -> Self {
        self.phases.push(phase);
        self
    }

    /// Returns the server of the first kind: the only one where there is one kind.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.kinds[0].server
    }

    /// Returns the names of the kinds, each once, in the order of their first kinds.
    #[must_use]
    pub fn kind_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for kind in &self.kinds {
            if !names.contains(&kind.name.as_str()) {
                names.push(&kind.name);
            }
        }
        names
    }

    /// Returns the bottlenecks: the kinds of each, in the order of their first kinds. A kind that needs no worker is one of its
    /// own.
    pub(crate) fn bottlenecks(&self) -> Vec<Bottleneck> {
        let own = |(nth, kind): (usize, &Kind)| kind.shares.is_none().then_some(nth);
        let owners = self.kinds.iter().enumerate().filter_map(own);
        let shared = |owner| {
            let others = (0..self.kinds.len()).filter(move |&nth| self.owner(nth) == owner);
            Bottleneck {
                kinds: others.collect(),
            }
        };
        owners.map(shared).collect()
    }

    /// Returns the number of the kind whose workers serve this kind.
    pub(crate) fn owner(&self, kind: usize) -> usize {
        self.kinds[kind].shares.unwrap_or(kind)
    }

    /// Returns whether calls of this kind need a worker.
    pub(crate) fn is_queued(&self, kind: usize) -> bool {
        self.kinds[self.owner(kind)].server.station != Station::None
    }

    /// Returns whether this kind is part of the evaluation in some phase.
    pub(crate) fn is_scored(&self, kind: usize) -> bool {
        let mut phases = self.phases.iter();
        phases.any(|phase| phase.scored && phase.kind(kind).scored)
    }

    /// Returns the number of workers of this kind's bottleneck in a phase.
    pub(crate) fn workers(&self, kind: usize, phase: &Phase) -> usize {
        let owner = self.owner(kind);
        let workers = self.kinds[owner].server.workers as f64 * phase.kind(owner).workers;
        (workers.round() as usize).max(1)
    }

    /// Returns the approximate number of calls.
    pub(crate) fn calls(&self) -> f64 {
        let of_phase = |phase: &Phase| {
            let kinds = self.kinds.iter().enumerate();
            let rate = kinds.map(|(nth, kind)| kind.unit * phase.kind(nth).peak());
            phase.length.as_secs_f64() * rate.sum::<f64>()
        };
        self.phases.iter().map(of_phase).sum::<f64>() * self.instances as f64
    }
}
