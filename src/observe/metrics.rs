//! Figures, through the `metrics` facade.

pub(crate) mod series;
pub(crate) mod write;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub(crate) use self::write::write;

use super::{Decision, OTHER, Text, histogram::Latencies, routes::Routes};
use crate::{control::controller::Sample, shed::Reason};

/// What a budget counts for its figures alone. All else is in its tally anyway.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    hints: Hints,
    /// Requests refused because of a share, and those that a dry run would have.
    by_share: [AtomicU64; 2],
    changes: Mutex<Changes>,
    pub(crate) routes: Routes,
    /// Under which it was first published. A name that it is given later comes too late.
    label: OnceLock<Shown>,
    /// Made with the first sample: one allocation in a budget's life.
    latencies: OnceLock<Latencies>,
}

/// The sum of the hints given, in milliseconds. On a line of its own, as each refusal writes to it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Hints(AtomicU64);

/// How often the limit was changed, by reason.
type Changes = BTreeMap<&'static str, u64>;

#[derive(Debug)]
struct Shown {
    label: Text,
    /// The number in it, if the budget has no name.
    number: Option<usize>,
}

/// A controller's author may have more reasons than [`Decision`](crate::control::controller::Decision) asks for, but no more series.
const MOST_REASONS: usize = 32;

impl Figures {
    pub(crate) fn hinted(&self, hint: Duration) {
        let millis = u64::try_from(hint.as_millis()).unwrap_or(u64::MAX);
        // Relaxed: a sum that orders nothing.
        self.hints.0.fetch_add(millis, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, decision: Decision) {
        let by_share = match decision {
            Decision::Refused(Reason::Share) => &self.by_share[0],
            Decision::WouldRefuse(Reason::Share) => &self.by_share[1],
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

    fn changes(&self) -> std::sync::MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(changes: &mut Changes, reason: &'static str, count: u64) {
    let is_one_too_many = changes.len() >= MOST_REASONS && !changes.contains_key(reason);
    let reason = if is_one_too_many { OTHER } else { reason };
    *changes.entry(reason).or_default() += count;
}
