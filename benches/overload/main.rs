//! A server under more load than its capacity, with this crate and with its alternatives:
//! `cargo bench --bench overload`.
//!
//! After `--`, in any order:
//!
//! - words: only rows with one of these words in their names;
//! - `only=steady,step`: only these scenarios;
//! - `scored=6`, `warm-up=3`: duration of each load, in seconds;
//! - `--quick`: a smoke run, which shows that the bench works; its figures are noise;
//! - `--write`: tables, charts and raw figures into `docs/benchmarks`.
//!
//! A service behind axum, on a real socket and in real time. Requests arrive by a Poisson process (open loop) and have a
//! deadline of 100 ms. A good response is one within the deadline. The result is the goodput: a response after the deadline
//! is useless.
//!
//! Callers and server share the machine. A cell in which the callers themselves were late is marked.

#[path = "../support/chart.rs"]
mod chart;
#[path = "../support/pin.rs"]
mod pin;
#[path = "../support/report.rs"]
mod report;

mod callers;
mod disturbed;
mod load;
mod output;
mod plan;
mod processor;
mod random;
mod run;
mod saturated;
mod scenarios;
mod score;
mod server;
mod steady;
mod variants;

use std::{error::Error, process::ExitCode, time::Duration};

use tokio::runtime::Builder;

use self::{
    output::Output,
    plan::Plan,
    random::Work,
    report::Options,
    scenarios::{DISTURBED, STEADY},
    server::{Server, Service},
};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::new(std::env::args().skip(1))?;
    let plan = Plan::new(&options)?;
    let mut output = Output::new(&options)?;
    output.report.paragraph(format_args!(
        "Each load runs for {:?}, and then for {:?} that are scored; 0.5 × for half as long. (!): 1 % of the requests were sent more than 5 ms \
         late, as the callers were short of processor time.",
        plan.warm_up, plan.scored
    ));
    let steady = STEADY.iter().filter(|scenario| plan.wants(scenario.name));
    for scenario in steady {
        let capacity = capacity(scenario.service, scenario.work, plan.scored);
        scenario.run(&plan, capacity, &mut output)?;
    }
    let disturbed = DISTURBED
        .iter()
        .filter(|scenario| plan.wants(scenario.name));
    for scenario in disturbed {
        let capacity = capacity(scenario.service, scenario.work, plan.scored);
        scenario.run(&plan, capacity, &mut output)?;
    }
    if plan.wants("saturated") {
        saturated::run(&plan, &mut output)?;
    }
    output.close()
}

/// Measures the capacity of the service, in requests a second, with a queue that is never empty.
fn capacity(service: Service, work: Work, span: Duration) -> f64 {
    if service != Service::Processor {
        return server::capacity(work, span);
    }
    processor::steps_a_second();
    let server = Server::start(service, variants::ALL[0].app);
    let callers = Builder::new_current_thread().enable_all().build();
    let callers = callers.expect("the system has threads");
    let rate = callers.block_on(load::closed_loop(server.address, work, span));
    drop(callers);
    server.stop();
    rate
}
