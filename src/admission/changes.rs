use std::collections::VecDeque;

use crate::{control::controller::Learned, report::LimitChange};

/// The latest changes of a limit, and what its controller has learned.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Oldest first.
    latest: VecDeque<LimitChange>,
    /// As of the latest window of the controller.
    pub(crate) learned: Option<Learned>,
}

/// The most changes held: 10 seconds of a busy episode, 6 kB.
const MOST: usize = 32;

impl Changes {
    pub(crate) fn push(&mut self, change: LimitChange) {
        if self.latest.len() == MOST {
            self.latest.pop_front();
        }
        self.latest.push_back(change);
    }

    pub(crate) fn to_vec(&self) -> Vec<LimitChange> {
        self.latest.iter().copied().collect()
    }
}
