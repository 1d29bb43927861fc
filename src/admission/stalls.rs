//! Responses whose reader does not read: their permits are released after a while.
//!
//! A server does not poll a body while the bytes before have not left. So a body cannot time out by itself, and a reader that
//! reads nothing would hold its permit for ever. Responses that may come to that are noted here, and refusals look through them,
//! at most eight times in the timeout: so it costs nothing while no request is refused. Each refusal looks at some of them, so it
//! takes no longer where there are many. Queued requests, and futures that wait until the budget is empty, have a timer for it.

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
    /// Where the sweep goes on.
    position: Mutex<Position>,
    /// When the next sweep begins, or has begun that is not whole yet, in nanoseconds since `epoch`.
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

    /// Releases the units of a response that has stalled, of whose body so many `frames` were taken. Returns whether it did: not
    /// where it has gone on meanwhile, or has no units.
    fn stall(&self, frames: Option<u32>) -> bool;
}

#[derive(Debug)]
struct Response {
    permit: Weak<dyn Stalling>,
    /// The frames that had been taken at `since`.
    frames: Option<u32>,
    since: Instant,
}

/// The position of a response: which thread's list it is in, and where in that.
#[derive(Debug, Default)]
struct Position {
    list: usize,
    response: usize,
}

/// How far a sweep has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Swept {
    /// There are more responses to look at.
    InPart,
    /// Or none is due.
    Whole,
}

/// What a sweep finds a response to do.
enum Found {
    GoesOn,
    Ended,
    Stalled(Stalled),
}

/// A response that seems to have stalled.
struct Stalled {
    permit: Arc<dyn Stalling>,
    frames: Option<u32>,
}

impl Response {
    fn look(&mut self, now: Instant, timeout: Duration) -> Found {
        let Some(permit) = self.permit.upgrade() else {
            return Found::Ended;
        };
        let frames = permit.frames_taken();
        if frames.is_none() || frames != self.frames {
            (self.frames, self.since) = (frames, now);
        }
        let stood = now.saturating_duration_since(self.since);
        match stood < timeout || permit.is_taken_along() {
            true => Found::GoesOn,
            false => Found::Stalled(Stalled { permit, frames }),
        }
    }
}

/// The least number of responses at which those that have ended are removed.
const PRUNE: usize = 64;
/// Sweeps in one timeout.
const SWEEPS: u64 = 8;
/// The least time between two sweeps, in nanoseconds: 1 ms, as tokio's timers count whole milliseconds.
const LEAST_INTERVAL: u64 = 1_000_000;
/// The most responses that a refusal looks at: some 10 µs.
const AT_ONCE: usize = 256;

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
            position: Mutex::default(),
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
        *self.lock_position() = Position::default();
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

    fn lock_position(&self) -> MutexGuard<'_, Position> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Has a response seen by the sweeps, of whose body so many frames were taken. Returns whether it is the first one: then the
    /// tasks that [wait for a sweep](Self::next_sweep) have to be woken.
    pub(crate) fn watch(&self, permit: Weak<dyn Stalling>, frames: Option<u32>) -> bool {
        // Reads before it writes: all but one find it set. Relaxed: the locks of the tasks' wakers order it.
        let is_used = &self.is_used;
        let is_first = !is_used.load(Ordering::Relaxed) && !is_used.swap(true, Ordering::Relaxed);
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
        drop(watched);
        is_first
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

    /// Sweeps all responses that are due, in a task that waits for capacity itself.
    pub(crate) fn sweep_whole_if_due(&self, now: Instant) {
        if self.is_used.load(Ordering::Relaxed) {
            while self.sweep_after(now) == Swept::InPart {}
        }
    }

    #[cold]
    fn sweep_after(&self, now: Instant) -> Swept {
        let since_epoch = nanos(now.saturating_duration_since(self.epoch));
        let is_due = || since_epoch >= self.due.load(Ordering::Relaxed);
        let Some(timeout) = self.timeout().filter(|_| is_due()) else {
            return Swept::Whole;
        };
        // A refusal waits for no lock: another thread sweeps.
        let Ok(mut position) = self.position.try_lock() else {
            return Swept::Whole;
        };
        if !is_due() {
            return Swept::Whole;
        }
        let mut stalled = Vec::new();
        let swept = self.sweep(&mut position, now, timeout, &mut stalled);
        if swept == Swept::Whole {
            let interval = (nanos(timeout) / SWEEPS).max(LEAST_INTERVAL);
            let next = since_epoch.saturating_add(interval);
            self.due.store(next, Ordering::Relaxed);
        }
        // Without the locks: a waiter that is admitted by this may note a response.
        drop(position);
        for Stalled { permit, frames } in stalled {
            if !permit.stall(frames) {
                // It has gone on, or its units are elsewhere for the moment: it is seen again.
                self.watch(Arc::downgrade(&permit), permit.frames_taken());
            }
        }
        swept
    }

    /// Looks through the responses from `position` on, at most [`AT_ONCE`] of them.
    fn sweep(
        &self,
        position: &mut Position,
        now: Instant,
        timeout: Duration,
        stalled: &mut Vec<Stalled>,
    ) -> Swept {
        let mut left = AT_ONCE;
        for watched in self.watched.iter().skip(position.list) {
            // A thread that notes a response now is seen by the next sweep.
            if let Ok(mut watched) = watched.try_lock() {
                let responses = &mut watched.responses;
                while let Some(response) = responses.get_mut(position.response) {
                    if left == 0 {
                        return Swept::InPart;
                    }
                    left -= 1;
                    match response.look(now, timeout) {
                        Found::GoesOn => position.response += 1,
                        Found::Ended => drop(responses.swap_remove(position.response)),
                        Found::Stalled(response) => {
                            stalled.push(response);
                            responses.swap_remove(position.response);
                        }
                    }
                }
            }
            position.list += 1;
            position.response = 0;
        }
        *position = Position::default();
        Swept::Whole
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

#[cfg(all(test, not(loadshed_loom)))]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// A response that its reader does not read, with the number of times that a sweep has looked at it.
    #[derive(Debug, Default)]
    struct Unread {
        looked_at: AtomicUsize,
        has_stalled: AtomicBool,
    }

    impl Stalling for Unread {
        fn frames_taken(&self) -> Option<u32> {
            self.looked_at.fetch_add(1, Ordering::Relaxed);
            Some(1)
        }

        fn is_taken_along(&self) -> bool {
            false
        }

        fn stall(&self, _: Option<u32>) -> bool {
            !self.has_stalled.swap(true, Ordering::Relaxed)
        }
    }

    const RESPONSES: usize = 10 * AT_ONCE + 1;

    #[tokio::test(start_paused = true)]
    async fn p17_a_refusal_looks_at_some_responses_and_the_next_ones_go_on() {
        let stalls = Stalls::new();
        let responses: Vec<_> = (0..RESPONSES)
            .map(|_| Arc::new(Unread::default()))
            .collect();
        for response in &responses {
            let weak = Arc::downgrade(response);
            stalls.watch(weak, Some(1));
        }
        let looked_at = || {
            let looks = responses.iter().map(|response| &response.looked_at);
            looks.map(|looks| looks.swap(0, Ordering::Relaxed)).sum()
        };
        let refuse = || stalls.sweep_if_due(&Now::default());
        for in_first_sweep in [[AT_ONCE; 10].as_slice(), &[1, 0, 0]].concat() {
            refuse();
            assert_eq!(looked_at(), in_first_sweep);
        }
        advance(DEFAULT_TIMEOUT).await;
        refuse();
        let stalled = || {
            let stalled = responses.iter().map(|response| &response.has_stalled);
            stalled
                .filter(|stalled| stalled.load(Ordering::Relaxed))
                .count()
        };
        assert_eq!((looked_at(), stalled()), (AT_ONCE, AT_ONCE));
        // A task that waits has it done.
        stalls.sweep_whole_if_due(Instant::now());
        assert_eq!((looked_at(), stalled()), (RESPONSES - AT_ONCE, RESPONSES));
        advance(DEFAULT_TIMEOUT).await;
        stalls.sweep_whole_if_due(Instant::now());
        assert_eq!(looked_at(), 0, "what has stalled is not looked at");
    }
}
