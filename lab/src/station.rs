//! The stations of servers: which calls are served, and when their work is done.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

/// The number of an attempt.
pub(crate) type CallId = u64;

/// Nanoseconds, and nanoseconds since the beginning of the run.
pub(crate) type Nanos = u64;

/// The calls at one station. The state reads no clock: the simulation passes the time, and asks for the next completion.
#[derive(Debug)]
pub(crate) enum StationState {
    Pool(Pool),
    Shared(Shared),
}

/// A pool of workers, and the queue of calls that wait for a worker.
#[derive(Debug)]
pub(crate) struct Pool {
    workers: usize,
    queue: VecDeque<(CallId, Nanos)>,
    busy: BinaryHeap<Reverse<(Nanos, CallId)>>,
    /// No call starts before.
    paused_until: Nanos,
}

/// Processor sharing: all calls are served at once, each with an equal share of the workers.
///
/// `worked` is a virtual time that advances at the speed of one call. A call is done when `worked` has advanced by its size.
#[derive(Debug)]
pub(crate) struct Shared {
    workers: f64,
    thrash: f64,
    at: Nanos,
    worked: f64,
    calls: BinaryHeap<Reverse<(Nanos, CallId)>>,
}

impl StationState {
    pub(crate) fn arrive(&mut self, call: CallId, size: Nanos, now: Nanos) {
        match self {
            Self::Pool(pool) => {
                pool.queue.push_back((call, size));
                pool.start_next(now);
            }
            Self::Shared(shared) => {
                shared.work_until(now);
                shared
                    .calls
                    .push(Reverse((shared.worked as Nanos + size, call)));
            }
        }
    }

    /// Returns when the next call is done, if nothing else happens before.
    pub(crate) fn next(&self) -> Option<Nanos> {
        match self {
            Self::Pool(pool) => pool.busy.peek().map(|Reverse((at, _))| *at),
            Self::Shared(shared) => shared.calls.peek().map(|Reverse((at, _))| {
                let left = (*at as f64 - shared.worked).max(0.0);
                shared.at + (left / shared.speed()).ceil() as Nanos
            }),
        }
    }

    /// Removes the call whose completion [`next`](Self::next) announced.
    pub(crate) fn finish(&mut self, now: Nanos) -> Option<CallId> {
        match self {
            Self::Pool(pool) => {
                let Reverse((_, call)) = pool.busy.pop()?;
                pool.start_next(now);
                Some(call)
            }
            Self::Shared(shared) => {
                shared.work_until(now);
                shared.calls.pop().map(|Reverse((_, call))| call)
            }
        }
    }

    /// Sets the number of workers. A worker that is removed from a pool finishes its call first.
    pub(crate) fn set_workers(&mut self, workers: usize, now: Nanos) {
        match self {
            Self::Pool(pool) => {
                pool.workers = workers;
                pool.start_next(now);
            }
            Self::Shared(shared) => {
                shared.work_until(now);
                shared.workers = workers as f64;
            }
        }
    }

    /// Stops all work for so long, that of calls in service included.
    pub(crate) fn pause(&mut self, now: Nanos, lasts: Nanos) {
        match self {
            Self::Pool(pool) => pool.pause(now, lasts),
            Self::Shared(shared) => {
                shared.work_until(now);
                shared.at = now + lasts;
            }
        }
    }
}

impl Pool {
    /// Calls in service are done as much later as the pause lasts.
    fn pause(&mut self, now: Nanos, lasts: Nanos) {
        self.paused_until = now + lasts;
        let later = |Reverse((at, call))| Reverse((at + lasts, call));
        self.busy = self.busy.drain().map(later).collect();
    }

    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers,
            queue: VecDeque::new(),
            busy: BinaryHeap::new(),
            paused_until: 0,
        }
    }

    fn start_next(&mut self, now: Nanos) {
        while self.busy.len() < self.workers {
            let Some((call, size)) = self.queue.pop_front() else {
                return;
            };
            let starts = now.max(self.paused_until);
            self.busy.push(Reverse((starts + size, call)));
        }
    }
}

impl Shared {
    pub(crate) fn new(workers: usize, thrash: f64) -> Self {
        Self {
            workers: workers as f64,
            thrash,
            at: 0,
            worked: 0.0,
            calls: BinaryHeap::new(),
        }
    }

    /// Returns the speed of one call: 1 where each call has a worker to itself.
    fn speed(&self) -> f64 {
        let contention = self.calls.len() as f64 / self.workers;
        if contention <= 1.0 {
            return 1.0;
        }
        1.0 / (contention * (1.0 + self.thrash * (contention - 1.0)))
    }

    fn work_until(&mut self, now: Nanos) {
        self.worked += now.saturating_sub(self.at) as f64 * self.speed();
        // In a pause, `at` is the end of the pause.
        self.at = self.at.max(now);
    }
}
