//! How a budget admits or refuses a request.

use std::cell::Cell;

use tokio::time::Instant;

use super::budget::Budget;
use crate::{
    admission::{
        claim::{Claim, Mode, Refused},
        held::{self, CountPermit, CountedUnits},
        verdict::Verdict,
    },
    retry_after::{
        refusal::{Counts, Refusal, Unit},
        retry_after::RetryAfter,
    },
    shed::{Reason, Shed},
    support::clock::Now,
    threshold::{criticality::Criticality, threshold::Threshold},
};

/// A refusal that is counted, and not yet sent to the caller.
#[must_use]
pub(crate) struct Counted<'a> {
    budget: &'a Budget,
    refused: &'a Refused,
    now: Now,
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
    #[inline]
    pub(crate) fn admit(&self, claim: &Claim, mode: Mode<'_>) -> Result<CountPermit, Refused> {
        if claim.threshold.is_exempt() {
            self.pass(claim, mode);
            return Ok(CountPermit::default());
        }
        if let Some(decided) = held::find(|shown| self.decide_again(shown, claim, mode)) {
            return decided.map(|()| CountPermit::default());
        }
        let told = match mode {
            Mode::Enforce => return self.acquire(claim),
            Mode::DryRun(told) => told,
        };
        self.acquire(claim).or_else(|refused| {
            // The drain is a decision of the budget, not of the layer: a dry run enforces it.
            if refused.reason == Reason::Draining {
                told.set(None);
                return Err(refused);
            }
            let shadow = self.would_refuse(&refused, told);
            Ok(shadow.map(CountPermit::from).unwrap_or_default())
        })
    }

    /// Returns the claim for no more units than it may use: see [`Claim::within`].
    #[inline]
    pub(crate) fn bound(&self, claim: Claim) -> Claim {
        claim.within(self.count.limit())
    }

    /// Counts an exempt request, unless an outer layer in dry run has refused it: enforced, the request would not be here.
    fn pass(&self, claim: &Claim, mode: Mode<'_>) {
        let find_shadow = || held::find(|shown| shown.of(self.inner.shadow));
        match mode {
            Mode::DryRun(told) if find_shadow().is_some() => told.set(None),
            _ => self.inner.counters.exempt.add(claim.units),
        }
    }

    /// Returns whether the request that was just admitted with `permit` is measured.
    #[inline]
    pub(crate) fn measures(&self, permit: &CountPermit) -> bool {
        self.sampler().is_some_and(|sampler| {
            permit.is_of(self.count) && sampler.measures(self.inner.counters.admitted_here())
        })
    }

    /// Counts a request, if its units fit, no waiter has priority over it, and the budget does not refuse all new requests.
    // By reference, so that the claim is read field by field, as it was just written. A copy of the whole would wait until all
    // its fields are in the cache, which costs as much as an atomic operation.
    #[inline]
    pub(crate) fn acquire(&self, claim: &Claim) -> Result<CountPermit, Refused> {
        if !self.count.queue.gate_is_open() {
            return match self.acquire_at_gate(claim) {
                AtGate::Admitted => Ok(CountedUnits::of(self.count, claim).into()),
                AtGate::Uncounted => Ok(CountPermit::default()),
                AtGate::Refused(reason) => Err(Refused::new(reason, claim, claim.tenant())),
            };
        }
        // Each arm returns by itself: a common end would copy the result once more.
        let taken = match claim.caller {
            None => match self.count.acquire(claim.units, claim.threshold) {
                Ok(_) => CountedUnits::of(self.count, claim),
                // 2³¹ units are in flight, and this request is never refused: it runs uncounted.
                Err(_) if claim.threshold.is_never_shed() => return Ok(CountPermit::default()),
                Err(_) => return Err(Refused::new(Reason::Utilization, claim, None)),
            },
            Some(_) => match self.acquire_within_band(claim) {
                Ok(taken) => taken,
                Err(_) if claim.threshold.is_never_shed() => return Ok(CountPermit::default()),
                Err(refused) => return Err(refused),
            },
        };
        self.inner.observed.admitted(&*self.inner);
        Ok(taken.into())
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
            match self.acquire_within_band(claim) {
                Ok(_) => {
                    self.inner.observed.admitted(&*self.inner);
                    AtGate::Admitted
                }
                Err(_) if claim.threshold.is_never_shed() => AtGate::Uncounted,
                Err(refused) => AtGate::Refused(refused.reason),
            }
        })
    }

    // A function of its own, as its code would slow down all other requests.
    #[inline(never)]
    fn acquire_within_band(&self, claim: &Claim) -> Result<CountedUnits, Refused> {
        let entry = self.enter(*claim, Instant::now);
        let cap = |limit| claim.cap(limit, entry.share);
        match self.count.acquire(claim.units, cap) {
            Ok(_) => Ok(entry.taken),
            Err(level) => Err(self.leave_shares(entry, *claim, level, 0)),
        }
    }

    /// Counts a refusal.
    pub(crate) fn refused<'a>(&'a self, refused: &'a Refused) -> Counted<'a> {
        let now = Now::default();
        self.inner.counters.refuse(refused.units);
        if refused.reason == Reason::Draining {
            self.inner.counters.draining.add(refused.units);
        } else {
            self.missed(refused);
        }
        self.tell_refused(Verdict::Refused(refused.reason), &now);
        Counted {
            budget: self,
            refused,
            now,
        }
    }

    /// Counts a refusal by a dry run. The request runs, and its permit is of the shadow count.
    #[cold]
    pub(crate) fn would_refuse(
        &self,
        refused: &Refused,
        told: &Cell<Option<Verdict>>,
    ) -> Option<CountedUnits> {
        let decision = Verdict::WouldRefuse(refused.reason);
        told.set(Some(decision));
        self.inner.counters.would_refuse.add(refused.units);
        self.missed(refused);
        self.tell_refused(decision, &Now::default());
        let (shadow, never) = (self.inner.shadow, Threshold::NEVER_SHED);
        let is_counted = shadow.acquire(1, never).is_ok();
        is_counted.then(|| CountedUnits::of(shadow, &never.into()))
    }

    /// Tells metrics, events and the sampler of a refusal. While no request finishes, refusals are all that closes a window.
    ///
    /// A fixed budget has no sampler, and reads the clock only with the feature `tracing`.
    fn tell_refused(&self, verdict: Verdict, now: &Now) {
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
        let in_flight = budget.level().in_flight;
        let counters = &budget.inner.counters;
        let counts = || {
            let admitted = counters.admitted_units();
            Counts {
                completed: admitted.saturating_sub(in_flight as usize),
                arrived: admitted.wrapping_add(counters.refused_units()),
            }
        };
        let refusal = Refusal {
            nth: counters.nth_refused(),
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
