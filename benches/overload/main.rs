//! What becomes of a server that is asked for more than it can carry, under this crate and its alternatives:
//! `cargo bench --bench overload`.
//!
//! After `--`, in any order:
//!
//! - words: only rows with one of them in their names;
//! - `only=steady,step`: only these scenarios;
//! - `scored=6`, `warm-up=3`: how long each load lasts, in seconds;
//! - `--quick`: a smoke run, which shows that all works, and whose figures mean little;
//! - `--write`: tables into `BENCHMARKS.md`, charts and raw figures into `docs/benchmarks`.
//!
//! A service behind axum, on a real socket and in real time. Callers arrive at their own pace (Poisson, open loop), wait
//! for 100 ms, and leave. A good answer is one that comes in time, and goodput is what counts: a server that answers all
//! of them too late does work for nobody.
//!
//! Callers and server share the machine. A cell in which the callers themselves fell behind is marked.

#[path = "../support/chart.rs"]
mod chart;
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
        "Each load lasts {:?}, and then {:?} that are scored, of 0.5 × half as long. (!): one in a hundred requests was sent more than 5 ms late, \
         by callers who were short of processor themselves.",
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

/// Requests a second that the service can answer, when it always has some.
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
