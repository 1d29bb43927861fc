use std::{
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use tokio::time::Instant;

use super::min_rate::{MinRate, Pace};
use crate::{
    admission::measured_units::SharedWeight, protocol::refusal::slow_upload::SlowUploadResponse,
    threshold::threshold::Threshold,
};

/// The budget of watched uploads.
pub(crate) trait UploadBudget: Send + Sync {
    /// Notes an upload that is to be ended if it arrives too slowly.
    fn note(&self, upload: &Arc<UploadWatch>);
}

/// What is known of an upload while its handler reads it: shared by the body, the future of the layer, and the budget.
///
/// The handler waits for the client from a poll of the body that is pending to the next one that is not, or to the drop of
/// the body. The body may be polled by another task than the future.
pub(crate) struct UploadWatch {
    budget: Arc<dyn UploadBudget>,
    /// `None` where the request is not measured.
    weight: Option<Arc<SharedWeight>>,
    rule: Option<RateRule>,
    /// Locked for a few assignments at a time. A sweep that finds it locked skips the upload, which is active then.
    state: Mutex<State>,
}

/// When an upload is ended.
#[derive(Debug)]
pub(crate) struct RateRule {
    pub(crate) rate: MinRate,
    /// The threshold of the request. An upload is ended only where a request of this threshold or a higher one is refused.
    pub(crate) threshold: Threshold,
    pub(crate) response: SlowUploadResponse,
}

struct State {
    /// Since when the handler waits for the client.
    waiting_since: Option<Instant>,
    /// How long it has waited before.
    waited: Duration,
    bytes: u64,
    /// Up to where the rate has been found to be high enough.
    compared: Compared,
    is_noted: bool,
    end: End,
    /// The task of the layer's future.
    waker: Option<Waker>,
}

/// Whether an upload may be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The layer's future waits for the response.
    Possible,
    Decided,
    /// The request has responded, or the future was dropped.
    TooLate,
}

/// The future's part in an upload. Once it is dropped, the upload is not ended any more.
#[derive(Debug)]
pub(crate) struct EndableUpload(Arc<UploadWatch>);

/// The bytes that had arrived, and how long the handler had waited for them.
#[derive(Clone, Copy, Debug, Default)]
struct Compared {
    bytes: u64,
    waited: Duration,
}

/// How a sweep has judged an upload.
#[derive(Debug)]
pub(crate) enum Swept {
    /// It is fast enough, or may not be ended now.
    GoesOn,
    /// It is ended: the task of the layer's future is to be woken, outside of any lock.
    Ended(Option<Waker>),
}

impl UploadWatch {
    pub(crate) fn new(
        budget: Arc<dyn UploadBudget>,
        weight: Option<Arc<SharedWeight>>,
        rule: Option<RateRule>,
    ) -> Arc<Self> {
        let state = State {
            waiting_since: None,
            waited: Duration::ZERO,
            bytes: 0,
            compared: Compared::default(),
            is_noted: false,
            end: End::Possible,
            waker: None,
        };
        Arc::new(Self {
            budget,
            weight,
            rule,
            state: Mutex::new(state),
        })
    }

    /// Notes that the handler has asked for more than has arrived.
    pub(crate) fn client_wait_begins(self: &Arc<Self>) {
        let mut state = self.state();
        if state.waiting_since.is_none() {
            state.waiting_since = Some(Instant::now());
            if let Some(weight) = &self.weight {
                weight.wait_begins();
            }
        }
        let is_new = self.rule.is_some() && !mem::replace(&mut state.is_noted, true);
        drop(state);
        if is_new {
            self.budget.note(self);
        }
    }

    /// Notes that the handler goes on, with `bytes` more or without its client.
    pub(crate) fn client_wait_ends(&self, bytes: u64) {
        let mut state = self.state();
        state.bytes = state.bytes.saturating_add(bytes);
        if let Some(since) = state.waiting_since.take() {
            state.waited += since.elapsed();
            if let Some(weight) = &self.weight {
                weight.wait_ends();
            }
        }
    }

    fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<Response<Bytes>> {
        let Some(rule) = &self.rule else {
            return Poll::Pending;
        };
        let mut state = self.state();
        if state.end == End::Decided {
            return Poll::Ready(rule.response.build());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Ends the upload if it arrives too slowly, where requests of a threshold up to `refused` are refused.
    ///
    /// The rate is that of the bytes over the time that the handler has waited for them: a handler that is slow itself makes no
    /// upload slow. It is taken over one grace or more, and then anew: bytes that came early pay for no later silence.
    pub(crate) fn sweep(&self, refused: u32, now: Instant) -> Swept {
        let (Some(rule), Ok(mut state)) = (&self.rule, self.state.try_lock()) else {
            return Swept::GoesOn;
        };
        let is_waiting = state.waiting_since.is_some();
        if !is_waiting || state.end != End::Possible || rule.threshold.priority() > refused {
            return Swept::GoesOn;
        }
        let waited = state.waited_until(|| now);
        let (bytes, compared) = (state.bytes, state.compared);
        let since = waited.saturating_sub(compared.waited);
        match rule.rate.compare(bytes - compared.bytes, since) {
            Pace::Unknown => Swept::GoesOn,
            Pace::FastEnough => {
                state.compared = Compared { bytes, waited };
                Swept::GoesOn
            }
            Pace::TooSlow => {
                state.end = End::Decided;
                Swept::Ended(state.waker.take())
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock is as good: a panic leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EndableUpload {
    pub(crate) fn new(watch: Arc<UploadWatch>) -> Self {
        Self(watch)
    }

    /// Returns the response once the upload was ended because it arrived too slowly. Until then, the task of `cx` is woken when
    /// it is.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<Response<Bytes>> {
        self.0.poll_ended(cx)
    }
}

impl Drop for EndableUpload {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.end = End::TooLate;
        // The waker may own the task that owns this.
        let waker = state.waker.take();
        drop(state);
        drop(waker);
    }
}

impl State {
    fn waited_until(&self, now: impl FnOnce() -> Instant) -> Duration {
        let since = self.waiting_since;
        self.waited
            + since.map_or(Duration::ZERO, |since| {
                now().saturating_duration_since(since)
            })
    }
}

impl fmt::Debug for UploadWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadWatch")
            .field("rule", &self.rule)
            .finish_non_exhaustive()
    }
}
