use std::sync::OnceLock;

use super::load_shed::LoadShed;
use crate::budget::budget::Budget;

impl LoadShed {
    /// Sets the budget to count against. Layers that are given the same budget share its limit. Without it the layer makes a
    /// learned budget of its own when it is first used.
    #[track_caller]
    pub fn budget(self, budget: impl Into<Budget>) -> Self {
        self.with(|settings| settings.budget = OnceLock::from(budget.into()))
    }
}
