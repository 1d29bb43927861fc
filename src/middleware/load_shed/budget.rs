use std::sync::OnceLock;

use super::load_shed::LoadShed;
use crate::budget::budget::Budget;

impl LoadShed {
    /// The budget to count against. Layers that are given the same one share it.
    #[track_caller]
    pub fn budget(self, budget: impl Into<Budget>) -> Self {
        self.with(|settings| settings.budget = OnceLock::from(budget.into()))
    }
}
