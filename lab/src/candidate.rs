//! What the evaluator compares: budgets by name.

use std::{fmt, sync::Arc};

use loadshed::{Budget, control::Controller};

use crate::scenario::Scenario;

/// A candidate, or anything else that a budget can be made of, by a name for people.
#[derive(Clone)]
#[must_use]
pub struct Candidate {
    name: String,
    budget: Arc<dyn Fn(Option<usize>) -> Budget + Send + Sync>,
    takes_initial_limit: bool,
}

impl Candidate {
    /// One whose limit begins where it begins.
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

    /// One whose limit can be told where to begin. `usize::MAX` asks for its largest, and `None` for its usual one.
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

    /// A controller that can be told where to begin, by its setting for that. Where that is not within its limits, it
    /// begins at the nearest that is.
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

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A new budget under this candidate.
    #[must_use]
    pub fn budget(&self, initial: Option<usize>) -> Budget {
        (self.budget)(initial)
    }

    /// Where the limit begins in the runs of this scenario.
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
