use std::collections::VecDeque;

use crate::report::LimitChange;

/// The latest changes, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Changes(VecDeque<LimitChange>);

/// Ten seconds of a busy episode; 3 kB.
const KEPT: usize = 32;

impl Changes {
    pub(crate) fn push(&mut self, change: LimitChange) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(change);
    }

    pub(crate) fn to_vec(&self) -> Vec<LimitChange> {
        self.0.iter().copied().collect()
    }
}
