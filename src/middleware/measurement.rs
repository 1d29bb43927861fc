use std::{sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use http::{Response, header::CONTENT_LENGTH};
use http_body::{Body, Frame};

use crate::{
    admission::{
        measured_units::{SharedWeight, Weight},
        permit::CountPermit,
        sampler::Sampler,
        shared_permit::SharedPermit,
    },
    budget::sample_timer::SampleTimer,
    control::controller::Outcome,
    protocol::{grpc::grpc_content_type, outcome},
    shed::Shed,
    shedder::{measure::Measure, settings::Settings},
    support::sharded_arc::ShardedArc,
    threshold::threshold::Threshold,
};

/// The measurement of one request, or none.
///
/// A drop is a cancellation, unless the inner service panics.
#[derive(Default)]
pub(crate) struct Measurement(Option<Measured>);

struct Measured {
    timer: SampleTimer,
    in_flight: InFlight,
}

impl Measured {
    /// Ends the measured time.
    #[cold]
    #[inline(never)]
    fn finish(self, outcome: Outcome) -> InFlight {
        let Self { timer, in_flight } = self;
        let waited = match &in_flight.weight {
            InFlightWeight::Own(_) => Duration::ZERO,
            InFlightWeight::Shared(weight) => weight.waited(),
        };
        timer.finish_without(waited, in_flight.settings.budget(), outcome);
        in_flight
    }
}

/// A measured request in flight.
struct InFlight {
    /// Holds the budget, too: the layer that measures a request decides its outcome.
    settings: ShardedArc<Settings>,
    weight: InFlightWeight,
}

enum InFlightWeight {
    Own(Weight),
    /// The permit is shared, and weighed for as long as it is held.
    Shared(Arc<SharedWeight>),
}

impl InFlight {
    fn begin(settings: &ShardedArc<Settings>, permit: &CountPermit, sampler: &Sampler) -> Self {
        let weight = InFlightWeight::Own(Weight::begin(sampler, permit.units()));
        let mut begun = Self {
            settings: settings.clone(),
            weight,
        };
        if let Some(shared) = permit.shared() {
            begun.share(shared);
        }
        begun
    }

    /// Hands the weight to the permit, which others know by now.
    fn share(&mut self, permit: &SharedPermit) {
        if let InFlightWeight::Own(weight) = self.weight {
            let weight = SharedWeight::new(self.settings.budget().sampled(), weight);
            permit.set_weight(Arc::clone(&weight));
            self.weight = InFlightWeight::Shared(weight);
        }
    }

    fn respond(&mut self) {
        match &mut self.weight {
            InFlightWeight::Own(weight) => {
                if let Some(sampler) = self.settings.budget().sampler() {
                    weight.respond(sampler);
                }
            }
            InFlightWeight::Shared(weight) => weight.respond(),
        }
    }

    /// Weighs the request no longer.
    fn end_weight(&mut self) {
        match &mut self.weight {
            InFlightWeight::Own(weight) => {
                if let Some(sampler) = self.settings.budget().sampler() {
                    weight.count(sampler, 0);
                }
            }
            // Where a handler has taken the permit along, the request counts as responded until it is released.
            InFlightWeight::Shared(weight) => weight.respond(),
        }
    }
}

impl Drop for InFlight {
    #[inline]
    fn drop(&mut self) {
        self.end_weight();
    }
}

impl Measurement {
    /// Begins the measurement of a request that was admitted under `threshold`, if the request is measured, and the call of the
    /// inner service: see [`leave`](Self::leave). `client_timeout` returns how long the caller waits from now on, if the request
    /// states it.
    pub(crate) fn begin(
        settings: &ShardedArc<Settings>,
        permit: &CountPermit,
        threshold: Threshold,
        client_timeout: impl FnOnce() -> Option<Duration>,
    ) -> Self {
        if settings.budget().measures(permit) {
            Self::begin_measured(settings, permit, threshold, client_timeout())
        } else {
            Self::default()
        }
    }

    /// The same for a request that is measured.
    #[inline]
    pub(crate) fn begin_measured(
        settings: &ShardedArc<Settings>,
        permit: &CountPermit,
        threshold: Threshold,
        client_timeout: Option<Duration>,
    ) -> Self {
        let budget = settings.budget();
        let Some(sampler) = budget.sampler() else {
            return Self::default();
        };
        Self(Some(Measured {
            timer: SampleTimer::new(budget, sampler, threshold, client_timeout),
            in_flight: InFlight::begin(settings, permit, sampler),
        }))
    }

    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Marks the start of a call of the inner service, until [`leave`](Self::leave).
    #[inline]
    pub(crate) fn enter(&mut self) {
        self.set_inside(true);
    }

    #[inline]
    pub(crate) fn leave(&mut self) {
        self.set_inside(false);
    }

    #[inline]
    fn set_inside(&mut self, inside: bool) {
        if let Some(measured) = &mut self.0 {
            measured.timer.inside = inside;
        }
    }

    #[cold]
    fn cancel(&mut self) {
        let panics_inside = self.0.take_if(|measured| measured.timer.inside);
        if panics_inside.is_none() {
            self.end(Outcome::Cancelled);
        }
    }

    /// Ends the measurement and the request, whose permit was released.
    #[inline]
    pub(crate) fn end(&mut self, outcome: Outcome) {
        if self.0.is_some() {
            self.end_measured(outcome);
        }
    }

    #[cold]
    #[inline(never)]
    fn end_measured(&mut self, outcome: Outcome) {
        if let Some(mut measured) = self.0.take() {
            // Before the sample: the window that it may close is of the requests that are still in flight.
            measured.in_flight.end_weight();
            measured.finish(outcome);
        }
    }

    fn in_flight(&mut self) -> Option<&mut InFlight> {
        self.0.as_mut().map(|measured| &mut measured.in_flight)
    }

    /// Ends the measurement at the response head. The request keeps its permit.
    #[cold]
    fn responded(&mut self, outcome: Outcome) -> BodyMeasurement {
        let Some(mut measured) = self.0.take() else {
            return BodyMeasurement::default();
        };
        measured.in_flight.respond();
        let in_flight = measured.finish(outcome);
        BodyMeasurement(Some(Measuring::Responded {
            until_dropped: in_flight,
        }))
    }

    /// Judges the head of the response, if there is one. Returns what is still to be measured.
    // Takes `polled` by reference: to borrow a response that was moved out of it would copy it.
    #[inline]
    pub(crate) fn head<B: Body, E>(
        &mut self,
        polled: &mut Poll<Result<Response<B>, E>>,
        permit: &CountPermit,
    ) -> BodyMeasurement {
        match polled {
            Poll::Ready(Ok(response)) if self.0.is_some() => self.judge(response, permit),
            _ => BodyMeasurement::default(),
        }
    }

    #[cold]
    fn judge<B: Body>(
        &mut self,
        response: &mut Response<B>,
        permit: &CountPermit,
    ) -> BodyMeasurement {
        let Some(measured) = &mut self.0 else {
            return BodyMeasurement::default();
        };
        match permit.admitted_threshold() {
            Some(threshold) => measured.timer.lower(threshold),
            // An inner layer of this budget has refused the request, or would have: no sample of latency.
            None => {
                self.0 = None;
                return BodyMeasurement::default();
            }
        }
        if response.extensions().get::<Shed>().is_some() {
            // Refused by an inner layer of another budget.
            self.0 = None;
            return BodyMeasurement::default();
        }
        let settings = &measured.in_flight.settings;
        let outcome = settings.outcome(response);
        if response.body().is_end_stream() {
            // The permit is still held, and weighed: a window that this sample closes counts the request as in flight. The limits
            // of small servers were worse in the simulator where it was released before.
            if let Some(measured) = self.0.take() {
                measured.finish(outcome);
            }
            return BodyMeasurement::default();
        }
        if settings.measure() == Measure::Body && outcome == Outcome::Success {
            let bytes = bytes_to_come(response);
            if bytes > 0 {
                let measurement = Self(self.0.take());
                let rest = Box::new(Rest { measurement, bytes });
                return BodyMeasurement(Some(Measuring::Rest(rest)));
            }
        }
        self.responded(outcome)
    }
}

impl Drop for Measurement {
    #[inline]
    fn drop(&mut self) {
        if self.0.is_some() {
            self.cancel();
        }
    }
}

/// The part of a measurement that follows the head of the response.
#[derive(Default)]
pub(crate) struct BodyMeasurement(Option<Measuring>);

enum Measuring {
    /// The measurement goes on. In a box, as each response body would be larger, measured or not.
    Rest(Box<Rest>),
    /// The measurement is over, and the permit is still held.
    Responded { until_dropped: InFlight },
}

struct Rest {
    measurement: Measurement,
    /// The number of bytes to come. `u64::MAX` where it is unknown, and where trailers matter.
    bytes: u64,
}

const UNKNOWN: u64 = u64::MAX;

/// Returns the number of bytes after which a server stops polling the body.
///
/// hyper over HTTP/1 stops at the announced length, and drops a body that does not report its end. That drop is no
/// cancellation.
fn bytes_to_come<B: Body>(response: &Response<B>) -> u64 {
    let headers = response.headers();
    if grpc_content_type(headers).is_some() {
        // The status follows the bytes, in trailers.
        return UNKNOWN;
    }
    let announced = headers.get(CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    let known = announced.or_else(|| response.body().size_hint().exact());
    known.unwrap_or(UNKNOWN)
}

impl BodyMeasurement {
    /// Marks the start of a poll of the inner body, until [`leave`](Self::leave). If the body panics, there is no sample.
    #[inline]
    pub(crate) fn enter(&mut self) {
        self.set_inside(true);
    }

    #[inline]
    pub(crate) fn leave(&mut self) {
        self.set_inside(false);
    }

    #[inline]
    fn set_inside(&mut self, inside: bool) {
        if let Some(Measuring::Rest(rest)) = &mut self.0 {
            rest.measurement.set_inside(inside);
        }
    }

    /// Notes the response for the sweep of stalled responses: see [`CountPermit::watch_for_stall`].
    #[cold]
    pub(crate) fn watch_for_stall(&mut self, permit: &mut CountPermit) {
        let Some(permit) = permit.watch_for_stall() else {
            return;
        };
        let in_flight = match &mut self.0 {
            Some(Measuring::Responded { until_dropped }) => Some(until_dropped),
            Some(Measuring::Rest(rest)) => rest.measurement.in_flight(),
            None => None,
        };
        if let Some(in_flight) = in_flight {
            in_flight.share(permit);
        }
    }

    /// Judges a `frame` of the inner body.
    #[inline]
    pub(crate) fn frame<E>(&mut self, frame: Option<&Result<Frame<Bytes>, E>>, end: End) {
        match &mut self.0 {
            Some(Measuring::Rest(rest)) => {
                if let Some(outcome) = rest.judge(frame, end) {
                    rest.measurement.end(outcome);
                    self.0 = None;
                }
            }
            // The permit is given back now, whatever frames follow.
            Some(Measuring::Responded { .. }) if end == End::Now => self.0 = None,
            _ => {}
        }
    }
}

impl Rest {
    /// Returns the outcome, or `None` if the measurement goes on.
    #[cold]
    fn judge<E>(&mut self, frame: Option<&Result<Frame<Bytes>, E>>, end: End) -> Option<Outcome> {
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return Some(Outcome::Ignored),
            None => return Some(Outcome::Success),
        };
        if let Some(trailers) = frame.trailers_ref() {
            return Some(outcome::of_trailers(trailers));
        }
        if self.bytes != UNKNOWN {
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            self.bytes = self.bytes.saturating_sub(length);
        }
        (end == End::Now || self.bytes == 0).then_some(Outcome::Success)
    }
}

/// Whether a frame is the last one of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Now,
    Later,
}
