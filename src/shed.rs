use std::{error::Error, fmt, time::Duration};

use crate::{retry_after::retry_after::Hint, threshold::criticality::Criticality};

/// The reason for a refusal, and the time after which the caller may retry.
///
/// Every refusal's response has this value in its extensions, also a response that your closure has built. So outer layers
/// can log the reason or replace the response. It is also the error of [`Budget::try_acquire`](crate::Budget::try_acquire).
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

/// The reason for a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The request would have exceeded its threshold of the budget, or the free capacity is for requests in the
    /// [queue](crate::LoadShed::wait).
    Utilization,
    /// The budget had free capacity, but the tenant was above its [fair share](crate::LoadShed::fair_by).
    Share,
    /// The budget [drains](crate::Budget::begin_drain), and its grace has passed: the server is about to stop.
    Draining,
}

#[cfg(feature = "metrics")]
impl Reason {
    pub(crate) const ALL: [Self; 3] = [Self::Utilization, Self::Share, Self::Draining];

    /// Returns the value of the label `reason`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Utilization => "utilization",
            Self::Share => "share",
            Self::Draining => "draining",
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

    /// Returns the reason for the refusal.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Returns the class of the refused request.
    #[must_use]
    pub fn criticality(&self) -> Criticality {
        self.criticality
    }

    /// Returns how long the caller should wait, also if the response has no hint.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        self.hint.wait()
    }

    /// Returns the value of `Retry-After`, also if none is sent: whole seconds, at least 1.
    ///
    /// A response of your own should carry this value instead of a rounded [`retry_after`](Self::retry_after). It is rounded up for
    /// some callers and down for others, so that callers refused together do not retry together.
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
            Reason::Utilization => write!(f, "shed: no free capacity in the budget")?,
            Reason::Share => write!(
                f,
                "shed: no free capacity in the tenant's share of the budget"
            )?,
            Reason::Draining => write!(f, "shed: the budget is draining")?,
        }
        write!(f, ", retry after {:?}", self.hint.wait())
    }
}

impl Error for Shed {}
