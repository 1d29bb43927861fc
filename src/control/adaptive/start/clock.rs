//! For how long somebody has been waiting.

use tokio::time::Instant;

use crate::control::controller::Window;

/// While nobody waits, nothing says how much the server can do, and the clock stands: a first request, and a burst long
/// after it, are no slow server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// Since when somebody has been waiting for an answer, if anybody was when the last window was closed.
    busy: Option<Instant>,
    /// What it read when it stopped last, in seconds,
    before: f64,
    /// and when that was.
    stopped: Option<Instant>,
}

impl Clock {
    /// In seconds, all together.
    pub(crate) fn read(&mut self, window: &Window<'_>) -> f64 {
        let admitted = window.samples.iter().map(|sample| sample.admitted_at);
        let since = admitted.chain(self.busy).min().unwrap_or(window.now);
        let since = self.stopped.map_or(since, |stopped| since.max(stopped));
        let busy = self.before + window.now.saturating_duration_since(since).as_secs_f64();
        // One that has just finished may be among them still.
        let finished = usize::from(!window.samples.is_empty());
        if window.waiting() > finished {
            self.busy = Some(since);
        } else {
            *self = Self {
                busy: None,
                before: busy,
                stopped: Some(window.now),
            };
        }
        busy
    }
}
