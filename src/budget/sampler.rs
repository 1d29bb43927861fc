//! From finished requests to windows, and from windows to limits.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::Budget;
use crate::control::{Controller, Outcome, Sample, Window};

/// Measures requests, and shows them to the law a window at a time.
///
/// No lock is shared by all requests: a finished request puts its sample into the stripe of its thread, and goes
/// without where another thread is at that stripe. The request that finds the window due closes it, alone.
#[derive(Debug)]
pub(super) struct Sampler {
    stripes: Box<[Stripe]>,
    law: Mutex<Law>,
    epoch: Instant,
    /// When the open window is due, in nanoseconds since `epoch`.
    due: AtomicU64,
    /// One request in `mask + 1` is measured; `mask + 1` is a power of two.
    mask: AtomicUsize,
    window: Duration,
    min: usize,
    max: usize,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(Mutex<Vec<Sample>>);

#[derive(Debug)]
struct Law {
    /// `None` once it has panicked: then the limit stays where it is.
    controller: Option<Box<dyn Controller>>,
    opened: Instant,
    completed: usize,
    refused: usize,
    samples: Vec<Sample>,
}

/// As many threads as a large machine has work on it at once; more share.
const STRIPES: usize = 8;

/// Above this many samples a window, one in twice as many requests is measured; below a quarter, one in half as many.
/// A percentile from 256 samples is within 2 percentage points two times in three, which is finer than any law reads.
const MANY_SAMPLES: usize = 256;

/// What a stripe holds at most: enough for one busy thread to say by itself that the samples are too many.
const STRIPE_SAMPLES: usize = 2 * MANY_SAMPLES;

impl Sampler {
    pub(super) fn new(controller: Box<dyn Controller>) -> Self {
        let now = Instant::now();
        let (limits, window) = (controller.limits(), controller.window());
        Self {
            stripes: (0..STRIPES).map(|_| Stripe::default()).collect(),
            law: Mutex::new(Law {
                controller: Some(controller),
                opened: now,
                completed: 0,
                refused: 0,
                samples: Vec::new(),
            }),
            epoch: now,
            due: AtomicU64::new(nanos(window)),
            mask: AtomicUsize::new(0),
            window,
            min: *limits.start(),
            max: *limits.end(),
        }
    }

    pub(super) fn limits(&self) -> std::ops::RangeInclusive<usize> {
        self.min..=self.max
    }

    /// Whether the request is measured that was admitted after `earlier` others.
    #[inline]
    pub(super) fn measures(&self, earlier: usize) -> bool {
        earlier & self.mask.load(Ordering::Relaxed) == 0
    }

    fn record(&self, budget: &Budget, sample: Sample) {
        let now = sample.admitted_at + sample.latency;
        if let Ok(mut samples) = self.stripes[stripe()].0.try_lock() {
            if samples.len() < STRIPE_SAMPLES {
                samples.push(sample);
            }
        }
        // Relaxed: the lock on the law decides who closes the window, this only saves most from trying.
        let since_epoch = nanos(now.saturating_duration_since(self.epoch));
        if since_epoch >= self.due.load(Ordering::Relaxed) {
            if let Ok(mut law) = self.law.try_lock() {
                if since_epoch >= self.due.load(Ordering::Relaxed) {
                    self.close_window(budget, &mut law, now);
                    let next = since_epoch.saturating_add(nanos(self.window));
                    self.due.store(next, Ordering::Relaxed);
                }
            }
        }
    }

    fn close_window(&self, budget: &Budget, law: &mut Law, now: Instant) {
        let mut samples = std::mem::take(&mut law.samples);
        samples.clear();
        for stripe in &self.stripes {
            samples.append(&mut stripe.0.lock().unwrap_or_else(PoisonError::into_inner));
        }
        self.measure_fewer_or_more(samples.len());

        let snapshot = budget.snapshot();
        let completed = snapshot.admitted.saturating_sub(snapshot.in_flight);
        let refused = snapshot.refused + snapshot.would_refuse;
        let mut window = Window::new(now, snapshot.limit);
        window.elapsed = now.saturating_duration_since(law.opened);
        window.in_flight = snapshot.in_flight;
        window.completed = completed.saturating_sub(law.completed);
        window.refused = refused.saturating_sub(law.refused);
        window.samples = &samples;

        if let Some(controller) = &mut law.controller {
            // A law that panics is somebody's bug, but not of the request that happened to close the window.
            match catch_unwind(AssertUnwindSafe(|| controller.update(&window))) {
                Ok(decision) => budget.move_limit(decision.limit.clamp(self.min, self.max)),
                Err(_) => law.controller = None,
            }
        }
        law.opened = now;
        law.completed = completed;
        law.refused = refused;
        law.samples = samples;
    }

    fn measure_fewer_or_more(&self, samples: usize) {
        let mask = self.mask.load(Ordering::Relaxed);
        let next = match samples {
            n if n > MANY_SAMPLES => mask << 1 | 1,
            n if n < MANY_SAMPLES / 4 => mask >> 1,
            _ => mask,
        };
        self.mask.store(next, Ordering::Relaxed);
    }
}

fn nanos(duration: Duration) -> u64 {
    // 584 years fit.
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// This thread's stripe.
fn stripe() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static STRIPE: Cell<Option<usize>> = const { Cell::new(None) };
    }
    STRIPE.with(|own| {
        own.get().unwrap_or_else(|| {
            let next = THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES;
            own.set(Some(next));
            next
        })
    })
}

/// The measurement of one request, from its admission on.
#[derive(Debug)]
pub(super) struct Probe {
    budget: Budget,
    sample: Sample,
}

impl Probe {
    /// `unfinished` is what its drop says, where nobody tells the outcome.
    pub(super) fn new(budget: Budget, sample: Sample) -> Self {
        Self { budget, sample }
    }

    pub(super) fn finish(mut self, outcome: Outcome) {
        self.sample.outcome = outcome;
        self.dropped();
    }

    /// Nobody told the outcome: it is the one that the measurement began with.
    pub(super) fn dropped(mut self) {
        let now = Instant::now();
        self.sample.latency = now.saturating_duration_since(self.sample.admitted_at);
        if self.sample.outcome == Outcome::Success && std::thread::panicking() {
            self.sample.outcome = Outcome::Ignored;
        }
        if let Some(sampler) = self.budget.sampler() {
            sampler.record(&self.budget, self.sample);
        }
    }
}
