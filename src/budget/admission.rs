//! How a budget admits or refuses a request.

use std::cell::Cell;

use tokio::time::Instant;

use super::budget::Budget;
use crate::{
    admission::{
        claim::{Claim, Mode, Refused},
        count::{
            count::{Denied, Gate},
            marks::Marked,
            sharing::is_probe,
        },
        counted_units::CountedUnits,
        permit::CountPermit,
        shared_permit::SharedPermit,
        verdict::Verdict,
    },
    retry_after::{
        refusal::{Counts, Refusal, Unit},
        retry_after::RetryAfter,
    },
    shed::{Reason, Shed},
    support::clock::Now,
    threshold::criticality::Criticality,
};

/// A refusal that is counted, and not yet sent to the caller.
#[must_use]
pub(crate) struct Counted<'a> {
    pub(super) budget: &'a Budget,
    pub(super) refused: &'a Refused,
    /// The position in the sequence of retry hints.
    nth: u64,
    pub(super) now: Now,
}

/// The decision upon a request that finds the gate shut.
enum AtGate {
    Admitted,
    /// Runs uncounted: 2³¹ units are in flight, and the request is never refused.
    Uncounted,
    Refused(Reason),
}

impl Budget {
    /// Decides upon a request that passes a layer. A refusal is counted once it is final: see [`refused`](Self::refused).
    ///
    /// `held` is the permit of this budget that an outer layer has.
    #[inline]
    pub(crate) fn admit(
        &self,
        claim: &Claim,
        mode: Mode<'_>,
        held: Option<&SharedPermit>,
    ) -> Result<CountPermit, Refused> {
        if claim.threshold.is_exempt() {
            self.pass(claim, mode, held);
            return Ok(CountPermit::EMPTY);
        }
        if let Some(held) = held {
            return self
                .admit_held(held, claim, mode)
                .map(|()| CountPermit::EMPTY);
        }
        let told = match mode {
            Mode::Enforce => return self.acquire_or_probe::<true>(claim),
            Mode::DryRun(told) => told,
        };
        let admitted = self.acquire_or_probe::<true>(claim);
        admitted.or_else(|refused| {
            // The drain is a decision of the budget, not of the layer: a dry run enforces it.
            if refused.reason == Reason::Draining {
                told.set(None);
                return Err(refused);
            }
            self.count.at_gate(|| match self.count.drain.refuses() {
                true => {
                    told.set(None);
                    Err(Refused::new(Reason::Draining, claim, claim.tenant()))
                }
                false => Ok(self.acquire_or_mark(claim, refused, told)),
            })
        })
    }

    /// Decides in a dry run upon a request that does not fit beside all that is in flight: without what is marked. A request that
    /// does not fit either is counted and marked.
    #[cold]
    fn acquire_or_mark(
        &self,
        claim: &Claim,
        refused: Refused,
        told: &Cell<Option<Verdict>>,
    ) -> CountPermit {
        // In no tenant's share.
        let marked = CountedUnits {
            marked: true,
            tenant: None,
            ..CountedUnits::of(self.count, claim)
        };
        let permit = |counted: bool| match counted {
            true => marked.into(),
            false => CountPermit::EMPTY,
        };
        if self.count.queue.has_priority_over(claim) {
            let counted = self.count.count_marked(claim.units);
            self.would_refuse(&refused, told);
            return permit(counted);
        }
        let entry = self.enter(*claim, Instant::now);
        let cap = |limit| claim.cap(limit, entry.share);
        let Err(Marked { level, counted }) = self.count.acquire_or_mark(claim.units, cap) else {
            let permit = entry.units.into();
            self.tell_admitted();
            return permit;
        };
        let refused = self.leave_shares(entry, *claim, level, 0);
        self.would_refuse(&refused, told);
        permit(counted)
    }

    /// Returns the claim for no more units than it may use: see [`Claim::within`].
    #[inline]
    pub(crate) fn bound(&self, claim: Claim) -> Claim {
        claim.within(self.count.limit())
    }

    /// Counts an exempt request, unless an outer layer in dry run would have refused it: enforced, it would not be here.
    fn pass(&self, claim: &Claim, mode: Mode<'_>, held: Option<&SharedPermit>) {
        let is_marked = || {
            let held = held.and_then(SharedPermit::held);
            held.is_some_and(|held| held.marked)
        };
        match mode {
            Mode::DryRun(told) if is_marked() => told.set(None),
            _ => self.inner.counters.exempt.add(claim.units),
        }
    }

    /// Returns whether the request that was just admitted with `permit` is measured.
    #[inline]
    pub(crate) fn measures(&self, permit: &CountPermit) -> bool {
        self.sampler().is_some_and(|sampler| {
            permit.is_unmarked_of(self.count)
                && sampler.measures(self.inner.counters.admitted_here())
        })
    }

    /// Counts a request, if its units fit, no waiter has priority over it, and the budget does not refuse all new requests.
    // By reference, so that the claim is read field by field, as it was just written. A copy of the whole would wait until all
    // its fields are in the cache, which costs as much as an atomic operation.
    #[inline]
    pub(crate) fn acquire(&self, claim: &Claim) -> Result<CountPermit, Refused> {
        self.acquire_or_probe::<false>(claim)
    }

    /// [`acquire`](Self::acquire), where some requests are to find out whether a layer is nested in itself.
    #[inline]
    fn acquire_or_probe<const PROBES: bool>(&self, claim: &Claim) -> Result<CountPermit, Refused> {
        let admitted = match claim.caller {
            None => match self.count.admit(claim.units, claim.threshold, Gate::Stops) {
                Ok(nth) => Ok((CountedUnits::of(self.count, claim), nth)),
                Err(Denied::Gated) => Err(None),
                Err(Denied::Full(_)) => Err(Some(Refused::new(Reason::Utilization, claim, None))),
            },
            Some(_) => self.acquire_within_band(claim, Gate::Stops),
        };
        // Each arm returns by itself: a common end would copy the result once more.
        let (units, nth) = match admitted {
            Ok(admitted) => admitted,
            // 2³¹ units are in flight, and this request is never refused: it runs uncounted.
            Err(Some(_)) if claim.threshold.is_never_shed() => return Ok(CountPermit::EMPTY),
            Err(Some(refused)) => return Err(refused),
            Err(None) => {
                return match self.acquire_at_gate(claim) {
                    AtGate::Admitted => {
                        let permit = CountedUnits::of(self.count, claim).into();
                        self.tell_admitted();
                        Ok(permit)
                    }
                    AtGate::Uncounted => Ok(CountPermit::EMPTY),
                    AtGate::Refused(reason) => Err(Refused::new(reason, claim, claim.tenant())),
                };
            }
        };
        let permit = match PROBES && is_probe(nth) && !self.count.may_be_shared() {
            true => CountPermit::probe(units, claim.as_threshold()),
            false => units.into(),
        };
        self.tell_admitted();
        Ok(permit)
    }

    /// Decides where the gate is shut: a waiter may have priority, or the budget drain.
    // It returns a byte: a whole result would be copied, also where the gate is open.
    #[cold]
    #[inline(never)]
    fn acquire_at_gate(&self, claim: &Claim) -> AtGate {
        self.count.decide_at_gate(claim, |reason| {
            if let Some(reason) = reason {
                return AtGate::Refused(reason);
            }
            // Serves for all claims: without a caller, the band is the threshold.
            match self.acquire_within_band(claim, Gate::Passes) {
                Ok(_) => AtGate::Admitted,
                Err(_) if claim.threshold.is_never_shed() => AtGate::Uncounted,
                Err(refused) => {
                    AtGate::Refused(refused.map_or(Reason::Utilization, |refused| refused.reason))
                }
            }
        })
    }

    /// Returns an error without a refusal if the request stops at the gate.
    // A function of its own, as its code would slow down all other requests.
    #[inline(never)]
    fn acquire_within_band(
        &self,
        claim: &Claim,
        gate: Gate,
    ) -> Result<(CountedUnits, usize), Option<Refused>> {
        let entry = self.enter(*claim, Instant::now);
        let cap = |limit| claim.cap(limit, entry.share);
        match self.count.admit(claim.units, cap, gate) {
            Ok(nth) => Ok((entry.units, nth)),
            Err(Denied::Full(level)) => Err(Some(self.leave_shares(entry, *claim, level, 0))),
            Err(Denied::Gated) => {
                entry.units.leave_shares();
                Err(None)
            }
        }
    }

    /// Counts a refusal.
    pub(crate) fn refused<'a>(&'a self, refused: &'a Refused) -> Counted<'a> {
        let now = Now::default();
        self.count.stalls.sweep_if_due(&now);
        let nth = self.inner.counters.refuse(refused.units);
        if refused.reason == Reason::Draining {
            self.inner.counters.draining.add(refused.units);
        } else {
            self.missed(refused);
        }
        self.tell_refused(Verdict::Refused(refused.reason), &now);
        Counted {
            budget: self,
            refused,
            nth,
            now,
        }
    }

    /// Tells metrics and events of a request that was admitted. Its permit is made before: a subscriber may panic.
    #[inline]
    pub(crate) fn tell_admitted(&self) {
        self.inner.observed.admitted(&*self.inner);
    }

    /// Tells metrics, events and the sampler of a refusal. While no request finishes, refusals are all that closes a window.
    ///
    /// A fixed budget has no sampler, and reads the clock only with the feature `tracing`.
    pub(crate) fn tell_refused(&self, verdict: Verdict, now: &Now) {
        self.inner.observed.refused(&*self.inner, verdict, now);
        if let Some(sampler) = self.sampler() {
            sampler.refused(self, now);
        }
    }
}

impl Counted<'_> {
    /// Returns the refusal with its retry hint.
    pub(crate) fn shed(&self, retry_after: &RetryAfter, unit: Unit, class: Criticality) -> Shed {
        let (budget, refused) = (self.budget, self.refused);
        let in_flight = budget.unmarked_level().in_flight;
        let counters = &budget.inner.counters;
        let counts = || {
            let admitted = counters.admitted_units();
            Counts {
                completed: admitted.saturating_sub(in_flight as usize),
                arrived: admitted.wrapping_add(counters.refused_units()),
            }
        };
        let refusal = Refusal {
            nth: self.nth,
            class,
            unit,
            units: refused.units,
            in_flight,
            now: &self.now,
        };
        let hint = retry_after.hint(&budget.inner.schedule, refusal, counts);
        budget.inner.observed.hinted(hint.wait());
        Shed::new(refused.reason, class, hint)
    }
}
