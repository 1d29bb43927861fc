//! Whether the permits of a budget are shared: see [`SharedPermit`](crate::admission::shared_permit::SharedPermit).
//!
//! A shared permit costs an allocation. So permits are shared only where a budget has more than one layer, or where a layer
//! shares them with handlers. One layer that is nested in itself is not told from one layer by counting. It is found out by
//! probes: some requests carry their permit, and the layer that finds it on its way in is nested.

use super::count::Count;
use crate::support::sync::Ordering;

/// Set for good once permits have to be shared. Below it: the probes in flight.
const SHARED: u32 = 1 << 31;

/// Returns whether the `nth` request that a thread has admitted is to be a probe: the first, and one in 4,096. A probe has all
/// requests looked at until its response: so there are few of them, and one at a time.
#[inline]
pub(crate) fn is_probe(nth: usize) -> bool {
    nth % 4_096 == 1
}

impl Count {
    /// Returns whether a request may carry the permit of an outer layer, or has to carry it to inner layers.
    #[inline]
    pub(crate) fn may_be_shared(&self) -> bool {
        // Relaxed: a layer that is added while requests run is seen by later requests.
        self.sharing.load(Ordering::Relaxed) != 0
    }

    /// Returns whether permits have to be shared.
    pub(crate) fn is_shared(&self) -> bool {
        self.sharing.load(Ordering::Relaxed) & SHARED != 0
    }

    /// Has permits shared from now on.
    pub(crate) fn share(&self) {
        if !self.is_shared() {
            self.sharing.fetch_or(SHARED, Ordering::Relaxed);
        }
    }

    /// Notes one layer more. Permits are shared from the second on, for good: requests of a layer that is gone may be in flight.
    pub(crate) fn add_layer(&self) {
        if self.layers.fetch_add(1, Ordering::Relaxed) > 0 {
            self.share();
        }
    }

    pub(crate) fn begin_probe(&self) {
        self.sharing.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end_probe(&self) {
        self.sharing.fetch_sub(1, Ordering::Relaxed);
    }
}
