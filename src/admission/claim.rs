//! What a request asks of a budget, and how it may be told no.

use std::cell::Cell;

use super::shares::shares::Tenant;
use crate::{
    admission::verdict::Verdict,
    control::controller::MAX_LIMIT,
    shed::Reason,
    threshold::{band::Band, threshold::Threshold},
};

/// What one request asks of a budget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) threshold: Threshold,
    /// What it costs, at least 1.
    pub(crate) units: u32,
    /// `None` where it does not matter who asks.
    pub(crate) caller: Option<Caller>,
}

/// Whom a claim is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) band: Band,
    /// In whose share it is.
    pub(crate) tenant: Option<Tenant>,
}

impl Claim {
    /// One without a cost counts as one that costs 1, and none costs more than the largest limit: see [`within`](Self::within).
    pub(crate) fn of(threshold: Threshold, units: usize) -> Self {
        let units = units.clamp(1, MAX_LIMIT) as u32;
        Self {
            units,
            ..threshold.into()
        }
    }

    /// The same, for no more than it may use: then it runs alone among its like, whatever it is said to cost, and leaves
    /// what is above its threshold to others. What a caller claims goes into hints and control laws, too.
    pub(crate) fn within(self, limit: u32) -> Self {
        let most = self.threshold.cap(limit).min(limit).max(1);
        let units = self.units.min(most);
        Self { units, ..self }
    }

    /// How many may be in flight at most under `limit`, where its tenant's share lets it go so far along its stretch.
    #[inline]
    pub(crate) fn cap(self, limit: u32, share: f32) -> u32 {
        let stop = self.threshold.cap(limit);
        match self.caller {
            Some(caller) if !self.threshold.is_never_shed() => caller.band.cap(stop, limit, share),
            _ => stop,
        }
    }

    /// The same as it was refused, to be asked again: for all that it costs, in the share that it is in.
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

    /// Claims in the order of what they may use of a budget, to nine digits.
    #[inline]
    pub(crate) fn priority(&self) -> u32 {
        match self.caller {
            None => self.threshold.priority(),
            Some(_) => self.priority_of_caller(),
        }
    }

    // Apart, so that this is inlined for all others.
    #[cold]
    fn priority_of_caller(&self) -> u32 {
        self.cap(Threshold::HIGHEST_PRIORITY, 1.0)
    }

    /// A threshold of the same rank.
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

/// Whether a refusal is one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode<'a> {
    Enforce,
    /// It is not, and what has become of the request is told here. `None`: it would never have come.
    DryRun(&'a Cell<Option<Verdict>>),
}

/// There was no room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    /// What it has asked for in all: an outer layer may have said that it costs more than the one that refuses it knows of,
    pub(crate) units: u32,
    /// and in whose share it is.
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
