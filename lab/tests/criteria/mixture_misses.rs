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
    Miss { scenario: "B1: 150 silent uploads", phase: "beside", kind: "quick", reaches: 0.266 },
    Miss { scenario: "B1: 150 silent uploads", phase: "2 ×", kind: "quick", reaches: 0.000 },
    Miss { scenario: "E1: 80 silent uploads", phase: "beside", kind: "quick", reaches: 0.048 },
    Miss { scenario: "E1: 80 silent uploads", phase: "2 ×", kind: "quick", reaches: 0.000 },
    Miss { scenario: "B2: 8 calls of 30 s", phase: "beside", kind: "quick", reaches: 0.583 },
    Miss { scenario: "B3: 20 exports", phase: "beside", kind: "quick", reaches: 0.656 },
    Miss { scenario: "B3: 20 exports beside CRITICAL calls", phase: "beside", kind: "quick", reaches: 0.657 },
    Miss { scenario: "E3: 3.2 long polls a second", phase: "beside", kind: "quick", reaches: 0.490 },
    Miss { scenario: "E3: 3.2 long polls a second", phase: "beside", kind: "slow", reaches: 0.504 },
    Miss { scenario: "E3: 3.2 long polls a second", phase: "they leave", kind: "quick", reaches: 0.743 },
    Miss { scenario: "E3: 4 uploads of 20 s a second", phase: "beside", kind: "quick", reaches: 0.526 },
    Miss { scenario: "E3: 4 uploads of 20 s a second", phase: "beside", kind: "slow", reaches: 0.534 },
    Miss { scenario: "B6: RESOURCE_EXHAUSTED of a quota", phase: "flood", kind: "quick", reaches: 0.258 },
    Miss { scenario: "B6: RESOURCE_EXHAUSTED of a quota", phase: "after", kind: "quick", reaches: 0.997 },
    Miss { scenario: "E10: callers leave after 5 ms", phase: "flood", kind: "quick", reaches: 0.394 },
    Miss { scenario: "E10: callers leave after 5 ms", phase: "after", kind: "quick", reaches: 0.978 },
    Miss { scenario: "E10: 503s", phase: "flood", kind: "quick", reaches: 0.346 },
    Miss { scenario: "E10: 503s", phase: "after", kind: "quick", reaches: 0.990 },
    Miss { scenario: "E10: 408s", phase: "flood", kind: "quick", reaches: 0.346 },
    Miss { scenario: "E10: 408s", phase: "after", kind: "quick", reaches: 0.990 },
    Miss { scenario: "E5: an overloaded job beside 1,800 404s a second", phase: "over", kind: "job", reaches: 0.027 },
    Miss { scenario: "slow by design, few later, 0.1 ×", phase: "beside", kind: "quick", reaches: 0.182 },
    Miss { scenario: "slow by design, few later, 0.1 ×", phase: "beside", kind: "slow", reaches: 0.583 },
    Miss { scenario: "slow by design, few later, 0.1 ×", phase: "they leave", kind: "quick", reaches: 0.968 },
    Miss { scenario: "held by the client for a minute, later", phase: "beside", kind: "quick", reaches: 0.100 },
    Miss { scenario: "held by the client for a minute, later", phase: "2 ×", kind: "quick", reaches: 0.000 },
    Miss { scenario: "held by the client for a minute, later", phase: "after", kind: "quick", reaches: 0.391 },
    Miss { scenario: "own bottleneck, 2 kinds, one: 3 ×", phase: "disturbed", kind: "one", reaches: 0.928 },
    Miss { scenario: "own bottleneck, 2 kinds, one: 3 ×", phase: "disturbed", kind: "others", reaches: 0.400 },
    Miss { scenario: "own bottleneck, 2 kinds, one: 10 ×", phase: "disturbed", kind: "one", reaches: 0.948 },
    Miss { scenario: "own bottleneck, 2 kinds, one: 10 ×", phase: "disturbed", kind: "others", reaches: 0.189 },
    Miss { scenario: "own bottleneck, 2 kinds, one: its dependency stops", phase: "disturbed", kind: "others", reaches: 0.993 },
    Miss { scenario: "masking, 404s at 2 × the rate", phase: "over", kind: "job", reaches: 0.075 },
    Miss { scenario: "masking, 404s at 2 × the rate", phase: "over", kind: "cheap", reaches: 0.999 },
    Miss { scenario: "masking, 404s at 2 × the rate", phase: "after", kind: "job", reaches: 0.000 },
    Miss { scenario: "spike, pool, fixed, callers wait 0.1 s", phase: "spike", kind: "calls", reaches: 0.275 },
    Miss { scenario: "spike, pool, fixed, callers wait 0.1 s, as stated", phase: "spike", kind: "calls", reaches: 0.275 },
];

impl Miss {
    pub(crate) fn is(&self, row: &Row) -> bool {
        (self.scenario, self.phase, self.kind) == (&*row.name(), &*row.phase, &*row.kind)
    }
}
