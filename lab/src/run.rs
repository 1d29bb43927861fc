//! Runs one scenario under one budget, or under several fixed limits, on one seed.

use loadshed::Budget;
use tokio::runtime::Runtime;

use crate::{
    arrivals::Arrivals,
    options::Lab,
    report::Report,
    scenario::scenario::Scenario,
    simulation::{RunUntil, Simulation},
};

impl Lab {
    /// Runs the scenario, with a budget from `budget` for each instance.
    ///
    /// # Panics
    ///
    /// Panics within a tokio runtime, because each run has its own virtual time.
    #[must_use]
    pub fn run(self, scenario: &Scenario, mut budget: impl FnMut() -> Budget) -> Report {
        let runtime = virtual_time();
        let _guard = runtime.enter();
        let mut simulation = Simulation::new(self, scenario, &mut budget);
        simulation.run(Arrivals::new(scenario, self.seed), RunUntil::EndOfScenario);
        simulation.report
    }

    /// Runs these kinds of the scenario under each of these limits, with the same calls. The calls are drawn once for all
    /// limits.
    pub(crate) fn run_fixed(
        self,
        scenario: &Scenario,
        kinds: &[usize],
        limits: &[usize],
    ) -> Vec<Report> {
        let simulation = |limit: &usize| {
            let runtime = virtual_time();
            let guard = runtime.enter();
            let simulation = Simulation::new(self, scenario, &mut || Budget::fixed(*limit));
            drop(guard);
            (simulation, runtime)
        };
        let mut simulations: Vec<_> = limits.iter().map(simulation).collect();
        let mut arrivals = Arrivals::of(scenario, self.seed, kinds.iter().copied());
        let mut calls = Vec::new();
        loop {
            calls.clear();
            calls.extend(arrivals.by_ref().take(CALLS_AT_ONCE));
            let until = match calls.is_empty() {
                true => RunUntil::EndOfScenario,
                false => RunUntil::LastArrival,
            };
            for (simulation, runtime) in &mut simulations {
                let _guard = runtime.enter();
                simulation.run(calls.iter().copied(), until);
            }
            if until == RunUntil::EndOfScenario {
                return simulations
                    .into_iter()
                    .map(|(simulation, _)| simulation.report)
                    .collect();
            }
        }
    }
}

/// Returns a runtime whose clock is paused: only the simulation advances it.
fn virtual_time() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without a driver can always be built")
}

/// The number of calls drawn at once: few enough for the cache of a core.
const CALLS_AT_ONCE: usize = 2_048;
