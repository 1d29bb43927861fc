use super::budget::Budget;
use crate::{
    admission::{
        claim::{Claim, Refused},
        count::word::Level,
        held::CountedUnits,
        shares::shares::{Seen, Shares},
    },
    shed::Reason,
    threshold::threshold::Threshold,
};

/// A request that is about to be decided upon.
pub(crate) struct Entry {
    /// What it takes if it is admitted.
    pub(crate) taken: CountedUnits,
    /// How far along its stretch its tenant's share lets it go.
    pub(crate) share: f32,
}

impl Budget {
    /// From now on it has shares.
    pub(crate) fn make_shares(&self) {
        self.count.make_shares();
    }

    #[inline]
    pub(crate) fn enter(&self, claim: Claim) -> Entry {
        let taken = CountedUnits::of(self.count, &claim);
        let units = claim.units;
        let share = match (taken.tenant, self.count.shares()) {
            (Some(tenant), Some(shares)) => self.looked(shares).enter(tenant, units, units),
            _ => 1.0,
        };
        Entry { taken, share }
    }

    /// [`enter`](Self::enter) for one that has a place already, by an outer layer. It is in one share only, that of the
    /// tenant that the outermost layer names.
    pub(crate) fn enter_again(&self, held: CountedUnits, claim: Claim) -> Entry {
        let units = claim.units;
        let tenant = held.tenant.or(claim.tenant());
        let taken = CountedUnits {
            units,
            threshold: lower(held.threshold, claim.as_threshold()),
            tenant,
            ..held
        };
        let mut share = 1.0;
        if let (Some(tenant), Some(shares)) = (tenant, self.count.shares()) {
            let more = units - held.tenant.map_or(0, |_| held.units);
            let allowed = self.looked(shares).enter(tenant, more, units);
            if claim.tenant().is_some() {
                share = allowed;
            }
        }
        Entry { taken, share }
    }

    /// It has not been admitted at this level, that has `held` units of its own in it.
    #[cold]
    pub(crate) fn leave_shares(
        &self,
        Entry { taken, share }: Entry,
        claim: Claim,
        level: Level,
        held: u32,
    ) -> Refused {
        taken.leave_shares();
        let by_share =
            share < 1.0 && level.has_room(held, claim.units, claim.cap(level.limit, 1.0));
        let reason = match by_share {
            true => Reason::Share,
            false => Reason::Utilization,
        };
        Refused::new(reason, &claim, taken.tenant)
    }

    /// One was refused for good, or would have been: its tenant would have had that, too.
    pub(crate) fn missed(&self, refused: &Refused) {
        if let (Some(tenant), Some(shares)) = (refused.tenant, self.count.shares()) {
            shares.refused(tenant, refused.units);
        }
    }

    fn looked<'a>(&self, shares: &'a Shares) -> &'a Shares {
        shares.look_if_due(|| Seen {
            in_flight: self.level().in_flight,
            admitted: self.inner.counters.admitted_units(),
        });
        shares
    }
}

fn lower(a: Threshold, b: Threshold) -> Threshold {
    if a.priority() < b.priority() { a } else { b }
}
