//! The report of a run.

use crate::{phase_report::PhaseReport, scenario::scenario::Scenario};

/// The report of a run, phase by phase.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The reports of the phases, in the order of the scenario: all kinds together.
    pub phases: Vec<PhaseReport>,
    /// The same for each name of kinds, if there are several.
    by_name: Vec<Vec<PhaseReport>>,
    /// The index of each kind's reports in `by_name`.
    names: Vec<usize>,
}

impl Report {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let phases = || -> Vec<_> {
            let phases = scenario.phases.iter();
            phases
                .map(|phase| PhaseReport::new(scenario, phase))
                .collect()
        };
        let names = scenario.kind_names();
        let nth = |name: &str| names.iter().position(|other| *other == name).unwrap_or(0);
        Self {
            phases: phases(),
            by_name: match names.len() {
                1 => Vec::new(),
                several => (0..several).map(|_| phases()).collect(),
            },
            names: scenario.kinds.iter().map(|kind| nth(&kind.name)).collect(),
        }
    }

    /// Returns the first phase of this name.
    #[must_use]
    pub fn phase(&self, name: &str) -> Option<&PhaseReport> {
        self.phases.iter().find(|phase| phase.name == name)
    }

    /// Returns the reports of the phases for the kinds of one name, the `nth` of [`Scenario::kind_names`].
    #[must_use]
    pub fn of_kind(&self, nth: usize) -> &[PhaseReport] {
        self.by_name.get(nth).unwrap_or(&self.phases)
    }

    /// Records an event of a call in this phase.
    pub(crate) fn record(&mut self, phase: usize, kind: usize, event: impl Fn(&mut PhaseReport)) {
        event(&mut self.phases[phase]);
        if let Some(phases) = self.by_name.get_mut(self.names[kind]) {
            event(&mut phases[phase]);
        }
    }

    pub(crate) fn record_tick(&mut self, phase: usize, limit: usize, in_flight: usize) {
        self.phases[phase].record_tick(limit, in_flight);
        for phases in &mut self.by_name {
            phases[phase].record_tick(limit, in_flight);
        }
    }
}
