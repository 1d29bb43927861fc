use std::{ops::Deref, sync::Arc};

use super::{
    count::count::Count, counted_units::CountedUnits, packed_units::PackedUnits,
    shared_permit::SharedPermit,
};
use crate::threshold::threshold::Threshold;

/// The permit of a request, given back on drop. Empty if the request is exempt, or if an outer layer holds the permit.
///
/// Small, as it moves with the request from the service to the future to the body.
#[derive(Debug)]
pub(crate) enum CountPermit {
    Own(Option<PackedUnits>),
    /// Inner layers, a handler or the sweep of stalled responses know it, too; or it holds more than 65,535 units.
    Shared(Holder),
}

const _: () = assert!(size_of::<CountPermit>() <= 16);

/// The future or the body that holds a shared permit. Its drop ends the request.
#[derive(Debug)]
pub(crate) struct Holder(Arc<SharedPermit>);

impl Deref for Holder {
    type Target = Arc<SharedPermit>;

    fn deref(&self) -> &Arc<SharedPermit> {
        &self.0
    }
}

impl Drop for Holder {
    #[cold]
    #[inline(never)]
    fn drop(&mut self) {
        self.0.end_request();
    }
}

impl Default for CountPermit {
    #[inline]
    fn default() -> Self {
        Self::EMPTY
    }
}

impl CountPermit {
    pub(crate) const EMPTY: Self = Self::Own(None);

    pub(crate) fn is_some(&self) -> bool {
        self.units() > 0
    }

    /// Returns whether the permit counts in `count`, and no dry run would have refused its request.
    #[inline]
    pub(crate) fn is_unmarked_of(&self, count: &'static Count) -> bool {
        self.held()
            .is_some_and(|held| std::ptr::eq(held.count, count) && !held.marked)
    }

    /// Returns the units that are in the count.
    #[inline]
    fn held(&self) -> Option<CountedUnits> {
        match self {
            Self::Own(held) => held.map(PackedUnits::unpack),
            Self::Shared(shared) => shared.held(),
        }
    }

    /// Returns the units that the permit holds.
    pub(crate) fn units(&self) -> u32 {
        self.held().map_or(0, |held| held.units)
    }

    /// Notes whether the response shares its connection with others.
    #[inline]
    pub(crate) fn set_multiplexed(&mut self, is_multiplexed: bool) {
        if is_multiplexed {
            self.set_multiplexed_now();
        }
    }

    fn set_multiplexed_now(&mut self) {
        match self {
            Self::Own(Some(held)) => held.set_multiplexed(),
            Self::Own(None) => {}
            Self::Shared(shared) => shared.set_multiplexed(),
        }
    }

    /// Shares the permit, so that inner layers find it.
    pub(crate) fn share(&mut self, threshold: Threshold) -> Option<&Arc<SharedPermit>> {
        if let Self::Own(held) = self {
            let shared = SharedPermit::new(held.take()?.unpack(), threshold, false);
            *self = Self::Shared(Holder(Arc::new(shared)));
        }
        self.shared()
    }

    /// Returns a permit of more units than are packed.
    #[cold]
    fn large(held: CountedUnits) -> Self {
        let shared = SharedPermit::new(held, held.admitted_under.into(), false);
        Self::Shared(Holder(Arc::new(shared)))
    }

    /// Returns the permit of a request that is to find out whether its layer is nested in itself: see
    /// [`sharing`](crate::admission::count::sharing).
    #[cold]
    pub(crate) fn probe(held: CountedUnits, threshold: Threshold) -> Self {
        let shared = SharedPermit::new(held, threshold, true);
        Self::Shared(Holder(Arc::new(shared)))
    }

    pub(crate) fn shared(&self) -> Option<&Arc<SharedPermit>> {
        match self {
            Self::Shared(shared) => Some(shared),
            Self::Own(_) => None,
        }
    }

    /// Takes the units out. Only for a permit that was acquired just now, which no other part of the program knows.
    pub(crate) fn into_units(mut self) -> Option<CountedUnits> {
        match &mut self {
            Self::Own(held) => held.take().map(PackedUnits::unpack),
            Self::Shared(shared) => shared.take_units(),
        }
    }

    /// Returns whether there is a permit, its units counted or not.
    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        !matches!(self, Self::Own(None))
    }

    #[inline]
    pub(crate) fn is_multiplexed(&self) -> bool {
        match self {
            Self::Own(held) => held.is_some_and(PackedUnits::is_multiplexed),
            Self::Shared(shared) => shared.is_multiplexed(),
        }
    }

    /// Notes the response for the sweep of stalled responses: its bytes may have to wait for their reader. Returns the permit,
    /// shared with the sweep.
    #[cold]
    pub(crate) fn watch_for_stall(&mut self) -> Option<&Arc<SharedPermit>> {
        let threshold = match self {
            Self::Own(held) => (*held)?.unpack().admitted_under.into(),
            Self::Shared(_) => Threshold::NEVER_SHED,
        };
        self.share(threshold)
            .inspect(|shared| SharedPermit::watch_for_stall(shared))
    }

    /// Returns the lowest threshold under which the layers have admitted the request, or `None` if one has refused it, or would
    /// have in a dry run.
    pub(crate) fn admitted_threshold(&self) -> Option<Threshold> {
        match self {
            Self::Own(_) => Some(Threshold::NEVER_SHED),
            Self::Shared(shared) => shared.admitted_threshold(),
        }
    }
}

impl From<CountedUnits> for CountPermit {
    #[inline]
    fn from(held: CountedUnits) -> Self {
        match PackedUnits::pack(held) {
            Some(packed) => Self::Own(Some(packed)),
            None => Self::large(held),
        }
    }
}

impl Drop for CountPermit {
    #[inline]
    fn drop(&mut self) {
        if let Self::Own(Some(held)) = self {
            held.release();
        }
    }
}
