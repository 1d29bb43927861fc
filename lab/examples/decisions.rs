//! Prints the decisions of a learned budget in an overload: each change of the limit that has another reason than the one before.
//!
//! Ten workers of 100 ms get 80 requests per second, and 300 after 10 s. Callers wait for 1 s. All in virtual time.
//!
//! ```text
//! cargo run --release -p loadshed-lab --example decisions
//! ```

use std::{ops::RangeInclusive, time::Duration};

use loadshed::{
    Adaptive, Budget,
    control::{Controller, Decision, Learned, Window},
};
use loadshed_lab::{Lab, Phase, Scenario, Server, Times};
use tokio::time::Instant;

fn main() {
    let server = Server::pool(10, Duration::from_millis(100), Times::Fixed);
    let scenario = Scenario::new("overload", server)
        .then(Phase::new("before", 10.0, 0.8))
        .then(Phase::new("over", 10.0, 3.0));
    println!("| second | limit | reason | service time | knee |\n| --: | --- | --- | --: | --: |");
    let _ = Lab::seed(1).run(&scenario, || Budget::new(Printed::default()));
}

#[derive(Debug, Default)]
struct Printed {
    controller: Adaptive,
    began: Option<Instant>,
    reason: &'static str,
}

impl Controller for Printed {
    fn limits(&self) -> RangeInclusive<usize> {
        self.controller.limits()
    }

    fn initial_limit(&self) -> usize {
        self.controller.initial_limit()
    }

    fn window(&self) -> Duration {
        self.controller.window()
    }

    fn update(&mut self, window: &Window<'_>) -> Decision {
        let decision = self.controller.update(window);
        let began = *self.began.get_or_insert(window.now - window.elapsed);
        if decision.limit != window.limit && decision.reason != self.reason {
            self.reason = decision.reason;
            let learned = self.controller.learned();
            println!(
                "| {:.2} | {} → {} | `{}` | {:.0} ms | {} |",
                (window.now - began).as_secs_f64(),
                window.limit,
                decision.limit,
                decision.reason,
                1_000.0 * learned.map_or(0.0, service_time),
                learned.and_then(|learned| learned.knee).unwrap_or_default(),
            );
        }
        decision
    }

    fn learned(&self) -> Option<Learned> {
        self.controller.learned()
    }
}

fn service_time(learned: Learned) -> f64 {
    learned.service_time.unwrap_or_default().as_secs_f64()
}
