use std::{error::Error, fmt, time::Duration};

use crate::{retry_after::retry_after::Hint, threshold::criticality::Criticality};

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
/// assert!(!shed.retry_after().is_zero());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shed {
    reason: Reason,
    criticality: Criticality,
    hint: Hint,
}

/// What left no room for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// With it, more of the budget would have been in flight than its threshold allows; or what is free is for those who
    /// [wait](crate::LoadShed::wait) for it.
    Utilization,
    /// There was room left, but not for a tenant that has more than its [fair share](crate::LoadShed::fair_by).
    Share,
}

#[cfg(feature = "metrics")]
impl Reason {
    pub(crate) const ALL: [Self; 2] = [Self::Utilization, Self::Share];

    /// Returns the value of the label `reason`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Utilization => "utilization",
            Self::Share => "share",
        }
    }
}

impl Shed {
    pub(crate) fn new(reason: Reason, criticality: Criticality, hint: Hint) -> Self {
        Self {
            reason,
            criticality,
            hint,
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

    /// How long the caller should wait, also where the answer does not say so.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        self.hint.wait()
    }

    /// The same as `Retry-After` says it, also where none is sent: in whole seconds, at least 1.
    ///
    /// An answer of your own should carry this, and not [`retry_after`](Self::retry_after) rounded in one way for all: it is
    /// rounded up for some and down for others, so that those who were refused together do not come back together.
    #[must_use]
    pub fn retry_after_secs(&self) -> u64 {
        self.hint.whole.into()
    }

    pub(crate) fn hint(&self) -> Hint {
        self.hint
    }
}

impl fmt::Display for Shed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::Utilization => write!(f, "shed: no room in the budget")?,
            Reason::Share => write!(f, "shed: no room in this tenant's share of the budget")?,
        }
        write!(f, ", retry after {:?}", self.hint.wait())
    }
}

impl Error for Shed {}
