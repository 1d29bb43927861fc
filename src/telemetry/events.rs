//! Events, through `tracing`: a handful, whatever happens.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crossbeam_utils::CachePadded;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::observable::Observable;
use crate::{
    report::LimitChange,
    support::clock::{Now, nanos},
};

/// As long without a refusal, and shedding has stopped. Longer than callers are told to wait who come back soon, so
/// that an overload whose callers return in waves is one.
const CALM: Duration = Duration::from_secs(10);

/// Whether a budget sheds, and since when.
///
/// # Memory ordering
///
/// `Relaxed`: what an episode is made of is behind the lock, and the words in front only save most from trying it.
/// Nobody waits for it.
#[derive(Debug)]
pub(crate) struct Shedding {
    is_on: AtomicBool,
    epoch: Instant,
    last: Last,
    log: Mutex<Log>,
}

/// When a request was last refused, in nanoseconds since the epoch. On a line of its own, as each refusal writes to it.
#[derive(Debug)]
struct Last(CachePadded<AtomicU64>);

#[derive(Debug, Default)]
struct Log {
    /// `None` while nothing is shed.
    since: Option<Duration>,
    /// How many refusals, and how many of dry runs, earlier episodes have told of.
    told: [usize; 2],
}

impl Default for Shedding {
    fn default() -> Self {
        Self {
            is_on: AtomicBool::new(false),
            epoch: Instant::now(),
            last: Last(AtomicU64::new(0).into()),
            log: Mutex::default(),
        }
    }
}

impl Shedding {
    pub(crate) fn refused(&self, budget: &dyn Observable, now: &Now) {
        let now = now.get().saturating_duration_since(self.epoch);
        // A swap, so that one refusal alone finds that the last one was long ago.
        let before = Duration::from_nanos(self.last.0.swap(nanos(now), Ordering::Relaxed));
        if !self.is_on.load(Ordering::Relaxed) || is_calm(before, now) {
            self.turn(budget, before, now);
        }
    }

    /// A request that was not refused, or somebody who asks.
    #[inline]
    pub(crate) fn passed(&self, budget: &dyn Observable) {
        if self.is_on.load(Ordering::Relaxed) {
            self.check(budget);
        }
    }

    #[cold]
    fn check(&self, budget: &dyn Observable) {
        let now = self.now();
        if !is_calm(self.last(), now) {
            return;
        }
        if let Ok(mut log) = self.log.try_lock() {
            // Read again: somebody may have been refused since.
            let last = self.last();
            if is_calm(last, now) {
                self.stop(&mut log, budget, last);
            }
        }
    }

    /// The first refusal for a while.
    #[cold]
    fn turn(&self, budget: &dyn Observable, before: Duration, now: Duration) {
        let Ok(mut log) = self.log.try_lock() else {
            return;
        };
        if is_calm(before, now) {
            self.stop(&mut log, budget, before);
        }
        if log.since.is_none() {
            log.since = Some(now);
            self.is_on.store(true, Ordering::Relaxed);
            emit(|| log.log_start(budget));
        }
    }

    fn stop(&self, log: &mut Log, budget: &dyn Observable, last: Duration) {
        if let Some(since) = log.since.take() {
            self.is_on.store(false, Ordering::Relaxed);
            emit(|| log.log_stop(budget, last.saturating_sub(since)));
        }
    }

    fn last(&self) -> Duration {
        Duration::from_nanos(self.last.0.load(Ordering::Relaxed))
    }

    fn now(&self) -> Duration {
        Instant::now().saturating_duration_since(self.epoch)
    }
}

fn is_calm(last: Duration, now: Duration) -> bool {
    now.saturating_sub(last) >= CALM
}

impl Log {
    fn log_start(&self, budget: &dyn Observable) {
        let now = budget.snapshot();
        let change = LastChange::of(budget);
        warn!(
            target: "loadshed",
            budget = name(budget),
            limit = now.limit,
            in_flight = now.in_flight,
            refused = now.refused - self.told[0],
            would_refuse = now.would_refuse - self.told[1],
            limit_change = change.reason,
            limit_changed_seconds_ago = change.seconds_ago,
            advice = change.advice,
            "shedding has started"
        );
    }

    fn log_stop(&mut self, budget: &dyn Observable, lasted: Duration) {
        let now = budget.snapshot();
        let told = mem::replace(&mut self.told, [now.refused, now.would_refuse]);
        let change = LastChange::of(budget);
        info!(
            target: "loadshed",
            budget = name(budget),
            seconds = lasted.as_secs_f64(),
            refused = now.refused - told[0],
            would_refuse = now.would_refuse - told[1],
            limit = now.limit,
            in_flight = now.in_flight,
            limit_change = change.reason,
            limit_changed_seconds_ago = change.seconds_ago,
            "shedding has stopped"
        );
    }
}

/// The latest change of the limit, and advice for the person on call.
struct LastChange {
    reason: &'static str,
    seconds_ago: Option<f64>,
    advice: &'static str,
}

impl LastChange {
    fn of(budget: &dyn Observable) -> Self {
        let change = budget.last_change();
        Self {
            reason: change.map_or("no change", |change| change.reason),
            seconds_ago: change.map(|change| change.at.elapsed().as_secs_f64()),
            advice: if budget.learns() {
                "find the dependency that has become slow; if there is none, add capacity"
            } else {
                "find the dependency that has become slow; if there is none, add capacity and raise the limit with it"
            },
        }
    }
}

/// The limit was changed.
pub(crate) fn changed(budget: &dyn Observable, change: &LimitChange) {
    emit(|| {
        debug!(
            target: "loadshed",
            budget = name(budget),
            from = change.from,
            to = change.to,
            reason = change.reason,
            elapsed_seconds = change.elapsed.as_secs_f64(),
            in_flight = change.in_flight,
            responded = change.responded,
            completed = change.completed,
            refused = change.refused,
            successes = change.successes,
            latency_seconds = change.latency.as_secs_f64(),
            "the limit has changed"
        );
    });
}

fn name(budget: &dyn Observable) -> &str {
    #[cfg(feature = "metrics")]
    let label = || budget.metrics().label();
    #[cfg(not(feature = "metrics"))]
    let label = || None;
    budget.name().or_else(label).unwrap_or("unnamed")
}

/// A subscriber that panics costs neither a request nor the controller.
fn emit(event: impl FnOnce()) {
    drop(catch_unwind(AssertUnwindSafe(event)));
}
