//! Layers of one budget, one inside of the other: the inner one decides once more upon what the outer one has counted.

use super::budget::Budget;
use crate::admission::{
    claim::{Claim, Mode, Refused},
    count::word::Level,
    held::{CountedUnits, Shown},
};

impl Budget {
    /// Decides upon a request for which an outer layer of this budget has decided before. `None` if what is shown is not
    /// of this budget.
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
        // In the real run it would never have come here. A layer that enforces protects all the same.
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
        // Of what the layers say that it costs, the most.
        let units = claim.units.max(held.units);
        let claim = Claim { units, ..*claim };
        let entry = self.enter_again(held, claim);
        match self.keep(held, claim, entry.share) {
            Ok(_) => {
                self.inner.counters.charge(units - held.units);
                shown.set(Some(entry.taken));
                // Only a law asks for it.
                if self.sampler().is_some() {
                    let priority = claim.threshold.priority();
                    shown.priority.set(shown.priority.get().min(priority));
                }
                Ok(())
            }
            Err(level) => {
                // It has left the count: the outer layer must find nothing to give back.
                self.inner.counters.withdraw(held.units);
                shown.set(None);
                let refused = self.leave_shares(entry, claim, level, held.units);
                if claim.threshold.is_never_shed() {
                    // It needs more than can be counted, and is never to be refused: it runs uncounted.
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

    /// As [`Count::keep`](crate::admission::count::count::Count::keep); but not where somebody waits for room: it has not stood in line for
    /// what it asks for here, where an outer layer has let it in for the asking of more.
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
