//! The scenarios: the service, and the load.

use std::time::Duration;

use crate::{
    callers::Protocol, disturbed::Disturbed, random::Work, server::Service, steady::Steady,
};

const FIXED: Work = Work::Fixed(Duration::from_millis(10));
const EXPONENTIAL: Work = Work::Exponential(Duration::from_millis(10));
/// Processor time of a request: 4 slices.
const COMPUTED: Work = Work::Fixed(Duration::from_millis(2));

const POOL: &str =
    "A pool of 8 workers × 10 ms, HTTP/2, work goes on after the deadline of a request.";
const PROCESSOR: &str =
    "A request computes for 2 ms, in 4 slices, on the only processor that the server has; HTTP/2.";

pub(crate) const STEADY: [Steady; 5] = [
    Steady {
        name: "steady",
        title: POOL,
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
        title: "The pool, where work stops at the deadline of a request.",
        protocol: Protocol::H2,
        service: Service::WorkStops,
        work: FIXED,
        loads: &[0.5, 2.0, 10.0],
        all: false,
    },
    Steady {
        name: "h1",
        title: "The pool, over HTTP/1.1: a deadline closes the connection.",
        protocol: Protocol::H1,
        service: Service::WorkGoesOn,
        work: FIXED,
        loads: &[0.5, 2.0, 10.0],
        all: false,
    },
    Steady {
        name: "processor",
        title: PROCESSOR,
        protocol: Protocol::H2,
        service: Service::Processor,
        work: COMPUTED,
        loads: &[0.5, 2.0, 10.0, 20.0],
        all: false,
    },
];

pub(crate) const DISTURBED: [Disturbed; 4] = [
    Disturbed {
        name: "step",
        title: POOL,
        service: Service::WorkGoesOn,
        work: FIXED,
        loads: [0.8; 3],
        phases: [1.0, 3.0, 5.0],
        slow: true,
    },
    Disturbed {
        name: "spike",
        title: POOL,
        service: Service::WorkGoesOn,
        work: FIXED,
        loads: [0.5, 10.0, 0.5],
        phases: [1.0, 1.0, 4.0],
        slow: false,
    },
    Disturbed {
        name: "processor-step",
        title: PROCESSOR,
        service: Service::Processor,
        work: COMPUTED,
        loads: [0.8; 3],
        phases: [1.0, 3.0, 5.0],
        slow: true,
    },
    Disturbed {
        name: "processor-spike",
        title: PROCESSOR,
        service: Service::Processor,
        work: COMPUTED,
        loads: [0.5, 10.0, 0.5],
        phases: [1.0, 1.0, 4.0],
        slow: false,
    },
];
