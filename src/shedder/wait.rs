use std::{fmt, sync::Arc, time::Duration};

use http::Request;
use tokio::time::Instant;

use crate::{
    admission::{claim::Claim, queue::queue::Entrant},
    protocol::{grpc, head::lend},
};

/// How long refused requests may wait in the queue, and how many.
#[derive(Clone, Default)]
pub(crate) struct Wait {
    pub(crate) bounds: Option<Bounds>,
    pub(crate) deadline: Option<Arc<TimeLeft>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) most: u32,
    pub(crate) longest: Duration,
}

type TimeLeft = dyn Fn(&Request<()>) -> Option<Duration> + Send + Sync;

/// The longest wait, an hour: no caller waits that long.
pub(crate) const LONGEST: Duration = Duration::from_secs(3_600);

impl Wait {
    /// Returns what a request needs to join the queue, or `None` if no request may wait.
    #[inline]
    pub(crate) fn entrant(&self, claim: impl FnOnce() -> Claim) -> Option<Entrant> {
        let Bounds { most, longest } = self.bounds?;
        Some(Entrant {
            claim: claim(),
            most,
            longest,
            deadline: None,
        })
    }

    /// Returns when the caller of a request gives up, where the request says so.
    pub(crate) fn deadline<B>(&self, request: &mut Request<B>) -> Option<Instant> {
        let asked = self.deadline.as_ref();
        let asked = asked.and_then(|left| lend(request, |head| left(head)).flatten());
        let grpc = grpc::timeout(request.headers());
        let left = asked.into_iter().chain(grpc).min()?;
        // A deadline beyond the longest wait has no effect.
        (left < LONGEST).then(|| Instant::now() + left)
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait")
            .field("bounds", &self.bounds)
            .field("deadline", &self.deadline.is_some())
            .finish()
    }
}
