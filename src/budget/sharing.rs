//! How the layers of a budget find the permit of a request.

use std::sync::Arc;

use super::budget::Budget;
use crate::admission::shared_permit::{PermitRef, SharedPermit};

impl Budget {
    /// Returns whether a request may carry the permit of an outer layer, or has to carry it to inner layers.
    #[inline]
    pub(crate) fn may_be_shared(&self) -> bool {
        self.count.may_be_shared()
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.count.is_shared()
    }

    /// Notes one layer more.
    pub(crate) fn add_layer(&self, shares_permits: bool) {
        self.count.add_layer();
        if shares_permits {
            self.count.share();
        }
    }

    /// Returns the permit of this budget to which a request refers.
    pub(crate) fn find_permit(&self, permit: &PermitRef) -> Option<Arc<SharedPermit>> {
        let permit = permit.of(self.count)?;
        // Found by a probe: a layer is nested in itself.
        self.count.share();
        Some(permit)
    }
}
