//! The pass criteria that the default controller is known to miss.

use loadshed_lab::{Criterion, Row};

/// A row that misses its criterion, and the share that the row must still reach.
#[derive(Debug)]
pub(crate) struct Miss {
    /// The size of the server.
    pub(crate) size: &'static str,
    /// The name of the row: its scenario and initial limit.
    pub(crate) scenario: &'static str,
    /// The phase.
    pub(crate) phase: &'static str,
    /// The least share to reach, as in [`Criterion::reached`].
    pub(crate) reaches: f64,
    /// Why the miss is accepted.
    pub(crate) why: &'static str,
}

/// In a flood, the budget admits all requests until the first responses. At ten times the capacity, these are more than the
/// server can complete in time, and the first service time comes from a few of them.
const COLD: &str = "a flood before the first responses";
/// A queue of 0.7 s is allowed for a second, because it may be a burst. A server that slows down under contention does not
/// recover from it by itself.
const CONTENTION: &str = "a server that slows down under contention is overloaded first";
/// The mean of such times needs some hundred samples.
const SPREAD: &str = "service times that vary by a factor of a hundred";
/// With four workers, chance moves the throughput by half.
const FEW: &str = "four workers give few samples";
/// A queue of 0.7 s and a service time of 0.24 s take nearly the whole client timeout of 1 s, in which there are few responses.
const SLOW: &str = "a client timeout of four service times";
/// A longer queue than the oracle's while the controller adapts, and goodput lost while it probes.
const PROBING: &str = "the cost of probing";

/// All known misses. Each has a reason; an entry is removed once its criterion is met.
#[rustfmt::skip]
pub(crate) const MISSES: &[Miss] = &[
    Miss { size: "tiny", scenario: "thrash, gentle 3 ×, fixed", phase: "over", reaches: 0.870, why: CONTENTION },
    Miss { size: "tiny", scenario: "thrash, steep 1.25 ×, fixed", phase: "before", reaches: 0.257, why: CONTENTION },
    Miss { size: "tiny", scenario: "thrash, steep 1.25 ×, fixed", phase: "after", reaches: 0.099, why: CONTENTION },
    Miss { size: "tiny", scenario: "thrash, steep 3 ×, fixed", phase: "before", reaches: 0.257, why: CONTENTION },
    Miss { size: "tiny", scenario: "thrash, steep 3 ×, fixed", phase: "over", reaches: 0.611, why: CONTENTION },
    Miss { size: "tiny", scenario: "thrash, steep 3 ×, fixed", phase: "after", reaches: 0.618, why: CONTENTION },
    Miss { size: "tiny", scenario: "cold start, exponential, from 1", phase: "first 10 s", reaches: 0.829, why: COLD },
    Miss { size: "tiny", scenario: "cold start, exponential, from 2", phase: "first 10 s", reaches: 0.829, why: COLD },
    Miss { size: "tiny", scenario: "cold start, exponential, from 5", phase: "first 10 s", reaches: 0.770, why: COLD },
    Miss { size: "tiny", scenario: "cold start, exponential, from 20", phase: "first 10 s", reaches: 0.830, why: COLD },
    Miss { size: "tiny", scenario: "cold start, exponential, from 50", phase: "first 10 s", reaches: 0.353, why: COLD },
    Miss { size: "tiny", scenario: "cold start, exponential, from max", phase: "first 10 s", reaches: 0.355, why: COLD },
    Miss { size: "tiny", scenario: "cold start, exponential, from max", phase: "later", reaches: 0.947, why: COLD },
    Miss { size: "tiny", scenario: "capacity drop at 0.8 ×, exponential", phase: "a quarter", reaches: 0.838, why: FEW },
    Miss { size: "tiny", scenario: "capacity drop at 1.25 ×, exponential", phase: "a quarter", reaches: 0.785, why: FEW },
    Miss { size: "tiny", scenario: "cancellations at 3 ×, exponential", phase: "impatient", reaches: 0.886, why: FEW },
    Miss { size: "tiny", scenario: "thrash, gentle 1.25 ×, exponential", phase: "over", reaches: 0.901, why: CONTENTION },
    Miss { size: "tiny", scenario: "thrash, gentle 3 ×, exponential", phase: "over", reaches: 0.858, why: CONTENTION },
    Miss { size: "tiny", scenario: "thrash, steep 1.25 ×, exponential", phase: "before", reaches: 0.544, why: CONTENTION },
    Miss { size: "tiny", scenario: "thrash, steep 1.25 ×, exponential", phase: "over", reaches: 0.632, why: CONTENTION },
    Miss { size: "tiny", scenario: "thrash, steep 3 ×, exponential", phase: "before", reaches: 0.544, why: CONTENTION },
    Miss { size: "tiny", scenario: "thrash, steep 3 ×, exponential", phase: "over", reaches: 0.549, why: CONTENTION },
    Miss { size: "tiny", scenario: "thrash, steep 3 ×, exponential", phase: "after", reaches: 0.641, why: CONTENTION },
    Miss { size: "tiny", scenario: "bimodal", phase: "5 % long", reaches: 0.892, why: SPREAD },
    Miss { size: "tiny", scenario: "bimodal", phase: "20 % long", reaches: 0.670, why: SPREAD },
    Miss { size: "tiny", scenario: "barely over, exponential", phase: "1.05 ×", reaches: 0.942, why: FEW },
    Miss { size: "tiny", scenario: "hangs at 3 ×, exponential", phase: "hangs", reaches: 0.902, why: FEW },
    Miss { size: "tiny", scenario: "step 1.25 ×, exponential", phase: "over", reaches: 0.944, why: FEW },
    Miss { size: "tiny", scenario: "cold start, exponential, from 2", phase: "later", reaches: 0.963, why: COLD },
    Miss { size: "tiny", scenario: "slow in overload 2 ×, exponential", phase: "slower", reaches: 0.851, why: FEW },
    Miss { size: "tiny", scenario: "bursts, exponential", phase: "bursts", reaches: 0.866, why: FEW },
    Miss { size: "tiny", scenario: "thrash, steep 1.25 ×, fixed", phase: "over", reaches: 0.472, why: CONTENTION },
    Miss { size: "tiny", scenario: "cold start, exponential, from 1", phase: "later", reaches: 0.963, why: COLD },
    Miss { size: "tiny", scenario: "slow in overload 10 ×, exponential", phase: "slower", reaches: 0.770, why: FEW },
    Miss { size: "tiny", scenario: "thrash, steep 1.25 ×, exponential", phase: "after", reaches: 0.690, why: CONTENTION },
    Miss { size: "tiny", scenario: "hangs at 3 ×, fixed", phase: "hangs", reaches: 0.948, why: FEW },
    Miss { size: "tiny", scenario: "sustained 3 ×, exponential", phase: "second minute", reaches: 0.947, why: FEW },
    Miss { size: "slow", scenario: "step 10 ×, fixed", phase: "over", reaches: 0.919, why: SLOW },
    Miss { size: "slow", scenario: "cold start, fixed, from 1", phase: "first 10 s", reaches: 0.868, why: COLD },
    Miss { size: "slow", scenario: "cold start, fixed, from 2", phase: "first 10 s", reaches: 0.874, why: COLD },
    Miss { size: "slow", scenario: "cold start, fixed, from max", phase: "first 10 s", reaches: 0.530, why: COLD },
    Miss { size: "slow", scenario: "capacity drop at 0.8 ×, fixed", phase: "a quarter", reaches: 0.776, why: SLOW },
    Miss { size: "slow", scenario: "capacity drop at 1.25 ×, fixed", phase: "a quarter", reaches: 0.910, why: SLOW },
    Miss { size: "slow", scenario: "slow then saturated, fixed", phase: "saturated", reaches: 0.926, why: SLOW },
    Miss { size: "slow", scenario: "slow in overload 10 ×, fixed", phase: "before", reaches: 0.818, why: COLD },
    Miss { size: "slow", scenario: "bursts, fixed", phase: "bursts", reaches: 0.833, why: SLOW },
    Miss { size: "slow", scenario: "thrash, gentle 3 ×, fixed", phase: "over", reaches: 0.892, why: CONTENTION },
    Miss { size: "slow", scenario: "thrash, steep 3 ×, fixed", phase: "over", reaches: 0.053, why: CONTENTION },
    Miss { size: "slow", scenario: "barely over, fixed", phase: "1.05 ×", reaches: 0.913, why: SLOW },
    Miss { size: "slow", scenario: "step 6 ×, exponential", phase: "over", reaches: 0.937, why: SLOW },
    Miss { size: "slow", scenario: "step 10 ×, exponential", phase: "over", reaches: 0.921, why: SLOW },
    Miss { size: "slow", scenario: "cold start, exponential, from 1", phase: "first 10 s", reaches: 0.740, why: COLD },
    Miss { size: "slow", scenario: "cold start, exponential, from 2", phase: "first 10 s", reaches: 0.755, why: COLD },
    Miss { size: "slow", scenario: "cold start, exponential, from 5", phase: "first 10 s", reaches: 0.649, why: COLD },
    Miss { size: "slow", scenario: "cold start, exponential, from 20", phase: "first 10 s", reaches: 0.468, why: COLD },
    Miss { size: "slow", scenario: "cold start, exponential, from 50", phase: "first 10 s", reaches: 0.670, why: COLD },
    Miss { size: "slow", scenario: "cold start, exponential, from max", phase: "first 10 s", reaches: 0.184, why: COLD },
    Miss { size: "slow", scenario: "cold start, exponential, from 1", phase: "later", reaches: 0.937, why: COLD },
    Miss { size: "slow", scenario: "cold start, exponential, from 2", phase: "later", reaches: 0.907, why: COLD },
    Miss { size: "slow", scenario: "cold start, exponential, from 20", phase: "later", reaches: 0.915, why: COLD },
    Miss { size: "slow", scenario: "capacity drop at 0.8 ×, exponential", phase: "a quarter", reaches: 0.778, why: SLOW },
    Miss { size: "slow", scenario: "capacity drop at 1.25 ×, exponential", phase: "a quarter", reaches: 0.786, why: SLOW },
    Miss { size: "slow", scenario: "slow then saturated, exponential", phase: "saturated", reaches: 0.842, why: SLOW },
    Miss { size: "slow", scenario: "slow in overload 2 ×, exponential", phase: "slower", reaches: 0.860, why: PROBING },
    Miss { size: "slow", scenario: "slow in overload 2 ×, exponential", phase: "as before", reaches: 0.909, why: SLOW },
    Miss { size: "slow", scenario: "slow in overload 10 ×, exponential", phase: "before", reaches: 0.757, why: COLD },
    Miss { size: "slow", scenario: "cancellations at 3 ×, exponential", phase: "impatient", reaches: 0.764, why: SLOW },
    Miss { size: "slow", scenario: "shared 1.25 ×, exponential", phase: "over", reaches: 0.807, why: SLOW },
    Miss { size: "slow", scenario: "shared 3 ×, exponential", phase: "over", reaches: 0.785, why: SLOW },
    Miss { size: "slow", scenario: "thrash, gentle 1.25 ×, exponential", phase: "over", reaches: 0.670, why: CONTENTION },
    Miss { size: "slow", scenario: "thrash, gentle 3 ×, exponential", phase: "over", reaches: 0.568, why: CONTENTION },
    Miss { size: "slow", scenario: "thrash, steep 1.25 ×, exponential", phase: "over", reaches: 0.389, why: CONTENTION },
    Miss { size: "slow", scenario: "thrash, steep 3 ×, exponential", phase: "over", reaches: 0.401, why: CONTENTION },
    Miss { size: "slow", scenario: "bimodal", phase: "20 % long", reaches: 0.386, why: SPREAD },
    Miss { size: "slow", scenario: "slow in overload 10 ×, exponential", phase: "slower", reaches: 0.824, why: SLOW },
    Miss { size: "slow", scenario: "slow in overload 10 ×, exponential", phase: "as before", reaches: 0.901, why: SLOW },
    Miss { size: "slow", scenario: "slow in overload 2 ×, exponential", phase: "before", reaches: 0.923, why: SLOW },
    Miss { size: "slow", scenario: "sustained 3 ×, exponential", phase: "first minute", reaches: 0.904, why: SLOW },
    Miss { size: "slow", scenario: "cold start, exponential, from 50", phase: "later", reaches: 0.925, why: COLD },
    Miss { size: "slow", scenario: "hangs at 3 ×, exponential", phase: "hangs", reaches: 0.847, why: SLOW },
    Miss { size: "slow", scenario: "slow in overload 10 ×, fixed", phase: "slower", reaches: 0.725, why: SLOW },
    Miss { size: "slow", scenario: "thrash, steep 1.25 ×, fixed", phase: "over", reaches: 0.830, why: CONTENTION },
    Miss { size: "slow", scenario: "healthy 0.8 ×, exponential", phase: "healthy", reaches: 0.997, why: SLOW },
    Miss { size: "slow", scenario: "step 3 ×, exponential", phase: "over", reaches: 0.808, why: SLOW },
    Miss { size: "slow", scenario: "sustained 1.25 ×, exponential", phase: "first minute", reaches: 0.949, why: SLOW },
    Miss { size: "slow", scenario: "cold start, exponential, from 5", phase: "later", reaches: 0.936, why: COLD },
    Miss { size: "slow", scenario: "capacity drop at 1.25 ×, exponential", phase: "before", reaches: 0.949, why: SLOW },
    Miss { size: "slow", scenario: "lull, exponential", phase: "over", reaches: 0.921, why: SLOW },
    Miss { size: "slow", scenario: "cold start, exponential, from max", phase: "later", reaches: 0.960, why: COLD },
    Miss { size: "slow", scenario: "retry storm, hints heeded, exponential", phase: "trigger", reaches: 0.943, why: SLOW },
    Miss { size: "slow", scenario: "slow in overload 2 ×, fixed", phase: "slower", reaches: 0.941, why: SLOW },
    Miss { size: "medium", scenario: "classes, fixed", phase: "classes", reaches: 0.658, why: PROBING },
    Miss { size: "medium", scenario: "capacity drop at 0.8 ×, exponential", phase: "a quarter", reaches: 0.954, why: PROBING },
    Miss { size: "medium", scenario: "barely over, exponential", phase: "1.05 ×", reaches: 0.946, why: PROBING },
    Miss { size: "medium", scenario: "capacity drop at 1.25 ×, exponential", phase: "a quarter", reaches: 0.953, why: PROBING },
    Miss { size: "medium", scenario: "thrash, steep 1.25 ×, exponential", phase: "over", reaches: 0.689, why: CONTENTION },
    Miss { size: "medium", scenario: "cold start, exponential, from 50", phase: "first 10 s", reaches: 0.948, why: COLD },
    Miss { size: "medium", scenario: "slow in overload 2 ×, exponential", phase: "slower", reaches: 0.940, why: PROBING },
    Miss { size: "medium", scenario: "thrash, gentle 1.25 ×, exponential", phase: "over", reaches: 0.864, why: CONTENTION },
    Miss { size: "medium", scenario: "thrash, steep 3 ×, exponential", phase: "over", reaches: 0.804, why: CONTENTION },
    Miss { size: "medium", scenario: "bimodal", phase: "20 % long", reaches: 0.940, why: SPREAD },
    Miss { size: "medium", scenario: "slow in overload 2 ×, fixed", phase: "slower", reaches: 0.941, why: PROBING },
    Miss { size: "medium", scenario: "cancellations at 3 ×, exponential", phase: "impatient", reaches: 0.896, why: PROBING },
    Miss { size: "large", scenario: "thrash, steep 1.25 ×, fixed", phase: "over", reaches: 0.638, why: CONTENTION },
    Miss { size: "large", scenario: "thrash, steep 1.25 ×, exponential", phase: "over", reaches: 0.469, why: CONTENTION },
    Miss { size: "large", scenario: "sustained 1.25 ×, exponential", phase: "last minute", reaches: 0.967, why: PROBING },
];

impl Miss {
    pub(crate) fn is(&self, row: &Row) -> bool {
        self.size == row.size && self.phase == row.phase && self.scenario == row.name()
    }

    /// Formats a row as an entry of this list.
    pub(crate) fn paste(row: &Row) -> String {
        // Rounded down, so that the same run reaches it.
        let reaches = (Criterion::of(row).reached(row) * 1e3).floor() / 1e3;
        let (size, scenario, phase) = (&row.size, row.name(), &row.phase);
        format!(
            "    Miss {{ size: {size:?}, scenario: {scenario:?}, phase: {phase:?}, reaches: {reaches:.3}, why: \"\" }},"
        )
    }
}
