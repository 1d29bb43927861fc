//! Nested layers of one budget: the inner layer decides again upon a request that the outer layer has counted.

use tokio::time::Instant;

use super::budget::Budget;
use crate::admission::{
    claim::{Claim, Mode, Refused},
    count::word::Level,
    held::{CountedUnits, Shown},
};

impl Budget {
    /// Decides upon a request that an outer layer of this budget has counted. Returns `None` if the permit shown is of another
    /// budget.
    #[inline(never)]
    pub(crate) fn decide_again(
        &self,
        shown: &Shown,
        claim: &Claim,
        mode: Mode<'_>,
    ) -> Option<Result<(), Refused>> {
        if let Some(held) = shown.of(self.count) {
            return Some(self.decide_upon_held(held, shown, claim, mode));
        }
        shown.of(self.inner.shadow)?;
        // Enforced, the request would not be here. A layer that enforces decides upon it all the same.
        let Mode::DryRun(told) = mode else {
            return None;
        };
        told.set(None);
        Some(Ok(()))
    }

    fn decide_upon_held(
        &self,
        held: CountedUnits,
        shown: &Shown,
        claim: &Claim,
        mode: Mode<'_>,
    ) -> Result<(), Refused> {
        // The highest cost that a layer states.
        let units = claim.units.max(held.units);
        let claim = Claim { units, ..*claim };
        let entry = self.enter_again(held, claim, Instant::now);
        match self.keep(held, claim, entry.share) {
            Ok(_) => {
                self.inner.counters.charge(units - held.units);
                shown.set(Some(entry.taken));
                // Only a sampler reads it.
                if self.sampler().is_some() {
                    let priority = claim.threshold.priority();
                    shown.priority.set(shown.priority.get().min(priority));
                }
                Ok(())
            }
            Err(level) => {
                // The request has left the count: the outer layer must find no permit to release.
                self.inner.counters.withdraw(held.units);
                shown.set(None);
                let refused = self.leave_shares(entry, claim, level, held.units);
                if claim.threshold.is_never_shed() {
                    // The request needs more units than can be counted, and is never refused: it runs uncounted.
                    return Ok(());
                }
                match mode {
                    Mode::Enforce => Err(refused),
                    Mode::DryRun(told) => {
                        shown.set(self.would_refuse(&refused, told));
                        Ok(())
                    }
                }
            }
        }
    }

    /// As [`Count::keep`](crate::admission::count::count::Count::keep), unless a waiter has priority. The request was not queued
    /// under the lower threshold that it has here, as an outer layer has admitted it under a higher threshold.
    fn keep(&self, held: CountedUnits, claim: Claim, share: f32) -> Result<Level, Level> {
        if held.threshold.priority() > claim.priority()
            && self.count.queue.has_priority_over(&claim)
        {
            let level = self.level();
            self.count.release(held.units);
            return Err(level);
        }
        let cap = |limit| claim.cap(limit, share);
        self.count.keep(held.units, claim.units, cap)
    }
}
