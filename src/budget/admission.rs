//! The way of a request through a budget: in, once more where layers are nested, or not at all.

use super::{
    Budget, Claim, Mode, Place, Refused,
    count::Level,
    held::{self, Shown, Taken},
};
use crate::{
    observe::Decision,
    retry_after::{Counts, Refusal, RetryAfter, Unit},
    shed::{Reason, Shed},
    threshold::Criticality,
};

impl Budget {
    /// Decides upon one request that passes a layer. A refusal is counted once it is final: see
    /// [`refused`](Self::refused).
    #[inline]
    pub(crate) fn admit(&self, claim: &Claim, mode: Mode<'_>) -> Result<Place, Refused> {
        if claim.threshold.is_exempt() {
            self.pass(claim, mode);
            return Ok(Place::default());
        }
        if let Some(decided) = held::find(|shown| self.decide_again(shown, claim, mode)) {
            return decided.map(|()| Place::default());
        }
        self.acquire(claim).or_else(|refused| {
            let ghost = self.refuse(claim, refused, mode)?;
            Ok(ghost.map(Place::from).unwrap_or_default())
        })
    }

    /// Counts one that is exempt; but not in a dry run that has refused it further out, and would not have seen it here.
    fn pass(&self, claim: &Claim, mode: Mode<'_>) {
        let is_ghost = |shown: &Shown| {
            let held = shown.place.get()?;
            held.is_of(self.inner.ghosts).then_some(())
        };
        match mode {
            Mode::DryRun(told) if held::find(is_ghost).is_some() => told.set(None),
            _ => self.inner.tally.exempt.add(claim.units),
        }
    }

    /// Whether the request is measured that has just been admitted to `place`.
    #[inline]
    pub(crate) fn measures(&self, place: &Place) -> bool {
        self.sampler().is_some_and(|sampler| {
            place.is_of(self.count) && sampler.measures(self.inner.tally.admitted_here())
        })
    }

    /// Decides upon a request for which an outer layer of this budget has decided before. `None` if what is shown is not
    /// of this budget.
    #[inline(never)]
    fn decide_again(
        &self,
        shown: &Shown,
        claim: &Claim,
        mode: Mode<'_>,
    ) -> Option<Result<(), Refused>> {
        let held = shown.place.get()?;
        if held.is_of(self.inner.ghosts) {
            // In the real run it would never have come here. A layer that enforces protects all the same.
            let Mode::DryRun(told) = mode else {
                return None;
            };
            told.set(None);
            return Some(Ok(()));
        }
        held.is_of(self.count).then(|| {
            // Of what the layers say that it costs, the most.
            let units = claim.units.max(held.units);
            let claim = Claim { units, ..*claim };
            let entry = self.enter_again(held, claim);
            match self.keep(held, claim, entry.share) {
                Ok(level) => {
                    self.inner.tally.charge(units - held.units);
                    let rank = held.rank.min(claim.rank());
                    shown.place.set(Some(Taken {
                        rank,
                        ..entry.taken
                    }));
                    // Only a law asks for it.
                    if self.sampler().is_some() {
                        let cap = claim.threshold.cap(level.limit);
                        shown.cap.set(shown.cap.get().min(cap));
                    }
                    Ok(())
                }
                Err(level) => {
                    // It has left the count: the outer layer must find nothing to give back.
                    self.inner.tally.withdraw(held.units);
                    shown.place.set(None);
                    let refused = self.leave_shares(entry, claim, level, held.units);
                    if claim.threshold.is_never() {
                        // It needs more than can be counted, and is never to be refused: it runs uncounted.
                        return Ok(());
                    }
                    let ghost = self.refuse(&claim, refused, mode)?;
                    shown.place.set(ghost);
                    Ok(())
                }
            }
        })
    }

    /// As [`Count::keep`](super::count::Count::keep); but not where somebody waits for room: it has not stood in line for what it asks for here, where
    /// an outer layer has let it in for the asking of more.
    fn keep(&self, held: Taken, claim: Claim, share: f32) -> Result<Level, Level> {
        if held.rank > claim.rank() && self.count.line.goes_before(&claim) {
            let level = self.level();
            self.count.release(held.units);
            return Err(level);
        }
        let cap = |limit| claim.cap(limit, share);
        self.count.keep(held.units, claim.units, cap)
    }

    // By reference: a claim that has just been put together field by field is read the same way. To copy it whole is to
    // wait until all of its fields are in the cache, which costs as much as an atomic operation.
    #[inline]
    pub(super) fn acquire(&self, claim: &Claim) -> Result<Place, Refused> {
        if self.count.line.goes_before(claim) {
            return Err(Refused::new(Reason::Utilization, claim, claim.tenant()));
        }
        if claim.caller.is_some() {
            return self.acquire_for(*claim);
        }
        let (count, units, threshold) = (self.count, claim.units, claim.threshold);
        match count.acquire(units, |limit| threshold.cap(limit)) {
            Ok(_) => {
                self.inner.observed.admitted(self);
                let taken = Taken {
                    count,
                    units,
                    rank: threshold.rank(),
                    tenant: None,
                };
                Ok(taken.into())
            }
            // 2³¹ are in flight, and this one is never to be refused: it runs uncounted.
            Err(_) if threshold.is_never() => Ok(Place::default()),
            Err(_) => Err(Refused::new(Reason::Utilization, claim, None)),
        }
    }

    /// Where it matters who asks. Apart, as it would be in the way of all others.
    #[inline(never)]
    fn acquire_for(&self, claim: Claim) -> Result<Place, Refused> {
        let entry = self.enter(claim);
        let cap = |limit| claim.cap(limit, entry.share);
        match self.count.acquire(claim.units, cap) {
            Ok(_) => {
                self.inner.observed.admitted(self);
                Ok(entry.taken.into())
            }
            Err(level) => {
                let refused = self.leave_shares(entry, claim, level, 0);
                match claim.threshold.is_never() {
                    true => Ok(Place::default()),
                    false => Err(refused),
                }
            }
        }
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, claim: Claim, refused: Refused) {
        self.inner.tally.refused.add(claim.units);
        self.missed(&claim);
        self.tell_refused(Decision::Refused(refused.reason));
    }

    /// That of a dry run is counted, and a place among the ghosts.
    #[cold]
    fn refuse(
        &self,
        claim: &Claim,
        refused: Refused,
        mode: Mode<'_>,
    ) -> Result<Option<Taken>, Refused> {
        match mode {
            Mode::Enforce => Err(refused),
            Mode::DryRun(told) => {
                let decision = Decision::WouldRefuse(refused.reason);
                told.set(Some(decision));
                let claim = claim.refused(&refused);
                self.inner.tally.would_refuse.add(claim.units);
                self.missed(&claim);
                self.tell_refused(decision);
                let (count, units) = (self.inner.ghosts, 1);
                let is_counted = count.acquire(units, |_| u32::MAX).is_ok();
                let taken = Taken {
                    count,
                    units,
                    rank: u32::MAX,
                    tenant: None,
                };
                Ok(is_counted.then_some(taken))
            }
        }
    }

    /// Where everything hangs, refusals are all that a law hears of. A fixed budget has none, and reads no clock (but
    /// with the feature `tracing`).
    fn tell_refused(&self, decision: Decision) {
        self.inner.observed.refused(self, decision);
        if let Some(sampler) = self.sampler() {
            sampler.refused(self);
        }
    }

    /// What one refused caller is told.
    pub(crate) fn shed(
        &self,
        retry_after: RetryAfter,
        unit: Unit,
        class: Criticality,
        units: u32,
    ) -> Shed {
        let in_flight = self.level().in_flight;
        let tally = &self.inner.tally;
        let counts = || {
            let admitted = tally.admitted_units();
            Counts {
                completed: admitted.saturating_sub(in_flight as usize),
                arrived: admitted.wrapping_add(tally.refused.units()),
            }
        };
        let refusal = Refusal {
            nth: tally.refused.get() as u64,
            class,
            unit,
            units,
            in_flight,
        };
        let hint = retry_after.hint(&self.inner.line, refusal, counts);
        self.inner.observed.hinted(hint.wait);
        Shed::new(Reason::Utilization, class, hint)
    }
}
