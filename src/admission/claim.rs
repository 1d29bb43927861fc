//! A request's claim on a budget, and its refusal.

use std::cell::Cell;

use super::{shares::shares::Tenant, verdict::Verdict};
use crate::{
    control::controller::MAX_LIMIT,
    shed::Reason,
    threshold::{band::Band, threshold::Threshold},
};

/// A request's claim on a budget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) threshold: Threshold,
    /// The cost of the request, at least 1.
    pub(crate) units: u32,
    /// `None` unless the layer tells callers or tenants apart.
    pub(crate) caller: Option<Caller>,
}

/// The caller of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) band: Band,
    /// The tenant whose fair share the request counts against.
    pub(crate) tenant: Option<Tenant>,
}

impl Claim {
    /// Creates a claim for `units`, at least 1 and at most the largest limit.
    pub(crate) fn of(threshold: Threshold, units: usize) -> Self {
        let units = units.clamp(1, MAX_LIMIT) as u32;
        Self {
            units,
            ..threshold.into()
        }
    }

    /// Returns the claim for at most the units that its threshold allows under `limit`.
    ///
    /// A request of any cost then fits while no other request of its threshold is in flight, and the capacity above its threshold
    /// stays free. It also bounds what the cost that a caller states adds to retry hints and to a controller's windows.
    pub(crate) fn within(self, limit: u32) -> Self {
        let most = self.threshold.cap(limit).min(limit).max(1);
        let units = self.units.min(most);
        Self { units, ..self }
    }

    /// Returns the most units that may be in flight under `limit`, the request's own included. `share`, from 0 to 1, says how far
    /// the tenant's fair share lets the request go along its admission band.
    #[inline]
    pub(crate) fn cap(self, limit: u32, share: f32) -> u32 {
        let stop = self.threshold.cap(limit);
        match self.caller {
            Some(caller) if !self.threshold.is_never_shed() => caller.band.cap(stop, limit, share),
            _ => stop,
        }
    }

    /// Returns the claim of a refused request for a second decision, with the units and the tenant of the refusal.
    pub(crate) fn again(self, refused: &Refused) -> Self {
        let Refused { units, tenant, .. } = *refused;
        let whole = Band::of(&[self.threshold], 0, 1.0);
        let band = self.caller.map_or(whole, |caller| caller.band);
        let caller = tenant.map(|_| Caller { band, tenant }).or(self.caller);
        Self {
            units,
            caller,
            ..self
        }
    }

    /// Returns the priority: how much of a budget the request may use, to nine digits.
    #[inline]
    pub(crate) fn priority(&self) -> u32 {
        match self.caller {
            None => self.threshold.priority(),
            Some(_) => self.priority_of_caller(),
        }
    }

    // A function of its own, so that `priority` is inlined without it.
    #[cold]
    fn priority_of_caller(&self) -> u32 {
        self.cap(Threshold::HIGHEST_PRIORITY, 1.0)
    }

    /// Returns a threshold of the same priority.
    #[inline]
    pub(crate) fn as_threshold(&self) -> Threshold {
        match self.caller {
            None => self.threshold,
            Some(_) => Threshold::of_priority(self.priority()),
        }
    }

    #[inline]
    pub(crate) fn tenant(&self) -> Option<Tenant> {
        self.caller.and_then(|caller| caller.tenant)
    }
}

impl From<Threshold> for Claim {
    #[inline]
    fn from(threshold: Threshold) -> Self {
        Self {
            threshold,
            units: 1,
            caller: None,
        }
    }
}

/// How a layer treats a request that its budget refuses.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode<'a> {
    Enforce,
    /// Admits it, and writes the verdict to the cell. `None`: there is no verdict of this layer. Either an outer layer in dry run
    /// has refused the request, so it would not have reached this layer; or the budget drains, and refuses it all the same.
    DryRun(&'a Cell<Option<Verdict>>),
}

/// A refusal of a request by its budget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    /// The units asked for in all. An outer layer may state a higher cost than the layer that refuses.
    pub(crate) units: u32,
    /// The tenant whose fair share the request counts against.
    pub(crate) tenant: Option<Tenant>,
}

impl Refused {
    pub(crate) fn new(reason: Reason, claim: &Claim, tenant: Option<Tenant>) -> Self {
        Self {
            reason,
            units: claim.units,
            tenant,
        }
    }
}
