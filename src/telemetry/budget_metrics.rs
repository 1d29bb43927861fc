//! The counts that a budget keeps for its metrics.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crossbeam_utils::CachePadded;

use super::{
    histogram::Latencies,
    label::{OTHER, Text},
    routes::RouteMetrics,
};
use crate::{admission::verdict::Verdict, control::controller::Sample, shed::Reason};

/// The counts of a budget that only its metrics need. The others are in its counters.
#[derive(Debug, Default)]
pub(crate) struct BudgetMetrics {
    pub(crate) hints: HintSum,
    /// The refusals for each reason but [`Reason::Utilization`], which has all others.
    pub(crate) refusals: Refusals<AtomicU64>,
    pub(crate) slow_uploads: AtomicU64,
    pub(crate) unwatched_uploads: AtomicU64,
    changes: Mutex<ChangeCounts>,
    pub(crate) routes: RouteMetrics,
    /// The label of the first publication. A name that the budget gets later does not change it.
    pub(crate) label: OnceLock<BudgetLabel>,
    /// Created with the first sample: one allocation in the life of a budget.
    pub(crate) latencies: OnceLock<Latencies>,
}

/// The sum of the retry hints given, in milliseconds. On its own cache line, as each refusal writes to it.
#[derive(Debug, Default)]
pub(crate) struct HintSum(pub(crate) CachePadded<AtomicU64>);

/// For each reason, in the order of [`Reason::ALL`]: requests refused, and requests that a dry run would have refused.
pub(crate) type Refusals<T> = [[T; 2]; Reason::ALL.len()];

/// The number of limit changes, by reason.
pub(crate) type ChangeCounts = BTreeMap<&'static str, u64>;

/// The label `budget` of a budget.
#[derive(Debug)]
pub(crate) struct BudgetLabel {
    pub(crate) text: Text,
    /// The number in the text, if the budget has no name.
    pub(crate) number: Option<usize>,
}

/// The most series of reasons: a bound for controllers with more reasons than
/// [`Decision`](crate::control::controller::Decision) asks for.
pub(crate) const MOST_REASONS: usize = 32;

impl BudgetMetrics {
    pub(crate) fn hinted(&self, hint: Duration) {
        let millis = u64::try_from(hint.as_millis()).unwrap_or(u64::MAX);
        // Relaxed: the sum orders no other memory access.
        self.hints.0.fetch_add(millis, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, verdict: Verdict) {
        let (reason, mode) = match verdict {
            Verdict::Refused(reason) => (reason, 0),
            Verdict::WouldRefuse(reason) => (reason, 1),
            _ => return,
        };
        if reason != Reason::Utilization {
            // Relaxed, likewise.
            self.refusals[reason as usize][mode].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn slow_uploads(&self, count: usize) {
        // Relaxed, likewise.
        self.slow_uploads.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn unwatched_upload(&self) {
        // Relaxed, likewise.
        self.unwatched_uploads.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn changed(&self, reason: &'static str) {
        add(&mut self.changes(), reason, 1);
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn label(&self) -> Option<&str> {
        self.label.get().map(|label| &*label.text)
    }

    pub(crate) fn measured(&self, samples: &[Sample]) {
        if !samples.is_empty() {
            let latencies = self.latencies.get_or_init(Latencies::new);
            samples.iter().for_each(|sample| latencies.add(sample));
        }
    }

    pub(crate) fn changes(&self) -> std::sync::MutexGuard<'_, ChangeCounts> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn add(changes: &mut ChangeCounts, reason: &'static str, count: u64) {
    let is_past_bound = changes.len() >= MOST_REASONS && !changes.contains_key(reason);
    let reason = if is_past_bound { OTHER } else { reason };
    *changes.entry(reason).or_default() += count;
}
