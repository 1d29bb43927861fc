use tokio::time::Instant;

use super::budget::Budget;
use crate::{
    admission::{
        claim::{Claim, Refused},
        counted_units::CountedUnits,
        shares::shares::{Seen, Shares},
        word::Level,
    },
    shed::Reason,
};

/// A request that has entered the shares, and is about to be decided upon.
pub(crate) struct Entry {
    /// What is counted if the request is admitted.
    pub(crate) units: CountedUnits,
    /// How far along its admission band its tenant's fair share lets it go, from 0 to 1.
    pub(crate) share: f32,
}

impl Budget {
    /// Makes the shares, if there are none.
    pub(crate) fn make_shares(&self) {
        self.count.shares.claim();
    }

    /// Enters the shares. The clock is read only if the claim has a tenant and the budget has shares.
    #[inline]
    pub(crate) fn enter(&self, claim: Claim, now: impl FnOnce() -> Instant) -> Entry {
        let units = CountedUnits::of(self.count, &claim);
        let share = match (units.tenant, self.count.shares()) {
            (Some(tenant), Some(shares)) => {
                let cost = claim.units;
                self.looked(shares, now()).enter(tenant, cost, cost)
            }
            _ => 1.0,
        };
        Entry { units, share }
    }

    /// [`enter`](Self::enter) for a request that an outer layer has counted already. It counts against one share only: that of
    /// the tenant that the outermost layer names.
    pub(crate) fn enter_again(
        &self,
        held: CountedUnits,
        claim: Claim,
        now: impl FnOnce() -> Instant,
    ) -> Entry {
        let tenant = held.tenant.or(claim.tenant());
        let units = CountedUnits {
            units: claim.units,
            tenant,
            ..held
        };
        let mut share = 1.0;
        if let (Some(tenant), Some(shares)) = (tenant, self.count.shares()) {
            let more = claim.units - held.tenant.map_or(0, |_| held.units);
            let allowed = self.looked(shares, now()).enter(tenant, more, claim.units);
            if claim.tenant().is_some() {
                share = allowed;
            }
        }
        Entry { units, share }
    }

    /// Leaves the shares, as the request was refused at this level, which includes `held` units of the request itself.
    #[cold]
    pub(crate) fn leave_shares(
        &self,
        Entry { units, share }: Entry,
        claim: Claim,
        level: Level,
        held: u32,
    ) -> Refused {
        units.leave_shares();
        let by_share = share < 1.0 && level.admits(held, claim.units, claim.cap(level.limit, 1.0));
        let reason = match by_share {
            true => Reason::Share,
            false => Reason::Utilization,
        };
        Refused::new(reason, &claim, units.tenant)
    }

    /// Notes in the shares that a request was refused, or would have been: its tenant would have used these units, too.
    pub(crate) fn missed(&self, refused: &Refused) {
        if let (Some(tenant), Some(shares)) = (refused.tenant, self.count.shares()) {
            shares.refused(tenant, refused.units);
        }
    }

    fn looked<'a>(&self, shares: &'a Shares, now: Instant) -> &'a Shares {
        shares.look_if_due(now, || Seen {
            in_flight: self.unmarked_level().in_flight,
            admitted: self.inner.counters.admitted_units(),
        });
        shares
    }
}
