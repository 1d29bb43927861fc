//! One scenario, one candidate, one seed.

use loadshed::Budget;
use tokio::runtime::Runtime;

use crate::{
    arrivals::Arrivals,
    options::Lab,
    report::Report,
    scenario::Scenario,
    simulation::{RunUntil, Simulation},
};

impl Lab {
    /// Runs it from the beginning to the end, with a budget from `budget` for each instance.
    ///
    /// # Panics
    ///
    /// Within a tokio runtime: time is virtual here, and of its own.
    #[must_use]
    pub fn run(self, scenario: &Scenario, mut budget: impl FnMut() -> Budget) -> Report {
        let runtime = virtual_time();
        let _guard = runtime.enter();
        let mut simulation = Simulation::new(self, scenario, &mut budget);
        simulation.run(Arrivals::new(scenario, self.seed), RunUntil::EndOfScenario);
        simulation.report
    }

    /// Runs it under each of these limits, with the same calls for all of them at the same time.
    pub(crate) fn run_fixed(self, scenario: &Scenario, limits: &[usize]) -> Vec<Report> {
        let simulation = |limit: &usize| {
            let runtime = virtual_time();
            let guard = runtime.enter();
            let simulation = Simulation::new(self, scenario, &mut || Budget::fixed(*limit));
            drop(guard);
            (simulation, runtime)
        };
        let mut simulations: Vec<_> = limits.iter().map(simulation).collect();
        let mut arrivals = Arrivals::new(scenario, self.seed);
        let mut some = Vec::new();
        loop {
            some.clear();
            some.extend(arrivals.by_ref().take(CALLS_AT_ONCE));
            let until = match some.is_empty() {
                true => RunUntil::EndOfScenario,
                false => RunUntil::LastArrival,
            };
            for (simulation, runtime) in &mut simulations {
                let _guard = runtime.enter();
                simulation.run(some.iter().copied(), until);
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

/// A runtime whose clock stands still until it is moved.
fn virtual_time() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without a driver can always be built")
}

/// As many as fit in a core's cache.
const CALLS_AT_ONCE: usize = 2_048;
