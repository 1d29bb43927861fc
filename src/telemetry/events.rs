//! Log events through `tracing`. Their number is bounded.

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
    control::controller::Learned,
    report::LimitChange,
    support::clock::{Now, nanos},
};

/// Shedding has stopped once there was no refusal for this long. It is longer than short retry hints, so that an overload whose
/// callers return in waves is one episode.
const QUIET_PERIOD: Duration = Duration::from_secs(10);

/// The state of shedding of a budget.
///
/// # Memory ordering
///
/// `Relaxed`: the state of an episode is behind the lock. The atomics in front of it only spare most requests the attempt to lock.
/// No request waits for the lock.
#[derive(Debug)]
pub(crate) struct Shedding {
    is_on: AtomicBool,
    epoch: Instant,
    last_refusal: LastRefusal,
    log: Mutex<Log>,
}

/// The time of the last refusal, in nanoseconds since the epoch. On its own cache line, as each refusal writes to it.
#[derive(Debug)]
struct LastRefusal(CachePadded<AtomicU64>);

#[derive(Debug, Default)]
struct Log {
    /// `None` while nothing is shed.
    since: Option<Duration>,
    /// The refusals, and the refusals of dry runs, that earlier events have reported.
    reported: [usize; 2],
}

impl Default for Shedding {
    fn default() -> Self {
        Self {
            is_on: AtomicBool::new(false),
            epoch: Instant::now(),
            last_refusal: LastRefusal(AtomicU64::new(0).into()),
            log: Mutex::default(),
        }
    }
}

impl Shedding {
    pub(crate) fn refused(&self, budget: &dyn Observable, now: &Now) {
        let now = now.get().saturating_duration_since(self.epoch);
        // A swap, so that only one refusal finds that the refusal before was long ago.
        let before = Duration::from_nanos(self.last_refusal.0.swap(nanos(now), Ordering::Relaxed));
        if !self.is_on.load(Ordering::Relaxed) || is_quiet(before, now) {
            self.start(budget, before, now);
        }
    }

    /// Checks whether shedding has stopped: after an admission, and at each publication.
    #[inline]
    pub(crate) fn passed(&self, budget: &dyn Observable) {
        if self.is_on.load(Ordering::Relaxed) {
            self.check(budget);
        }
    }

    #[cold]
    fn check(&self, budget: &dyn Observable) {
        let now = self.now();
        if !is_quiet(self.last_refusal(), now) {
            return;
        }
        if let Ok(mut log) = self.log.try_lock() {
            // Read again: there may have been a refusal meanwhile.
            let last = self.last_refusal();
            if is_quiet(last, now) {
                self.stop(&mut log, budget, last);
            }
        }
    }

    /// Notes the first refusal after a quiet period.
    #[cold]
    fn start(&self, budget: &dyn Observable, before: Duration, now: Duration) {
        let Ok(mut log) = self.log.try_lock() else {
            return;
        };
        if is_quiet(before, now) {
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

    fn last_refusal(&self) -> Duration {
        Duration::from_nanos(self.last_refusal.0.load(Ordering::Relaxed))
    }

    fn now(&self) -> Duration {
        Instant::now().saturating_duration_since(self.epoch)
    }
}

fn is_quiet(last: Duration, now: Duration) -> bool {
    now.saturating_sub(last) >= QUIET_PERIOD
}

impl Log {
    fn log_start(&self, budget: &dyn Observable) {
        let now = budget.snapshot();
        let change = LastChange::of(budget);
        let learned = Figures::of(now.learned);
        warn!(
            target: "loadshed",
            budget = name(budget),
            limit = now.limit,
            in_flight = now.in_flight,
            refused = now.refused - self.reported[0],
            would_refuse = now.would_refuse - self.reported[1],
            limit_change = change.reason,
            limit_changed_seconds_ago = change.seconds_ago,
            state = learned.state,
            service_time_seconds = learned.service_time_seconds,
            knee = learned.knee,
            held = learned.held,
            expected_held = learned.expected_held,
            advice = change.advice,
            "shedding has started"
        );
    }

    fn log_stop(&mut self, budget: &dyn Observable, lasted: Duration) {
        let now = budget.snapshot();
        let reported = mem::replace(&mut self.reported, [now.refused, now.would_refuse]);
        let change = LastChange::of(budget);
        let learned = Figures::of(now.learned);
        info!(
            target: "loadshed",
            budget = name(budget),
            seconds = lasted.as_secs_f64(),
            refused = now.refused - reported[0],
            would_refuse = now.would_refuse - reported[1],
            limit = now.limit,
            in_flight = now.in_flight,
            limit_change = change.reason,
            limit_changed_seconds_ago = change.seconds_ago,
            state = learned.state,
            service_time_seconds = learned.service_time_seconds,
            knee = learned.knee,
            held = learned.held,
            expected_held = learned.expected_held,
            "shedding has stopped"
        );
    }
}

/// The latest change of the limit, and advice for the operator.
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

/// The fields of an event that tell what a controller has learned. None of them has a value where nothing is known.
#[derive(Default)]
struct Figures {
    state: Option<&'static str>,
    service_time_seconds: Option<f64>,
    knee: Option<usize>,
    held: Option<usize>,
    expected_held: Option<usize>,
}

impl Figures {
    fn of(learned: Option<Learned>) -> Self {
        learned.map_or_else(Self::default, |learned| Self {
            state: Some(learned.state),
            service_time_seconds: learned.service_time.map(|time| time.as_secs_f64()),
            knee: learned.knee,
            held: Some(learned.held),
            expected_held: Some(learned.expected_held),
        })
    }
}

/// Logs a change of the limit.
pub(crate) fn changed(budget: &dyn Observable, change: &LimitChange) {
    emit(|| {
        let learned = Figures::of(change.learned);
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
            state = learned.state,
            service_time_seconds = learned.service_time_seconds,
            knee = learned.knee,
            held = learned.held,
            expected_held = learned.expected_held,
            "the limit has changed"
        );
    });
}

/// Logs that a budget begins to drain, or gets another grace.
pub(crate) fn drain_begun(budget: &dyn Observable, grace: Duration) {
    emit(|| {
        let now = budget.snapshot();
        info!(
            target: "loadshed",
            budget = name(budget),
            grace_seconds = grace.as_secs_f64(),
            in_flight = now.in_flight,
            waiting = now.waiting,
            "draining has begun"
        );
    });
}

/// Logs that a budget drains no longer.
pub(crate) fn drain_ended(budget: &dyn Observable) {
    emit(|| {
        let now = budget.snapshot();
        info!(
            target: "loadshed",
            budget = name(budget),
            in_flight = now.in_flight,
            "draining has ended"
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

/// Emits an event. A subscriber that panics stops neither a request nor the controller.
fn emit(event: impl FnOnce()) {
    drop(catch_unwind(AssertUnwindSafe(event)));
}
