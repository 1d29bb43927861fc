//! A control candidate of one's own, on a scenario of one's own, beside the default.
//!
//! Two minutes of virtual time, on three seeds: a server of 32 workers loses half of them under full load, and gets them
//! back. The table says what each candidate makes of it; 1.000 is what the best fixed limit does, phase by phase.
//!
//! ```text
//! cargo run --release -p loadshed-lab --example controller
//! ```

use std::{ops::RangeInclusive, time::Duration};

use loadshed::{
    Adaptive, Budget,
    control::{Controller, Decision, Window},
};
use loadshed_lab::{Candidate, Evaluator, Phase, Row, Scenario, Server, Times};

fn main() {
    println!("{}", Row::header());
    for row in rows() {
        println!("{}", row.markdown());
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let server = Server::pool(32, Duration::from_millis(100), Times::Exponential);
    let halved = Phase {
        workers: 0.5,
        ..Phase::new("half of the workers", 40.0, 0.9)
    };
    let scenario = Scenario::new("a bad deploy", server)
        .then(Phase::new("before", 40.0, 0.9))
        .then(halved)
        .then(Phase::new("rolled back", 40.0, 0.9));
    let candidates = [
        Candidate::new("mine", || Budget::new(Mine)),
        Candidate::of_controller("default", Adaptive::default(), Adaptive::initial),
        Candidate::new("none", || Budget::fixed(100_000)),
    ];
    Evaluator::default()
        .seeds(1..4)
        .evaluate("32 workers", &[scenario], &candidates)
}

/// Down by a tenth when the slowest of the last 100 ms took over half a second, and up by one when somebody is refused.
#[derive(Debug)]
struct Mine;

impl Controller for Mine {
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
