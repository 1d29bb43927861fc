//! The pass criteria of the catalogue, scenario by scenario.
//!
//! The required scores are the scores that a controller without settings has reached, less the variation between seeds. A
//! mixture has its criteria beside its kinds.

use crate::{criterion::Criterion, row::Row};

/// The requirement for all rows whose scenario and phase begin with these prefixes. The first rule that matches applies.
struct Rule {
    scenario: &'static str,
    phase: &'static str,
    requirement: Requirement,
}

enum Requirement {
    /// The mean score, for fewer than 8 workers, fewer than 64, and 64 or more.
    Score([f64; 3]),
    /// The mean score, and how far below it one seed may be.
    Loose(f64, f64),
    /// The largest share refused, by the same sizes.
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
    // All other rows, such as those of the lull, of the fleet, and of the storm while it lasts.
    Rule { scenario: "", phase: "", requirement: Score([0.95; 3]) },
];

impl Criterion {
    /// Returns the criterion for this row: that of its [conditions](crate::Conditions::criterion), or that of its names.
    #[must_use]
    pub fn of(row: &Row) -> Self {
        row.criterion.unwrap_or_else(|| Self::by_name(row))
    }

    fn by_name(row: &Row) -> Self {
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
            // Fewer than 8 workers complete few calls, so scores vary more between seeds.
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

    /// Returns the share that the row reached. A worst seed below the criterion lowers the share by as much as it is below.
    #[must_use]
    pub fn reached(self, row: &Row) -> f64 {
        match self {
            Self::Score { mean, worst } => row.score().min(row.worst().0 + mean - worst),
            Self::Refused(_) => 1.0 - row.refused(),
            Self::RefusedLater(_) => 1.0 - row.mean(|metrics| metrics.refused_after_3s),
            Self::Critical(_) => row.critical().unwrap_or(0.0),
        }
    }

    /// Returns whether the row meets the criterion.
    #[must_use]
    pub fn is_met(self, row: &Row) -> bool {
        self.reached(row) >= self.required()
    }
}
