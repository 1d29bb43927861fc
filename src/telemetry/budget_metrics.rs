//! Figures, through the `metrics` facade.

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
    routes::Routes,
};
use crate::{admission::verdict::Verdict, control::controller::Sample, shed::Reason};

/// What a budget counts for its figures alone. All else is in its tally anyway.
#[derive(Debug, Default)]
pub(crate) struct BudgetMetrics {
    pub(crate) hints: Hints,
    /// Requests refused because of a share, and those that a dry run would have.
    pub(crate) by_share: [AtomicU64; 2],
    changes: Mutex<Changes>,
    pub(crate) routes: Routes,
    /// Under which it was first published. A name that it is given later comes too late.
    pub(crate) label: OnceLock<Shown>,
    /// Made with the first sample: one allocation in a budget's life.
    pub(crate) latencies: OnceLock<Latencies>,
}

/// The sum of the hints given, in milliseconds. On a line of its own, as each refusal writes to it.
#[derive(Debug, Default)]
pub(crate) struct Hints(pub(crate) CachePadded<AtomicU64>);

/// How often the limit was changed, by reason.
pub(crate) type Changes = BTreeMap<&'static str, u64>;

#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) label: Text,
    /// The number in it, if the budget has no name.
    pub(crate) number: Option<usize>,
}

/// A controller's author may have more reasons than [`Decision`](crate::control::controller::Decision) asks for, but no more series.
pub(crate) const MOST_REASONS: usize = 32;

impl BudgetMetrics {
    pub(crate) fn hinted(&self, hint: Duration) {
        let millis = u64::try_from(hint.as_millis()).unwrap_or(u64::MAX);
        // Relaxed: a sum that orders nothing.
        self.hints.0.fetch_add(millis, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, verdict: Verdict) {
        let by_share = match verdict {
            Verdict::Refused(Reason::Share) => &self.by_share[0],
            Verdict::WouldRefuse(Reason::Share) => &self.by_share[1],
            _ => return,
        };
        // Relaxed, likewise.
        by_share.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn changed(&self, reason: &'static str) {
        add(&mut self.changes(), reason, 1);
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn label(&self) -> Option<&str> {
        self.label.get().map(|shown| &*shown.label)
    }

    pub(crate) fn measured(&self, samples: &[Sample]) {
        if !samples.is_empty() {
            let latencies = self.latencies.get_or_init(Latencies::new);
            samples.iter().for_each(|sample| latencies.add(sample));
        }
    }

    pub(crate) fn changes(&self) -> std::sync::MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn add(changes: &mut Changes, reason: &'static str, count: u64) {
    let is_one_too_many = changes.len() >= MOST_REASONS && !changes.contains_key(reason);
    let reason = if is_one_too_many { OTHER } else { reason };
    *changes.entry(reason).or_default() += count;
}
