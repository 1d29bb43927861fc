//! Turns measured requests into windows, and asks the controller for a limit once a window.

use std::{
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{changes::Changes, recent_level::RecentLevel};
use crate::{
    control::{
        controller::{Controller, Learned, Sample, Window},
        reason,
    },
    report::LimitChange,
    support::{
        clock::{Now, nanos},
        per_thread::{PerThread, PerThreadCounter},
        spread::spread,
    },
};

/// What a [`Sampler`] measures: asked for a reading once a window, and told what the controller decided.
pub(crate) trait Meter {
    fn reading(&self) -> Reading;

    /// Moves the limit, unless it is no longer `from`. Returns whether it moved.
    fn move_limit(&self, from: usize, to: usize) -> bool;

    /// Takes note of a limit that has changed.
    fn changed(&self, change: LimitChange);

    /// Takes note of the samples of a window.
    fn measured(&self, samples: &[Sample]);
}

/// The figures of a [`Meter`] when a window is closed. Counters count from the start of the budget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) limit: usize,
    /// Units in flight.
    pub(crate) in_flight: usize,
    /// Requests admitted.
    pub(crate) admitted: usize,
    pub(crate) admitted_units: usize,
    /// Units refused, those of dry runs included.
    pub(crate) refused_units: usize,
}

/// Measures requests, and shows them to the controller one window at a time.
///
/// No lock is shared by all requests. A finished request puts its sample into its thread's list. If another thread has that
/// list locked, the sample is lost. The first request that finds the window due closes it: a measured request when it is
/// admitted and when it finishes, and a refused request, so that the controller is asked even if no request finishes. No
/// request waits for a lock: where a lock is taken, it goes on without.
#[derive(Debug)]
pub(crate) struct Sampler {
    finished: PerThread<Mutex<Vec<Finished>>>,
    /// The measured requests in flight, each weighted by the units in flight that it stands for.
    pub(crate) watched: PerThreadCounter,
    /// The part of `watched` that has responded and still holds its permit.
    pub(crate) responded: PerThreadCounter,
    pub(crate) level: RecentLevel,
    state: Mutex<ControllerState>,
    /// Not in the state, so that changes and what was learned can be read, and the limit set, while the controller runs. Locked for
    /// a copy's time.
    changes: Mutex<Changes>,
    epoch: Instant,
    /// When the open window is due, in nanoseconds since `epoch`.
    due: AtomicU64,
    /// One request in `mask + 1` is measured; `mask + 1` is a power of two.
    mask: AtomicUsize,
    window: Duration,
    min: usize,
    max: usize,
    /// The limit that was set by hand, 0 for none.
    manual: AtomicUsize,
    /// Whether that was given back since the controller was last asked.
    is_resumed: AtomicBool,
}

/// The controller, and what the open window is compared with.
#[derive(Debug)]
struct ControllerState {
    /// `None` once it has panicked: then the limit stays where it is.
    controller: Option<Box<dyn Controller>>,
    /// When the window was opened. The figures below are of that moment.
    opened: Instant,
    /// Requests admitted.
    admitted: usize,
    /// Units completed.
    completed: usize,
    /// Units refused.
    refused: usize,
    /// Buffers of the window that is being closed. They are held here to keep their memory, as `samples` is.
    finished: Vec<Finished>,
    samples: Vec<Sample>,
}

/// A measured request that has finished.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finished {
    pub(crate) sample: Sample,
    /// One request in 2 to the power of this was measured when it was admitted.
    pub(crate) rarity: u8,
    /// The highest rarity at which this request would be measured.
    pub(crate) drawn: u8,
}

/// The samples of a window above which only one request in twice as many is measured. Below a quarter of it, one in half as
/// many is. The standard deviation of a percentile from 256 samples is at most 3 percentage points, that of the median. This is
/// finer than any limit algorithm reads.
const MANY_SAMPLES: usize = 256;

/// The most samples that a thread's list holds.
const THREAD_SAMPLES: usize = 2 * MANY_SAMPLES;

impl Sampler {
    pub(crate) fn new(controller: Box<dyn Controller>, limits: RangeInclusive<usize>) -> Self {
        let now = Instant::now();
        let window = controller.window();
        Self {
            finished: PerThread::new(),
            watched: PerThreadCounter::new(),
            responded: PerThreadCounter::new(),
            level: RecentLevel::default(),
            state: Mutex::new(ControllerState {
                controller: Some(controller),
                opened: now,
                admitted: 0,
                completed: 0,
                refused: 0,
                finished: Vec::new(),
                samples: Vec::new(),
            }),
            changes: Mutex::default(),
            epoch: now,
            due: AtomicU64::new(nanos(window)),
            mask: AtomicUsize::new(0),
            window,
            min: *limits.start(),
            max: *limits.end(),
            manual: AtomicUsize::new(0),
            is_resumed: AtomicBool::new(false),
        }
    }

    /// Returns the limits of the controller.
    pub(crate) fn limits(&self) -> RangeInclusive<usize> {
        self.min..=self.max
    }

    /// Has `limit` hold until it is given back. To be called before the limit is set.
    pub(crate) fn hold(&self, limit: usize) {
        let mut changes = self.lock_changes();
        // SeqCst: see `close_window`.
        self.manual.store(limit, Ordering::SeqCst);
        changes.learned = None;
    }

    /// Gives a limit back that was set by hand.
    pub(crate) fn resume(&self) {
        // For `keep`, which reads both under this lock.
        let _changes = self.lock_changes();
        if self.manual.swap(0, Ordering::SeqCst) != 0 {
            self.is_resumed.store(true, Ordering::Release);
        }
    }

    /// Returns the limit that was set by hand and not given back.
    pub(crate) fn manual(&self) -> Option<usize> {
        Some(self.manual.load(Ordering::SeqCst)).filter(|limit| *limit > 0)
    }

    /// Returns whether the `nth` request admitted on its thread is measured.
    #[inline]
    pub(crate) fn measures(&self, nth: usize) -> bool {
        chance(nth) as usize & self.mask.load(Ordering::Relaxed) == 0
    }

    /// Closes the window if it is due, when a request is refused.
    pub(crate) fn refused(&self, meter: &impl Meter, now: &Now) {
        self.close_if_due(meter, self.since_epoch(now.get()));
    }

    /// Adds to the changes.
    pub(crate) fn note(&self, change: LimitChange) {
        self.lock_changes().push(change);
    }

    /// Returns the latest changes, oldest first.
    pub(crate) fn changes(&self) -> Vec<LimitChange> {
        self.lock_changes().to_vec()
    }

    /// Returns what the controller has learned, as of its latest window. While a limit that was set by hand holds, the controller
    /// sees nothing, and only the state `set` is returned.
    pub(crate) fn learned(&self) -> Option<Learned> {
        let changes = self.lock_changes();
        let set = self.manual().map(|_| Learned::new(reason::SET));
        set.or(changes.learned)
    }

    /// Keeps what the controller has learned, unless a limit was set by hand while it ran: it then starts anew.
    fn keep(&self, learned: Option<Learned>) {
        let mut changes = self.lock_changes();
        if self.manual().is_none() && !self.is_resumed.load(Ordering::Acquire) {
            changes.learned = learned;
        }
    }

    fn lock_changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a finished request, and closes the window if it is due.
    pub(crate) fn record(&self, meter: &impl Meter, finished: Finished, now: u64) {
        if let Ok(mut list) = self.finished.own().0.try_lock()
            && list.len() < THREAD_SAMPLES
        {
            list.push(finished);
        }
        self.close_if_due(meter, now);
    }

    /// Closes the window if it is due. `now` is in nanoseconds since the epoch.
    pub(crate) fn close_if_due(&self, meter: &impl Meter, now: u64) {
        // Relaxed: the lock on the state decides which thread closes the window. This only saves most threads from trying.
        let is_due = || now >= self.due.load(Ordering::Relaxed);
        if !is_due() {
            return;
        }
        if let Ok(mut state) = self.state.try_lock()
            && is_due()
        {
            // First, so that no other thread tries while the controller runs.
            let next = now.saturating_add(nanos(self.window));
            self.due.store(next, Ordering::Relaxed);
            self.close_window(meter, &mut state, self.at(now));
        }
    }

    /// Reads the clock. Returns nanoseconds since the epoch.
    pub(crate) fn now(&self) -> u64 {
        self.since_epoch(Instant::now())
    }

    fn since_epoch(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch))
    }

    /// Returns the moment that is so many nanoseconds after the epoch.
    pub(crate) fn at(&self, since_epoch: u64) -> Instant {
        self.epoch + Duration::from_nanos(since_epoch)
    }

    fn close_window(&self, meter: &impl Meter, state: &mut ControllerState, now: Instant) {
        for list in self.finished.iter() {
            // A list that a thread writes to at the moment is left to the next window.
            if let Ok(mut list) = list.try_lock() {
                state.finished.append(&mut list);
            }
        }
        state.take_alike();
        meter.measured(&state.samples);

        let reading = meter.reading();
        let responded = self.responded(reading.in_flight);
        let waiting = reading.in_flight - responded;
        let elapsed = now.saturating_duration_since(state.opened);
        let newly_admitted = reading.admitted.saturating_sub(state.admitted);
        self.measure_fewer_or_more(newly_admitted, elapsed);
        // The maximum: with an estimated `waiting`, the difference could decrease.
        let admitted = reading.admitted_units;
        let completed = state.completed.max(admitted.saturating_sub(waiting));
        let refused = reading.refused_units;
        let mut window = Window::new(now, reading.limit);
        window.elapsed = elapsed;
        window.in_flight = reading.in_flight;
        window.responded = responded;
        window.completed = completed - state.completed;
        window.refused = refused.saturating_sub(state.refused);
        window.samples = &state.samples;

        if let (Some(controller), None) = (&mut state.controller, self.manual()) {
            let restarts = self.is_resumed.swap(false, Ordering::Acquire);
            // A panic of the controller must not reach the request that happens to close the window.
            let update = || {
                if restarts {
                    controller.restart();
                }
                (controller.update(&window), controller.learned())
            };
            match catch_unwind(AssertUnwindSafe(update)) {
                Ok((decision, learned)) => {
                    self.keep(learned);
                    let limit = decision.limit.clamp(self.min, self.max);
                    if limit != reading.limit && meter.move_limit(reading.limit, limit) {
                        meter.changed(LimitChange::of(&window, limit, decision.reason, learned));
                        // Set by hand meanwhile to what it was: a change of the limit that precedes the move is seen here.
                        if let Some(manual) = self.manual() {
                            meter.move_limit(limit, manual);
                        }
                    }
                }
                Err(_) => {
                    self.keep(None);
                    // Nor must a panic of the controller's drop.
                    drop(catch_unwind(AssertUnwindSafe(|| state.controller = None)));
                }
            }
        }
        state.opened = now;
        state.admitted = reading.admitted;
        state.completed = completed;
        state.refused = refused;
    }

    /// Returns how many of the units in flight have responded: the same share as among the measured requests.
    fn responded(&self, in_flight: usize) -> usize {
        // Other threads count meanwhile. A request's end may be read before its beginning: the sum is then negative.
        let [responded, watched] = [&self.responded, &self.watched].map(|sum| sum.sum() as isize);
        if responded <= 0 {
            return 0;
        }
        let share = (responded as f64 / watched.max(1) as f64).min(1.0);
        (in_flight as f64 * share).round() as usize
    }

    /// Returns the number of requests of which one is measured.
    pub(crate) fn one_in(&self) -> usize {
        self.mask.load(Ordering::Relaxed) + 1
    }

    /// Returns the rarity: one request in 2 to the power of this is measured.
    pub(crate) fn rarity(&self) -> u8 {
        self.mask.load(Ordering::Relaxed).count_ones() as u8
    }

    /// Adapts how many requests are measured to the number admitted, and not to the number of samples: a change shows in the
    /// samples only after the latency of a request.
    fn measure_fewer_or_more(&self, admitted: usize, elapsed: Duration) {
        if elapsed.is_zero() {
            return;
        }
        let a_window = admitted as f64 * self.window.div_duration_f64(elapsed);
        let mut mask = self.mask.load(Ordering::Relaxed);
        // One step a window: at the beginning of an overload there are few samples, and each tells much.
        if a_window > (MANY_SAMPLES * (mask + 1)) as f64 {
            mask = mask << 1 | 1;
        }
        while mask > 0 && a_window < (MANY_SAMPLES / 4 * (mask + 1)) as f64 {
            mask >>= 1;
        }
        self.mask.store(mask, Ordering::Relaxed);
    }
}

impl ControllerState {
    /// Makes samples of the finished requests that would be measured at the highest rarity among them.
    ///
    /// Otherwise too many samples would be fast after a decrease of the rarity. Of the requests admitted since, the slow ones are
    /// still in flight; of the requests admitted before, few are measured.
    fn take_alike(&mut self) {
        let rarest = self.finished.iter().map(|finished| finished.rarity).max();
        self.samples.clear();
        for finished in self.finished.drain(..) {
            if Some(finished.drawn) >= rarest {
                self.samples.push(finished.sample);
            }
        }
    }
}

/// Returns the bits by which the `nth` request is chosen. To measure every eighth request would not do: where eight callers take
/// turns, these would be the requests of one caller.
fn chance(nth: usize) -> u32 {
    (spread(nth as u64) >> 32) as u32
}

/// Returns the highest rarity at which the `nth` request is measured.
pub(crate) fn drawn(nth: usize) -> u8 {
    chance(nth).trailing_zeros() as u8
}
