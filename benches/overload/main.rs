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
mod score;
mod server;
mod steady;
mod variants;

use std::{error::Error, process::ExitCode, time::Duration};

use tokio::runtime::Builder;

use self::{
    callers::Protocol,
    disturbed::Disturbed,
    output::Output,
    plan::Plan,
    random::Work,
    report::Options,
    server::{Server, Service},
    steady::Steady,
};

const FIXED: Work = Work::Fixed(Duration::from_millis(10));
const EXPONENTIAL: Work = Work::Exponential(Duration::from_millis(10));
/// Of the processor: 4 slices of it.
const COMPUTED: Duration = Duration::from_millis(2);

const STEADY: [Steady; 5] = [
    Steady {
        name: "steady",
        title: "A pool of 8 workers × 10 ms, HTTP/2, work goes on after the caller has left.",
        protocol: Protocol::H2,
        service: Service::WorkGoesOn,
        work: FIXED,
        loads: &[0.5, 1.0, 2.0, 5.0, 10.0, 20.0],
        all: true,
    },
    Steady {
        name: "exponential",
        title: "The same, with exponential service times.",
        protocol: Protocol::H2,
        service: Service::WorkGoesOn,
        work: EXPONENTIAL,
        loads: &[0.5, 1.0, 10.0],
        all: false,
    },
    Steady {
        name: "stops",
        title: "The pool, where work stops when the caller leaves.",
        protocol: Protocol::H2,
        service: Service::WorkStops,
        work: FIXED,
        loads: &[0.5, 2.0, 10.0],
        all: false,
    },
    Steady {
        name: "h1",
        title: "The pool, over HTTP/1.1: to leave is to close the connection.",
        protocol: Protocol::H1,
        service: Service::WorkGoesOn,
        work: FIXED,
        loads: &[0.5, 2.0, 10.0],
        all: false,
    },
    Steady {
        name: "processor",
        title: "A request computes for 2 ms, in 4 slices, on the only processor that the server has; HTTP/2.",
        protocol: Protocol::H2,
        service: Service::Processor,
        work: Work::Fixed(COMPUTED),
        loads: &[0.5, 2.0, 10.0],
        all: false,
    },
];

const DISTURBED: [Disturbed; 2] = [
    Disturbed {
        name: "step",
        loads: [0.8; 3],
        phases: [1.0, 3.0, 5.0],
        slow: true,
    },
    Disturbed {
        name: "spike",
        loads: [0.5, 10.0, 0.5],
        phases: [1.0, 1.0, 4.0],
        slow: false,
    },
];

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
        let capacity = capacity(Service::WorkGoesOn, FIXED, plan.scored);
        scenario.run(&plan, capacity, FIXED, &mut output)?;
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
    let rate = callers.block_on(load::closed_loop(server.address, COMPUTED, span));
    drop(callers);
    server.stop();
    rate
}
