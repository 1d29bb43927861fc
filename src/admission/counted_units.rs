use super::{claim::Claim, count::count::Count, shares::shares::Tenant};
use crate::threshold::rounded::RoundedThreshold;

/// The units that a count has counted for a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CountedUnits {
    pub(crate) count: &'static Count,
    pub(crate) units: u32,
    /// The tenant whose fair share they count against.
    pub(crate) tenant: Option<Tenant>,
    /// The threshold under which they were admitted.
    pub(crate) admitted_under: RoundedThreshold,
    /// Whether a dry run would have refused them: they are among the marks of the count.
    pub(crate) marked: bool,
    /// Whether the response shares its connection with others, so that it may stall before its body is polled even once.
    pub(crate) multiplexed: bool,
}

impl CountedUnits {
    /// Returns the units of a claim.
    #[inline]
    pub(crate) fn of(count: &'static Count, claim: &Claim) -> Self {
        Self {
            count,
            units: claim.units,
            tenant: claim.tenant(),
            admitted_under: claim.threshold.into(),
            marked: false,
            multiplexed: false,
        }
    }

    /// Returns one unit without a tenant.
    #[inline]
    pub(crate) fn one(count: &'static Count, admitted_under: RoundedThreshold) -> Self {
        Self {
            count,
            units: 1,
            tenant: None,
            admitted_under,
            marked: false,
            multiplexed: false,
        }
    }

    pub(crate) fn release(self) {
        // The shares first: once the count is empty, it may be another budget's.
        self.leave_shares();
        if self.marked {
            self.count.release_marked(self.units);
        } else {
            self.count.release(self.units);
        }
    }

    #[inline]
    pub(crate) fn leave_shares(self) {
        if let (Some(tenant), Some(shares)) = (self.tenant, self.count.shares()) {
            shares.leave(tenant, self.units);
        }
    }
}
