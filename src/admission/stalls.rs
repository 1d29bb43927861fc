//! Responses whose reader does not read: their permits are released after a while.
//!
//! A server does not poll a body while the bytes before have not left. So a body cannot time out by itself, and a reader that
//! reads nothing would hold its permit for ever. Responses that may come to that are noted here, and refusals look through them,
//! at most eight times in the timeout: so it costs nothing while no request is refused.

use std::{
    any::Any,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::support::{
    clock::{Now, nanos},
    per_thread::PerThread,
};

#[derive(Debug)]
pub(crate) struct Stalls {
    watched: PerThread<Mutex<Watched>>,
    /// Whether a response was ever noted.
    is_used: AtomicBool,
    epoch: Instant,
    /// When the next sweep is due, in nanoseconds since `epoch`.
    due: AtomicU64,
    /// In nanoseconds. 0 until a layer sets it, `u64::MAX` for never.
    timeout: AtomicU64,
    /// What makes the errors of bodies whose response has stalled, by their types.
    errors: Mutex<Vec<StallError>>,
    /// How many responses have stalled.
    all: AtomicUsize,
    /// How many of them have neither ended nor gone on.
    now: AtomicUsize,
}

#[derive(Debug, Default)]
struct Watched {
    responses: Vec<Response>,
    /// The number of responses at which those that have ended are removed.
    prune_at: usize,
}

/// The permit of a response.
pub(crate) trait Stalling: fmt::Debug + Send + Sync {
    /// Returns how often the body was polled, or `None` while it waits for the server.
    fn frames_taken(&self) -> Option<u32>;

    /// Returns whether work besides the response holds the permit.
    fn is_taken_along(&self) -> bool;

    /// Releases the units of a response that has stalled. Returns whether it had any.
    fn stall(&self) -> bool;
}

#[derive(Debug)]
struct Response {
    permit: Weak<dyn Stalling>,
    /// The frames that had been taken at `since`.
    frames: Option<u32>,
    since: Instant,
}

/// The least number of responses at which those that have ended are removed.
const PRUNE: usize = 64;
/// Sweeps in one timeout.
const SWEEPS: u64 = 8;

/// The default timeout. A shorter one would end readers of some 24 KB/s, as the buffers of the kernel hide their progress for up
/// to a minute.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes errors of a type that only the body knows.
pub(crate) type StallError = Arc<dyn Any + Send + Sync>;

impl Stalls {
    pub(crate) fn new() -> Self {
        Self {
            watched: PerThread::new(),
            is_used: AtomicBool::new(false),
            epoch: Instant::now(),
            due: AtomicU64::new(0),
            timeout: AtomicU64::new(0),
            errors: Mutex::default(),
            all: AtomicUsize::new(0),
            now: AtomicUsize::new(0),
        }
    }

    /// Empties it for another budget.
    pub(crate) fn renew(&self) {
        for watched in self.watched.iter() {
            *watched.lock().unwrap_or_else(PoisonError::into_inner) = Watched::default();
        }
        self.is_used.store(false, Ordering::Relaxed);
        self.due.store(0, Ordering::Relaxed);
        self.timeout.store(0, Ordering::Relaxed);
        self.lock_errors().clear();
        self.all.store(0, Ordering::Relaxed);
        self.now.store(0, Ordering::Relaxed);
    }

    /// Sets the timeout. Of several, the shortest holds.
    pub(crate) fn set_timeout(&self, timeout: Duration) {
        // At least 1: 0 stands for the default.
        let new = nanos(timeout).max(1);
        let shorter = |old| (old == 0 || new < old).then_some(new);
        // Nothing to do where the old one is shorter.
        let _ = self
            .timeout
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, shorter);
    }

    fn timeout(&self) -> Option<Duration> {
        match self.timeout.load(Ordering::Relaxed) {
            0 => Some(DEFAULT_TIMEOUT),
            u64::MAX => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    fn lock_errors(&self) -> MutexGuard<'_, Vec<StallError>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add_error(&self, error: StallError) {
        self.lock_errors().push(error);
    }

    /// Returns the first of what makes errors that is a `T`.
    pub(crate) fn find_error<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let errors = self.lock_errors();
        errors
            .iter()
            .find_map(|error| Arc::clone(error).downcast().ok())
    }

    /// Has a response seen by the sweeps, of whose body so many frames were taken.
    pub(crate) fn watch(&self, permit: Weak<dyn Stalling>, frames: Option<u32>) {
        self.is_used.store(true, Ordering::Relaxed);
        let (watched, _) = self.watched.own();
        let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.responses.len() >= watched.prune_at {
            let responses = &mut watched.responses;
            responses.retain(|response| response.permit.strong_count() > 0);
            watched.prune_at = (2 * watched.responses.len()).max(PRUNE);
        }
        watched.responses.push(Response {
            permit,
            frames,
            since: Instant::now(),
        });
    }

    /// Releases the permits of the responses that have stalled.
    #[inline]
    pub(crate) fn sweep_if_due(&self, now: &Now) {
        if self.is_used.load(Ordering::Relaxed) {
            self.sweep_after(now.get());
        }
    }

    /// Returns when the next sweep is due. `None` where no response was ever noted, or none ever stalls.
    pub(crate) fn next_sweep(&self) -> Option<Instant> {
        let is_used = self.is_used.load(Ordering::Relaxed);
        self.timeout().filter(|_| is_used)?;
        let due = Duration::from_nanos(self.due.load(Ordering::Relaxed));
        self.epoch.checked_add(due)
    }

    #[cold]
    fn sweep_after(&self, now: Instant) {
        let since_epoch = nanos(now.saturating_duration_since(self.epoch));
        let due = self.due.load(Ordering::Relaxed);
        let Some(timeout) = self.timeout().filter(|_| since_epoch >= due) else {
            return;
        };
        let next = since_epoch.saturating_add(nanos(timeout) / SWEEPS);
        let claimed = self
            .due
            .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed);
        if claimed.is_ok() {
            self.sweep(now, timeout);
        }
    }

    fn sweep(&self, now: Instant, timeout: Duration) {
        let mut stalled = Vec::new();
        for watched in self.watched.iter() {
            // A refusal waits for no lock: a thread that notes a response now is seen by the next sweep.
            let Ok(mut watched) = watched.try_lock() else {
                continue;
            };
            watched.responses.retain_mut(|response| {
                let Some(permit) = response.permit.upgrade() else {
                    return false;
                };
                let frames = permit.frames_taken();
                if frames.is_none() || frames != response.frames {
                    (response.frames, response.since) = (frames, now);
                }
                let stood = now.saturating_duration_since(response.since);
                if permit.is_taken_along() || stood < timeout {
                    return true;
                }
                stalled.push(permit);
                false
            });
        }
        // Without the locks: a waiter that is admitted by this may note a response.
        for permit in stalled {
            if !permit.stall() {
                // Its units are elsewhere for the moment: it is seen again.
                self.watch(Arc::downgrade(&permit), permit.frames_taken());
            }
        }
    }

    pub(crate) fn begin(&self) {
        self.all.fetch_add(1, Ordering::Relaxed);
        self.now.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        let less = |now: usize| now.checked_sub(1);
        // Nothing to do where another budget has the count, and has begun anew.
        let _ = self
            .now
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    pub(crate) fn all(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    pub(crate) fn now(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }
}
