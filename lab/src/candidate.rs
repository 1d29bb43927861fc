//! The candidates that the evaluator compares.

use std::{fmt, sync::Arc};

use loadshed::{Budget, control::Controller};

use crate::scenario::scenario::Scenario;

/// A way to make a budget, such as a controller or a fixed limit, with a name for the tables.
#[derive(Clone)]
#[must_use]
pub struct Candidate {
    name: String,
    budget: Arc<dyn Fn(Option<usize>) -> Budget + Send + Sync>,
    takes_initial_limit: bool,
}

impl Candidate {
    /// Creates a candidate whose initial limit cannot be set.
    pub fn new(
        name: impl Into<String>,
        budget: impl Fn() -> Budget + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            budget: Arc::new(move |_| budget()),
            takes_initial_limit: false,
        }
    }

    /// Creates a candidate whose initial limit can be set.
    ///
    /// The argument of `budget` is the initial limit: `usize::MAX` asks for the largest limit of the candidate, and `None`
    /// for its default.
    pub fn with_initial_limit(
        name: impl Into<String>,
        budget: impl Fn(Option<usize>) -> Budget + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            budget: Arc::new(budget),
            takes_initial_limit: true,
        }
    }

    /// Creates a candidate from a controller and its setter for the initial limit.
    ///
    /// An initial limit outside of [`Controller::limits`] is replaced by the nearest bound.
    pub fn of_controller<C>(
        name: impl Into<String>,
        controller: C,
        initial: fn(C, usize) -> C,
    ) -> Self
    where
        C: Controller + Clone + Sync,
    {
        Self::with_initial_limit(name, move |limit| {
            let limits = controller.limits();
            let within = |limit: usize| limit.clamp(*limits.start(), *limits.end());
            Budget::new(match limit.map(within) {
                Some(limit) => initial(controller.clone(), limit),
                None => controller.clone(),
            })
        })
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Creates a budget, with this initial limit where the candidate supports that.
    #[must_use]
    pub fn budget(&self, initial: Option<usize>) -> Budget {
        (self.budget)(initial)
    }

    /// Returns the initial limit of each run of this scenario.
    pub(crate) fn initial_limits(&self, scenario: &Scenario) -> Vec<Option<usize>> {
        match self.takes_initial_limit && !scenario.initial_limits.is_empty() {
            true => scenario.initial_limits.iter().copied().map(Some).collect(),
            false => vec![None],
        }
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use loadshed::Adaptive;

    use super::*;

    #[test]
    fn an_initial_limit_outside_the_bounds_is_replaced_by_the_nearest_bound() {
        let candidate = Candidate::of_controller(
            "adaptive",
            Adaptive::default().min(4).max(100),
            Adaptive::initial,
        );
        let begins = [None, Some(1), Some(20), Some(usize::MAX)];
        assert_eq!(
            begins.map(|initial| candidate.budget(initial).limit()),
            [100, 4, 20, 100]
        );
    }
}
