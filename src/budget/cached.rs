//! How a budget admits a request by a cached permit, without a look at the request.

use super::budget::Budget;
use crate::{
    admission::{count::sharing::is_probe, counted_units::CountedUnits, permit::CountPermit},
    threshold::rounded::RoundedThreshold,
};

impl Budget {
    /// Takes a permit that is cached on this thread, for a request of one unit that counts as admitted under `threshold` and has
    /// no tenant. Returns the units, and how many requests this thread has admitted.
    ///
    /// The caller knows that every threshold that may apply to the request reaches the
    /// [`ceiling`](crate::admission::count::cap::ceiling): a cached permit then fits. `None` if none is cached, as while a request
    /// waits or the budget drains, or if the permits of the budget may be shared.
    #[inline]
    pub(crate) fn admit_cached(
        &self,
        threshold: RoundedThreshold,
    ) -> Option<(CountedUnits, usize)> {
        let count = self.count;
        if count.may_be_shared() {
            return None;
        }
        let (stripe, writers) = count.own();
        stripe.take(1, &|_| u32::MAX)?;
        let nth = stripe.admitted.add(1, writers);
        Some((CountedUnits::one(count, threshold), nth))
    }

    /// Returns whether the `nth` request admitted on its thread is measured, or [probes](is_probe) for nested layers.
    #[inline]
    pub(crate) fn looks_at(&self, nth: usize) -> bool {
        is_probe(nth) || self.sampler().is_some_and(|sampler| sampler.measures(nth))
    }

    /// Returns the permit of a request that was admitted by [`admit_cached`](Self::admit_cached).
    pub(crate) fn permit(&self, units: CountedUnits, nth: usize) -> CountPermit {
        let permit = match is_probe(nth) {
            true => CountPermit::probe(units, units.admitted_under.into()),
            false => units.into(),
        };
        self.tell_admitted();
        permit
    }
}
