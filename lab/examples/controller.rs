//! Compares a custom controller to the default one, in a custom scenario.
//!
//! The scenario is 120 s of virtual time, on three seeds. A server with 32 workers loses half of them at a load of 90 %, and
//! gets them back. The table has a row for each phase and candidate; a score of 1.000 is that of the best fixed limit.
//!
//! ```text
//! cargo run --release -p loadshed-lab --example controller
//! ```

use std::{ops::RangeInclusive, time::Duration};

use loadshed::{
    Adaptive, Budget,
    control::{Controller, Decision, Window},
};
use loadshed_lab::{Candidate, Conditions, Evaluator, Phase, Row, Scenario, Server, Times};

fn main() {
    println!("{}", Row::header());
    for row in rows() {
        println!("{}", row.markdown());
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let server = Server::pool(32, Duration::from_millis(100), Times::Exponential);
    let halved = Phase::of(
        "half of the workers",
        40.0,
        [Conditions {
            workers: 0.5,
            ..Conditions::at(0.9)
        }],
    );
    let scenario = Scenario::new("a bad deploy", server)
        .then(Phase::new("before", 40.0, 0.9))
        .then(halved)
        .then(Phase::new("rolled back", 40.0, 0.9));
    let candidates = [
        Candidate::new("custom", || Budget::new(Custom)),
        Candidate::of_controller("default", Adaptive::default(), Adaptive::initial),
        Candidate::new("none", || Budget::fixed(100_000)),
    ];
    Evaluator::default()
        .seeds(1..4)
        .evaluate("32 workers", &[scenario], &candidates)
}

/// A controller that lowers the limit by a tenth if the slowest request of the last 100 ms took over 0.5 s, and otherwise
/// raises it by one if a request was refused.
#[derive(Debug)]
struct Custom;

impl Controller for Custom {
    fn limits(&self) -> RangeInclusive<usize> {
        4..=1_000
    }

    fn initial_limit(&self) -> usize {
        200
    }

    fn update(&mut self, window: &Window<'_>) -> Decision {
        let slowest = window.samples.iter().map(|sample| sample.latency).max();
        if slowest > Some(Duration::from_millis(500)) {
            return Decision::new(window.limit * 9 / 10, "slow");
        }
        if window.refused > 0 {
            return Decision::new(window.limit + 1, "headroom");
        }
        Decision::new(window.limit, "enough")
    }
}
