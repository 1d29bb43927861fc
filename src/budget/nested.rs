//! Nested layers of one budget: the inner layer decides again upon a request that the outer layer has counted.

use std::cell::Cell;

use tokio::time::Instant;

use super::{budget::Budget, entry::Entry};
use crate::{
    admission::{
        claim::{Claim, Mode, Refused},
        count::word::Level,
        counted_units::CountedUnits,
        permit::CountPermit,
        shared_permit::{SharedPermit, Standing},
        verdict::Verdict,
    },
    support::clock::Now,
    threshold::threshold::Threshold,
};

impl Budget {
    /// Decides upon a request that holds a permit of this budget, from an outer layer.
    #[cold]
    pub(crate) fn admit_held(
        &self,
        permit: &SharedPermit,
        claim: &Claim,
        mode: Mode<'_>,
    ) -> Result<(), Refused> {
        let decided = permit.decide(|held, threshold| match mode {
            // Enforced, the request would not be here.
            Mode::DryRun(told) if held.marked => {
                told.set(None);
                (Standing::Held(held), threshold, Ok(()))
            }
            _ => self.decide_again(held, threshold, claim, mode),
        });
        if let Some(decided) = decided {
            return decided;
        }
        // An inner layer has refused it before, and it comes once more.
        let again = self.admit(claim, mode, None)?;
        permit.lower(claim.as_threshold());
        drop(
            permit
                .admit_again(again.into_units())
                .map(CountPermit::from),
        );
        Ok(())
    }

    fn decide_again(
        &self,
        held: CountedUnits,
        threshold: Threshold,
        claim: &Claim,
        mode: Mode<'_>,
    ) -> (Standing, Threshold, Result<(), Refused>) {
        // The highest cost that a layer states.
        let units = claim.units.max(held.units);
        let claim = Claim { units, ..*claim };
        let entry = self.enter_again(held, claim, Instant::now);
        let is_behind_waiters =
            threshold.priority() > claim.priority() && self.count.queue.has_priority_over(&claim);
        let kept = self.keep(held, claim, &entry, is_behind_waiters, mode);
        let level = match kept {
            Ok(()) => {
                self.inner.counters.charge(units - held.units);
                let lower = threshold.lower(claim.as_threshold());
                return (Standing::Held(entry.units), lower, Ok(()));
            }
            Err(level) => level,
        };
        let refused = self.leave_shares(entry, claim, level, held.units);
        if !held.marked {
            self.inner.counters.withdraw(held.units);
        }
        match mode {
            Mode::DryRun(told) => {
                let marked = CountedUnits {
                    marked: true,
                    tenant: None,
                    ..held
                };
                self.would_refuse(&refused, told);
                (Standing::Held(marked), threshold, Ok(()))
            }
            // The request needs more units than can be counted, and is never refused: it runs uncounted.
            Mode::Enforce if claim.threshold.is_never_shed() => {
                (Standing::Uncounted, threshold, Ok(()))
            }
            Mode::Enforce => (Standing::Refused(held), threshold, Err(refused)),
        }
    }

    /// As [`Count::keep`](crate::admission::count::count::Count::keep), unless a waiter has priority. The request was not queued
    /// under the lower threshold that it has here, as an outer layer has admitted it under a higher threshold.
    ///
    /// A dry run decides without what is marked, and marks a request that would be refused.
    fn keep(
        &self,
        held: CountedUnits,
        claim: Claim,
        entry: &Entry,
        is_behind_waiters: bool,
        mode: Mode<'_>,
    ) -> Result<(), Level> {
        let (count, units) = (self.count, held.units);
        let cap = |limit| claim.cap(limit, entry.share);
        match mode {
            Mode::Enforce if is_behind_waiters => {
                let level = self.level();
                // It leaves the shares with the entry.
                CountedUnits {
                    tenant: None,
                    ..held
                }
                .release();
                Err(level)
            }
            Mode::Enforce if held.marked => count.keep_marked(units, claim.units, cap).map(drop),
            Mode::Enforce => count.keep(units, claim.units, cap).map(drop),
            Mode::DryRun(_) if is_behind_waiters => {
                count.mark(units);
                Err(self.unmarked_level())
            }
            Mode::DryRun(_) => count.keep_or_mark(units, claim.units, cap),
        }
    }

    /// Counts a refusal by a dry run. The request runs.
    #[cold]
    pub(crate) fn would_refuse(&self, refused: &Refused, told: &Cell<Option<Verdict>>) {
        let verdict = Verdict::WouldRefuse(refused.reason);
        told.set(Some(verdict));
        let now = Now::default();
        self.count.stalls.sweep_if_due(&now);
        self.inner.counters.would_refuse.add(refused.units);
        self.missed(refused);
        self.tell_refused(verdict, &now);
    }
}
