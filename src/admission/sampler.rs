//! From requests to windows, and from windows to limits.

use std::{
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::changes::Changes;
use crate::{
    control::controller::{Controller, Sample, Window},
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

/// Measures requests, and shows them to the law a window at a time.
///
/// No lock is shared by all requests: a finished request puts its sample into its thread's lane, and goes without
/// where another thread is at that lane. Whoever finds the window due closes it, alone: a measured request when it is
/// admitted and when it finishes, and a refused one, so that a law is asked where nothing finishes any more. Nobody waits
/// for a lock: who finds one taken goes on.
#[derive(Debug)]
pub(crate) struct Sampler {
    finished: PerThread<Mutex<Vec<Finished>>>,
    /// The measured ones in flight, each as many times as the units in flight that it stands for.
    pub(crate) watched: PerThreadCounter,
    /// Those of them that have been answered.
    pub(crate) responded: PerThreadCounter,
    state: Mutex<ControllerState>,
    /// Apart from the state, so that it can be read, and the limit set, while the law thinks. Held for a copy's time.
    changes: Mutex<Changes>,
    epoch: Instant,
    /// When the open window is due, in nanoseconds since `epoch`.
    due: AtomicU64,
    /// One request in `mask + 1` is measured; `mask + 1` is a power of two.
    mask: AtomicUsize,
    window: Duration,
    min: usize,
    max: usize,
}

#[derive(Debug)]
struct ControllerState {
    /// `None` once it has panicked: then the limit stays where it is.
    controller: Option<Box<dyn Controller>>,
    opened: Instant,
    admitted: usize,
    completed: usize,
    refused: usize,
    finished: Vec<Finished>,
    samples: Vec<Sample>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Finished {
    pub(crate) sample: Sample,
    /// One in two to the power of this was measured when it was admitted.
    pub(crate) rarity: u8,
    /// Up to which rarity it is among them.
    pub(crate) drawn: u8,
}

/// Where this many of a window's requests would be measured, one in twice as many is; below a quarter, one in half as many.
/// A percentile from 256 samples is within 2 percentage points two times in three, which is finer than any law reads.
const MANY_SAMPLES: usize = 256;

/// What a lane holds at most, where many finish at once.
const LANE_SAMPLES: usize = 2 * MANY_SAMPLES;

impl Sampler {
    pub(crate) fn new(controller: Box<dyn Controller>, limits: RangeInclusive<usize>) -> Self {
        let now = Instant::now();
        let window = controller.window();
        Self {
            finished: PerThread::new(),
            watched: PerThreadCounter::new(),
            responded: PerThreadCounter::new(),
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
        }
    }

    pub(crate) fn limits(&self) -> RangeInclusive<usize> {
        self.min..=self.max
    }

    /// Whether the request is measured that is the `nth` one admitted on its thread.
    #[inline]
    pub(crate) fn measures(&self, nth: usize) -> bool {
        chance(nth) as usize & self.mask.load(Ordering::Relaxed) == 0
    }

    /// A request was refused.
    pub(crate) fn refused(&self, meter: &impl Meter, now: &Now) {
        self.close_if_due(meter, self.since_epoch(now.get()));
    }

    pub(crate) fn note(&self, change: LimitChange) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.push(change);
    }

    pub(crate) fn changes(&self) -> Vec<LimitChange> {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes.to_vec()
    }

    pub(crate) fn record(&self, meter: &impl Meter, finished: Finished, now: u64) {
        if let Ok(mut lane) = self.finished.own().0.try_lock() {
            if lane.len() < LANE_SAMPLES {
                lane.push(finished);
            }
        }
        self.close_if_due(meter, now);
    }

    pub(crate) fn close_if_due(&self, meter: &impl Meter, now: u64) {
        // Relaxed: the lock on the law decides who closes the window, this only saves most from trying.
        let is_due = || now >= self.due.load(Ordering::Relaxed);
        if !is_due() {
            return;
        }
        if let Ok(mut state) = self.state.try_lock() {
            if is_due() {
                // First, so that nobody else tries while the law thinks.
                let next = now.saturating_add(nanos(self.window));
                self.due.store(next, Ordering::Relaxed);
                self.close_window(meter, &mut state, self.at(now));
            }
        }
    }

    /// In nanoseconds since its epoch, as all times here that a request pays for.
    pub(crate) fn now(&self) -> u64 {
        self.since_epoch(Instant::now())
    }

    fn since_epoch(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch))
    }

    pub(crate) fn at(&self, since_epoch: u64) -> Instant {
        self.epoch + Duration::from_nanos(since_epoch)
    }

    fn close_window(&self, meter: &impl Meter, state: &mut ControllerState, now: Instant) {
        for lane in self.finished.iter() {
            // One that is being written to is for the next window.
            if let Ok(mut lane) = lane.try_lock() {
                state.finished.append(&mut lane);
            }
        }
        state.take_alike();
        meter.measured(&state.samples);

        let reading = meter.reading();
        let responded = self.responded(reading.in_flight);
        let waiting = reading.in_flight - responded;
        let elapsed = now.saturating_duration_since(state.opened);
        let came = reading.admitted.saturating_sub(state.admitted);
        self.measure_fewer_or_more(came, elapsed);
        // It never goes back, as the sum of an estimate over time could.
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

        if let Some(controller) = &mut state.controller {
            // A law that panics is somebody's bug, but not of the request that happened to close the window.
            match catch_unwind(AssertUnwindSafe(|| controller.update(&window))) {
                Ok(decision) => {
                    let limit = decision.limit.clamp(self.min, self.max);
                    if limit != reading.limit && meter.move_limit(reading.limit, limit) {
                        meter.changed(LimitChange::of(&window, limit, decision.reason));
                    }
                }
                // Nor is one that panics again when it is dropped.
                Err(_) => drop(catch_unwind(AssertUnwindSafe(|| state.controller = None))),
            }
        }
        state.opened = now;
        state.admitted = reading.admitted;
        state.completed = completed;
        state.refused = refused;
    }

    /// How many of those `in_flight` have been answered: as many as of those that are measured.
    fn responded(&self, in_flight: usize) -> usize {
        // Lanes that are written to meanwhile may show an end before its beginning: less than 0.
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

    /// One in two to the power of this is measured.
    pub(crate) fn rarity(&self) -> u8 {
        self.mask.load(Ordering::Relaxed).count_ones() as u8
    }

    /// By how many came in, and not by how many samples there are: what is decided now shows in those a request's time later.
    fn measure_fewer_or_more(&self, admitted: usize, elapsed: Duration) {
        if elapsed.is_zero() {
            return;
        }
        let a_window = admitted as f64 * self.window.div_duration_f64(elapsed);
        let mut mask = self.mask.load(Ordering::Relaxed);
        // A step at a time: at the beginning of a flood there are few answers, and each tells much.
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
    /// Makes samples of those that would have been measured at the rarest of their shares, too. Otherwise, when more are
    /// measured than before, too many would be quick: the slow ones of those are still inside, and those who
    /// came in before them are few.
    fn take_alike(&mut self) {
        let rarest = self.finished.iter().map(|one| one.rarity).max();
        self.samples.clear();
        for one in self.finished.drain(..) {
            if Some(one.drawn) >= rarest {
                self.samples.push(one.sample);
            }
        }
    }
}

/// Not simply every eighth one is measured: where eight callers take turns, that would be the same caller's.
fn chance(nth: usize) -> u32 {
    (spread(nth as u64) >> 32) as u32
}

/// Where one in two to the power of this is measured, or more, the `nth` one is.
pub(crate) fn drawn(nth: usize) -> u8 {
    chance(nth).trailing_zeros() as u8
}
