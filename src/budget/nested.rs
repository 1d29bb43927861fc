//! Nested layers of one budget: the inner layer decides again upon a request that the outer layer has counted.

use std::cell::Cell;

use tokio::time::Instant;

use super::{budget::Budget, entry::Entry};
use crate::{
    admission::{
        claim::{Claim, Mode, Refused},
        counted_units::CountedUnits,
        permit::CountPermit,
        shared_permit::{SharedPermit, Standing},
        verdict::Verdict,
        word::Level,
    },
    support::clock::Now,
    threshold::threshold::Threshold,
};

/// A refusal of a request that holds a permit, or what a dry run says to it.
struct Adverse {
    refused: Refused,
    /// What is still in the count, of a request that is no longer.
    unreleased: Option<CountedUnits>,
}

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
        match decided {
            Some(Ok(())) => return Ok(()),
            // Without the lock of the permit: wakers, controllers, subscribers and sweeps may call any code.
            Some(Err(adverse)) => return self.follow(adverse, claim, mode),
            None => {}
        }
        // An inner layer has refused it before, and it comes once more. It costs no less than before.
        let units = claim.units.max(permit.units());
        let claim = &Claim { units, ..*claim };
        let again = self.admit(claim, mode, None)?;
        permit.lower(claim.as_threshold());
        drop(
            permit
                .admit_again(again.into_units())
                .map(CountPermit::from),
        );
        Ok(())
    }

    /// Has others know of an adverse decision: waiters, to which the units go, or what tells of a dry run.
    fn follow(&self, adverse: Adverse, claim: &Claim, mode: Mode<'_>) -> Result<(), Refused> {
        if let Mode::DryRun(told) = mode {
            self.would_refuse(&adverse.refused, told);
            return Ok(());
        }
        match adverse.unreleased {
            Some(units) => units.release(),
            None => self.count.serve_waiters(),
        }
        // The request needs more units than can be counted, and is never refused: it runs uncounted.
        match claim.threshold.is_never_shed() {
            true => Ok(()),
            false => Err(adverse.refused),
        }
    }

    /// Decides upon units that are in the count. The permit is locked: see [`SharedPermit::decide`].
    fn decide_again(
        &self,
        held: CountedUnits,
        threshold: Threshold,
        claim: &Claim,
        mode: Mode<'_>,
    ) -> (Standing, Threshold, Result<(), Adverse>) {
        // The highest cost that a layer states.
        let units = claim.units.max(held.units);
        let claim = Claim { units, ..*claim };
        let entry = self.enter_again(held, claim, Instant::now);
        let is_behind_waiters =
            threshold.priority() > claim.priority() && self.count.queue.has_priority_over(&claim);
        let kept = self.keep(held, claim, &entry, is_behind_waiters, mode);
        let level = match kept {
            Ok(()) => {
                if !held.marked {
                    self.inner.counters.charge(units - held.units);
                }
                let lower = threshold.lower(claim.as_threshold());
                return (Standing::Held(entry.units), lower, Ok(()));
            }
            Err(level) => level,
        };
        let refused = self.leave_shares(entry, claim, level, held.units);
        if !held.marked {
            self.inner.counters.withdraw(held.units);
        }
        // It has left the shares with the entry.
        let shareless = CountedUnits {
            tenant: None,
            ..held
        };
        let standing = match mode {
            Mode::DryRun(_) => Standing::Held(CountedUnits {
                marked: true,
                ..shareless
            }),
            Mode::Enforce if claim.threshold.is_never_shed() => Standing::Uncounted,
            Mode::Enforce => Standing::Refused(held),
        };
        let is_counted = is_behind_waiters && matches!(mode, Mode::Enforce);
        let adverse = Adverse {
            refused,
            unreleased: is_counted.then_some(shareless),
        };
        (standing, threshold, Err(adverse))
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
            // It is released later, without the lock of the permit.
            Mode::Enforce if is_behind_waiters => Err(self.level()),
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
