//! Promises 14 and 15: the samples and windows of a controller, and the bounds of its decisions.

mod admission_cap;
mod bodies;
mod client_timeouts;
mod limit_bounds;
mod no_sample;
mod outcomes;
mod responded;
mod several_layers;
#[path = "../support/mod.rs"]
mod support;
mod windows;

use std::{
    fmt::Debug,
    future::{Ready, ready},
    mem,
    ops::RangeInclusive,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use http_body_util::Empty;
use loadshed::{
    Budget,
    control::{Controller, Decision, Outcome, Sample, Window},
};
use tower::{Service, service_fn};

use crate::support::{Broken, Req};

/// A controller that records its samples and windows, and never moves the limit.
#[derive(Debug)]
struct Recorder {
    window: Duration,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    samples: Vec<Sample>,
    windows: Vec<Figures>,
}

/// The counts of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Figures {
    elapsed: Duration,
    in_flight: usize,
    completed: usize,
    refused: usize,
}

const LIMIT: usize = 100;

impl Controller for Recorder {
    fn limits(&self) -> RangeInclusive<usize> {
        1..=1_000
    }

    fn initial_limit(&self) -> usize {
        LIMIT
    }

    fn window(&self) -> Duration {
        self.window
    }

    fn update(&mut self, window: &Window<'_>) -> Decision {
        let mut seen = self.seen.lock().unwrap();
        seen.samples.extend(window.samples);
        seen.windows.push(Figures {
            elapsed: window.elapsed,
            in_flight: window.in_flight,
            completed: window.completed,
            refused: window.refused,
        });
        Decision::new(window.limit, "recorded")
    }
}

struct Recorded {
    budget: Budget,
    seen: Arc<Mutex<Seen>>,
}

impl Recorded {
    /// Each event closes a window.
    fn new() -> Self {
        Self::every(Duration::ZERO)
    }

    fn every(window: Duration) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let controller = Recorder {
            window,
            seen: Arc::clone(&seen),
        };
        Self {
            budget: Budget::new(controller),
            seen,
        }
    }

    /// Sets the limit, and lets the controller go on from it.
    fn set_limit(&self, limit: usize) {
        self.budget.set_limit(limit).unwrap();
        self.budget.resume_learning();
    }

    /// Returns the samples since the last call.
    fn samples(&self) -> Vec<Sample> {
        mem::take(&mut self.seen.lock().unwrap().samples)
    }

    /// Returns the windows since the last call.
    fn windows(&self) -> Vec<Figures> {
        mem::take(&mut self.seen.lock().unwrap().windows)
    }

    fn caps(&self) -> Vec<usize> {
        self.samples().iter().map(|sample| sample.cap).collect()
    }
}
const WINDOW: Duration = Duration::from_millis(100);

fn outcomes(samples: &[Sample]) -> Vec<(Outcome, u128)> {
    let told = |sample: &Sample| (sample.outcome, sample.latency.as_millis());
    samples.iter().map(told).collect()
}

fn head(status: u16, headers: &[(&'static str, &'static str)]) -> Response<Empty<Bytes>> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Empty::new()).unwrap()
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

type Responded<B> = Ready<Result<Response<B>, Broken>>;

/// Returns a service that always returns this response.
fn answers<B: Body + Clone>(
    response: Response<B>,
) -> impl Service<Req, Response = Response<B>, Error = Broken, Future = Responded<B>> + Clone {
    service_fn(move |_: Req| ready(Ok(response.clone())))
}
