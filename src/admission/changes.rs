use std::collections::VecDeque;

use crate::report::LimitChange;

/// The latest changes of a limit, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Changes(VecDeque<LimitChange>);

/// The most changes held: 10 seconds of a busy episode, 3 kB.
const MOST: usize = 32;

impl Changes {
    pub(crate) fn push(&mut self, change: LimitChange) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(change);
    }

    pub(crate) fn to_vec(&self) -> Vec<LimitChange> {
        self.0.iter().copied().collect()
    }
}
