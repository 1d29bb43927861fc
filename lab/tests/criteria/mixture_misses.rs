//! The mixtures in which the default controller is known to fall short of a criterion.

use loadshed_lab::Row;

/// A row that misses its criterion, and the share that the row must still reach.
#[derive(Debug)]
pub(crate) struct Miss {
    pub(crate) scenario: &'static str,
    pub(crate) phase: &'static str,
    pub(crate) kind: &'static str,
    /// The least share to reach, as in [`Criterion::reached`](loadshed_lab::Criterion::reached).
    pub(crate) reaches: f64,
}

/// All known misses. An entry is removed once its criterion is met.
#[rustfmt::skip]
pub(crate) const MISSES: &[Miss] = &[
    Miss { scenario: "E5: an overloaded job beside 1,800 404s a second", phase: "over", kind: "job", reaches: 0.027 },
    Miss { scenario: "slow by design, few later, 0.1 ×", phase: "beside", kind: "quick", reaches: 0.995 },
    Miss { scenario: "slow by design, few later, 0.1 ×", phase: "beside", kind: "slow", reaches: 0.583 },
    Miss { scenario: "own bottleneck, 2 kinds, one: 3 ×", phase: "disturbed", kind: "others", reaches: 0.395 },
    Miss { scenario: "own bottleneck, 2 kinds, one: 10 ×", phase: "disturbed", kind: "others", reaches: 0.189 },
    Miss { scenario: "own bottleneck, 2 kinds, one: its dependency stops", phase: "disturbed", kind: "others", reaches: 0.981 },
    Miss { scenario: "masking, 404s at 2 × the rate", phase: "over", kind: "job", reaches: 0.061 },
    Miss { scenario: "masking, 404s at 2 × the rate", phase: "over", kind: "cheap", reaches: 0.632 },
    Miss { scenario: "masking, 404s at 2 × the rate", phase: "after", kind: "job", reaches: 0.000 },
    Miss { scenario: "spike, pool, fixed, callers wait 0.1 s", phase: "spike", kind: "calls", reaches: 0.599 },
    Miss { scenario: "spike, pool, fixed, callers wait 0.1 s, as stated", phase: "spike", kind: "calls", reaches: 0.754 },
];

impl Miss {
    pub(crate) fn is(&self, row: &Row) -> bool {
        (self.scenario, self.phase, self.kind) == (&*row.name(), &*row.phase, &*row.kind)
    }
}
