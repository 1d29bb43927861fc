//! The pass criterion of a row.

use std::fmt;

/// The pass criterion of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Criterion {
    /// A mean score of at least `mean`, and a score of at least `worst` on each seed.
    Score {
        /// The least mean score over all seeds.
        mean: f64,
        /// The least score on any seed.
        worst: f64,
    },
    /// At most this share of the calls is refused.
    Refused(f64),
    /// At most this share of the calls is refused after the first three seconds of the phase: the time in which a controller
    /// finds that calls which came all at once are no queue.
    RefusedLater(f64),
    /// At least this share of the CRITICAL calls is served in time.
    Critical(f64),
}

impl Criterion {
    /// Returns the required share: of the oracle's goodput, of calls that are not refused, or of CRITICAL calls served in
    /// time.
    #[must_use]
    pub fn required(self) -> f64 {
        match self {
            Self::Score { mean, .. } => mean,
            Self::Refused(most) | Self::RefusedLater(most) => 1.0 - most,
            Self::Critical(least) => least,
        }
    }
}

impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Score { mean, worst } => write!(f, "{mean:.2}, {worst:.2}"),
            Self::Refused(0.0) => f.write_str("none refused"),
            Self::Refused(most) => write!(f, "{} % refused", most * 100.0),
            Self::RefusedLater(0.0) => f.write_str("none refused after 3 s"),
            Self::RefusedLater(most) => write!(f, "{} % refused after 3 s", most * 100.0),
            Self::Critical(least) => write!(f, "CRITICAL {least}"),
        }
    }
}
