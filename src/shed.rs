use std::{error::Error, fmt, time::Duration};

use crate::threshold::Criticality;

/// Why a request was refused, and when it may come back.
///
/// It is in the extensions of every refusal's response, whoever wrote that response, so that layers outside can log
/// it or replace the answer; and it is the error of [`Budget::try_acquire`](crate::Budget::try_acquire).
///
/// ```
/// use loadshed::{Budget, Threshold};
///
/// let budget = Budget::fixed(1);
/// let permit = budget.try_acquire(Threshold::ratio(1.0)).unwrap();
/// let shed = budget.try_acquire(Threshold::ratio(1.0)).unwrap_err();
/// assert!(shed.retry_after().as_secs() >= 1);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shed {
    reason: Reason,
    criticality: Criticality,
    retry_after: Duration,
}

/// What left no room for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// With it, more of the budget would have been in flight than its threshold allows.
    Utilization,
}

impl Shed {
    pub(crate) fn new(reason: Reason, criticality: Criticality, retry_after: Duration) -> Self {
        Self {
            reason,
            criticality,
            retry_after,
        }
    }

    /// What left no room.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The class of the refused request.
    #[must_use]
    pub fn criticality(&self) -> Criticality {
        self.criticality
    }

    /// How long the caller should wait, also where the answer does not say so. `Retry-After` is this in whole
    /// seconds, rounded up.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        self.retry_after
    }
}

impl fmt::Display for Shed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::Utilization => write!(f, "shed: no room in the budget")?,
        }
        write!(f, ", retry after {:?}", self.retry_after)
    }
}

impl Error for Shed {}
