use std::{fmt, sync::Arc, time::Duration};

use http::Request;
use tokio::time::Instant;

pub(crate) use crate::admission::queue::queue::Entrant;

use crate::{
    admission::claim::Claim,
    protocol::{grpc, head::lend},
};

/// How requests that were refused may wait.
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

/// An hour. No caller waits that long.
pub(crate) const LONGEST: Duration = Duration::from_secs(3_600);

impl Wait {
    /// `None` if none may wait.
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

    /// When the caller of a request gives up, if it tells.
    pub(crate) fn deadline<B>(&self, request: &mut Request<B>) -> Option<Instant> {
        let asked = self.deadline.as_ref();
        let asked = asked.and_then(|left| lend(request, |head| left(head)).flatten());
        let grpc = grpc::timeout(request.headers());
        let left = asked.into_iter().chain(grpc).min()?;
        // One that is further away than any wait is none.
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
