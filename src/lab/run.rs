//! One scenario, one law, one seed.

use tokio::runtime::Runtime;

use super::{
    arrivals::Arrivals,
    report::Report,
    scenario::Scenario,
    world::{Then, World},
};
use crate::budget::budget::Budget;

/// How a scenario is run.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Lab {
    pub(crate) seed: u64,
    pub(crate) ratio: f64,
    pub(crate) through: Through,
    pub(crate) by: By,
}

/// What the layer is told of callers, beside their class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct By {
    /// `LoadShed::cost`, as many units as a call costs.
    pub cost: bool,
    /// `LoadShed::fair_by`, by tenant.
    pub share: bool,
    /// `LoadShed::key`, by tenant.
    pub key: bool,
}

/// Which way calls take into the server. Both decide alike; tests compare them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Through {
    /// As in a program: what a law is judged by.
    Layer,
    /// As the layer does, straight to the budget's decision: no samples and no answers for the refused, at a quarter of
    /// the cost. For fixed limits.
    Budget,
}

impl Lab {
    /// With chance beginning here.
    pub fn seed(seed: u64) -> Self {
        Self {
            seed,
            ratio: 0.85,
            through: Through::Layer,
            by: By::default(),
        }
    }

    /// What the layer goes by. By default, neither costs nor tenants.
    pub fn by(self, by: By) -> Self {
        Self { by, ..self }
    }

    /// The ratio of the layer. By default 0.85.
    pub fn ratio(self, ratio: f64) -> Self {
        Self { ratio, ..self }
    }

    pub(crate) fn through(self, through: Through) -> Self {
        Self { through, ..self }
    }

    /// Runs it from the beginning to the end, with a budget from `budget` for each instance.
    ///
    /// # Panics
    ///
    /// Within a tokio runtime: time is virtual here, and of its own.
    #[must_use]
    pub fn run(self, scenario: &Scenario, mut budget: impl FnMut() -> Budget) -> Report {
        let runtime = virtual_time();
        let _guard = runtime.enter();
        let mut world = World::new(self, scenario, &mut budget);
        world.run(Arrivals::new(scenario, self.seed), Then::Ends);
        world.report
    }

    /// Runs it under each of these limits, with the same calls for all of them at the same time.
    pub(crate) fn run_fixed(self, scenario: &Scenario, limits: &[usize]) -> Vec<Report> {
        let world = |limit: &usize| {
            let runtime = virtual_time();
            let guard = runtime.enter();
            let world = World::new(self, scenario, &mut || Budget::fixed(*limit));
            drop(guard);
            (world, runtime)
        };
        let mut worlds: Vec<_> = limits.iter().map(world).collect();
        let mut arrivals = Arrivals::new(scenario, self.seed);
        let mut some = Vec::new();
        loop {
            some.clear();
            some.extend(arrivals.by_ref().take(AT_ONCE));
            let then = match some.is_empty() {
                true => Then::Ends,
                false => Then::GoesOn,
            };
            for (world, runtime) in &mut worlds {
                let _guard = runtime.enter();
                world.run(some.iter().copied(), then);
            }
            if then == Then::Ends {
                return worlds.into_iter().map(|(world, _)| world.report).collect();
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
const AT_ONCE: usize = 2_048;
