//! How well a candidate has to do, scenario by scenario.

use std::fmt;

use crate::row::Row;

/// What is asked for in one row.
///
/// Scores are those that a candidate without settings has been seen to reach, less what a seed more or less makes of them.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Criterion {
    /// A mean score of `mean`, and no seed under `worst`.
    Score {
        /// Of all seeds.
        mean: f64,
        /// Of any seed.
        worst: f64,
    },
    /// At most this share is refused.
    Refused(f64),
    /// At least this share of the CRITICAL calls is answered.
    Critical(f64),
}

/// For whom the first part of the name of a scenario and that of a phase are these; what comes first counts.
struct Rule {
    scenario: &'static str,
    phase: &'static str,
    requirement: Requirement,
}

enum Requirement {
    /// By size: tiny, less than 64 workers, more.
    Score([f64; 3]),
    /// One seed may be so much worse than the mean.
    Loose(f64, f64),
    Refused([f64; 3]),
    Critical(f64),
}

use Requirement::{Critical, Loose, Refused, Score};

#[rustfmt::skip]
const RULES: [Rule; 19] = [
    Rule { scenario: "healthy", phase: "", requirement: Refused([0.001, 0.001, 0.0]) },
    Rule { scenario: "step", phase: "", requirement: Score([0.95, 0.95, 0.97]) },
    Rule { scenario: "sustained", phase: "", requirement: Score([0.95, 0.95, 0.97]) },
    Rule { scenario: "barely over", phase: "", requirement: Score([0.95, 0.95, 0.97]) },
    Rule { scenario: "capacity drop", phase: "", requirement: Score([0.95, 0.95, 0.97]) },
    Rule { scenario: "cold start", phase: "first 10 s", requirement: Score([0.95; 3]) },
    Rule { scenario: "cold start", phase: "later", requirement: Score([0.97; 3]) },
    Rule { scenario: "slow dependency, hard", phase: "", requirement: Refused([0.0; 3]) },
    Rule { scenario: "slow dependency, soft", phase: "", requirement: Score([0.95; 3]) },
    Rule { scenario: "slow then saturated", phase: "", requirement: Score([0.90, 0.95, 0.95]) },
    Rule { scenario: "slow in overload", phase: "", requirement: Score([0.90, 0.95, 0.95]) },
    Rule { scenario: "hangs", phase: "", requirement: Loose(0.95, 0.10) },
    Rule { scenario: "bimodal", phase: "", requirement: Score([0.95; 3]) },
    Rule { scenario: "bursts", phase: "", requirement: Score([0.90; 3]) },
    Rule { scenario: "retry storm", phase: "after", requirement: Score([0.97; 3]) },
    Rule { scenario: "classes", phase: "", requirement: Critical(0.994) },
    Rule { scenario: "thrash, gentle", phase: "", requirement: Score([0.92; 3]) },
    Rule { scenario: "thrash, steep", phase: "", requirement: Score([0.85; 3]) },
    // All that nothing else is said of, such as the lull, the fleet, and the storm while it lasts.
    Rule { scenario: "", phase: "", requirement: Score([0.95; 3]) },
];

impl Criterion {
    /// The bar for this row.
    #[must_use]
    pub fn of(row: &Row) -> Self {
        let size = match row.workers {
            ..8 => 0,
            8..64 => 1,
            _ => 2,
        };
        let is_for = |rule: &&Rule| {
            row.scenario.starts_with(rule.scenario) && row.phase.starts_with(rule.phase)
        };
        let all = &RULES[RULES.len() - 1];
        let (mean, allowance) = match RULES.iter().find(is_for).unwrap_or(all).requirement {
            // Four workers serve so few that chance takes more.
            Score(mean) => (mean[size], if size == 0 { 0.10 } else { 0.05 }),
            Loose(mean, allowance) => (mean, allowance),
            Refused(most) => return Self::Refused(most[size]),
            Critical(least) => return Self::Critical(least),
        };
        Self::Score {
            mean,
            worst: mean - allowance,
        }
    }

    /// What is asked for, as a share: of the oracle's goodput, of the calls not refused, or of the CRITICAL ones.
    #[must_use]
    pub fn required(self) -> f64 {
        match self {
            Self::Score { mean, .. } => mean,
            Self::Refused(most) => 1.0 - most,
            Self::Critical(least) => least,
        }
    }

    /// The same share of the row. One seed that is too bad lowers it as the mean would.
    #[must_use]
    pub fn reached(self, row: &Row) -> f64 {
        match self {
            Self::Score { mean, worst } => row.score().min(row.worst().0 + mean - worst),
            Self::Refused(_) => 1.0 - row.refused(),
            Self::Critical(_) => row.critical().unwrap_or(0.0),
        }
    }

    /// Whether the row meets it.
    #[must_use]
    pub fn is_met(self, row: &Row) -> bool {
        self.reached(row) >= self.required()
    }
}

impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Score { mean, worst } => write!(f, "{mean:.2}, {worst:.2}"),
            Self::Refused(0.0) => f.write_str("none refused"),
            Self::Refused(most) => write!(f, "{} % refused", most * 100.0),
            Self::Critical(least) => write!(f, "CRITICAL {least}"),
        }
    }
}
