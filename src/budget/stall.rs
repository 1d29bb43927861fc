//! What layers say about responses that stall.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::budget::Budget;
use crate::admission::stalls::StallError;

/// The settings of a layer about responses that stall.
#[derive(Clone, Default)]
pub(crate) struct StallSettings {
    pub(crate) timeout: Option<Duration>,
    pub(crate) errors: Vec<StallError>,
}

impl fmt::Debug for StallSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StallSettings")
            .field("timeout", &self.timeout)
            .field("errors", &self.errors.len())
            .finish()
    }
}

impl Budget {
    pub(crate) fn set_stall(&self, stall: &StallSettings) {
        if let Some(timeout) = stall.timeout {
            self.count.stalls.set_timeout(timeout);
        }
        for error in &stall.errors {
            self.count.stalls.add_error(Arc::clone(error));
        }
    }

    /// Returns when the stalled responses are to be looked for. `None` where there are none, and the first one wakes the waiters.
    pub(crate) fn next_sweep(&self) -> Option<Instant> {
        self.count.stalls.next_sweep()
    }

    /// Releases the permits of stalled responses, if that is due.
    pub(crate) fn sweep_stalled(&self, now: Instant) {
        self.count.stalls.sweep_whole_if_due(now);
    }
}
