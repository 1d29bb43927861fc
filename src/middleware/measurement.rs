use std::{mem, sync::Arc, time::Duration};

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
/// A drop while the time is measured is a cancellation, unless the inner service panics.
#[derive(Default)]
pub(crate) struct Measurement(Phase);

#[derive(Default)]
enum Phase {
    /// The request is not measured, or no longer.
    #[default]
    Over,
    /// It goes on until the head of the response, or until the end of the body.
    Measured(Measured),
    /// The time is over, and the permit is still held.
    Responded(InFlight),
}

struct Measured {
    timer: SampleTimer,
    in_flight: InFlight,
}

// Another 8 bytes would make the future of each request larger, measured or not.
const _: () = assert!(size_of::<Measurement>() <= 48);

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
    /// Begins the measurement of a request that was admitted under `threshold`, if the request is measured. `client_timeout`
    /// returns how long the caller waits from now on, if the request states it.
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
        Self(Phase::Measured(Measured {
            timer: SampleTimer::new(budget, sampler, permit.units(), threshold, client_timeout),
            in_flight: InFlight::begin(settings, permit, sampler),
        }))
    }

    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.0, Phase::Over)
    }

    /// Returns the measured request, if its time is not over.
    #[inline]
    fn measured(&mut self) -> Option<&mut Measured> {
        match &mut self.0 {
            Phase::Measured(measured) => Some(measured),
            Phase::Over | Phase::Responded(_) => None,
        }
    }

    /// Runs a part of the inner service. If it panics, there is no sample.
    #[inline]
    pub(crate) fn inside<T>(&mut self, run: impl FnOnce() -> T) -> T {
        self.set_inside(true);
        let result = run();
        self.set_inside(false);
        result
    }

    /// Notes whether a part of the inner service runs. At the beginning of a measurement it does.
    #[inline]
    pub(crate) fn set_inside(&mut self, inside: bool) {
        if let Some(measured) = self.measured() {
            measured.timer.inside = inside;
        }
    }

    #[cold]
    fn cancel(&mut self) {
        if self
            .measured()
            .is_some_and(|measured| measured.timer.inside)
        {
            self.0 = Phase::Over;
        }
        self.end(Outcome::Cancelled);
    }

    /// Ends the measurement and the request, whose permit was released.
    #[cold]
    pub(crate) fn end(&mut self, outcome: Outcome) {
        if let Phase::Measured(mut measured) = mem::take(&mut self.0) {
            // Before the sample: the window that it may close is of the requests that are still in flight.
            measured.in_flight.end_weight();
            measured.finish(outcome);
        }
    }

    /// Hands the weight of the request to its permit, which others know by now.
    pub(crate) fn share(&mut self, permit: &SharedPermit) {
        match &mut self.0 {
            Phase::Measured(Measured { in_flight, .. }) | Phase::Responded(in_flight) => {
                in_flight.share(permit);
            }
            Phase::Over => {}
        }
    }

    /// Judges the head of the response. The measurement goes on until the last of so many bytes to come, if there are any.
    #[inline]
    pub(crate) fn judge<B: Body>(
        &mut self,
        response: &mut Response<B>,
        permit: &CountPermit,
    ) -> u64 {
        match self.0 {
            Phase::Measured(_) => self.judge_head(response, permit),
            Phase::Over | Phase::Responded(_) => 0,
        }
    }

    #[cold]
    fn judge_head<B: Body>(&mut self, response: &mut Response<B>, permit: &CountPermit) -> u64 {
        let Phase::Measured(measured) = &mut self.0 else {
            return 0;
        };
        // An inner layer of this budget has refused the request, or would have; or one of another budget has refused it. It has no
        // sample of latency.
        let Some(threshold) = permit
            .admitted_threshold()
            .filter(|_| response.extensions().get::<Shed>().is_none())
        else {
            self.0 = Phase::Over;
            return 0;
        };
        measured.timer.lower(threshold);
        let settings = &measured.in_flight.settings;
        let outcome = settings.outcome(response);
        let bytes = match settings.measure() {
            Measure::Body if outcome == Outcome::Success => bytes_to_come(response),
            _ => 0,
        };
        let is_complete = response.body().is_end_stream();
        if bytes > 0 && !is_complete {
            return bytes;
        }
        let Phase::Measured(mut measured) = mem::take(&mut self.0) else {
            return 0;
        };
        if is_complete {
            // The permit is still held, and weighed: a window that this sample closes counts the request as in flight. The limits
            // of small servers were worse in the simulator where it was released before.
            measured.finish(outcome);
        } else {
            measured.in_flight.respond();
            self.0 = Phase::Responded(measured.finish(outcome));
        }
        0
    }

    /// Judges a `frame` of the inner body, of which so many bytes were to come: `u64::MAX` where their number is unknown, and where
    /// trailers matter.
    #[inline]
    pub(crate) fn frame<E>(
        &mut self,
        bytes: &mut u64,
        frame: Option<&Result<Frame<Bytes>, E>>,
        end: End,
    ) {
        match &mut self.0 {
            Phase::Measured(_) => {
                if let Some(outcome) = judge_frame(bytes, frame, end) {
                    self.end(outcome);
                }
            }
            // The permit is given back now, whatever frames follow.
            Phase::Responded(_) if end == End::Now => self.0 = Phase::Over,
            _ => {}
        }
    }
}

impl Drop for Measurement {
    #[inline]
    fn drop(&mut self) {
        if self.measured().is_some() {
            self.cancel();
        }
    }
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

/// Returns the outcome, or `None` if the measurement goes on.
#[cold]
fn judge_frame<E>(
    bytes: &mut u64,
    frame: Option<&Result<Frame<Bytes>, E>>,
    end: End,
) -> Option<Outcome> {
    let frame = match frame {
        Some(Ok(frame)) => frame,
        Some(Err(_)) => return Some(Outcome::Ignored),
        None => return Some(Outcome::Success),
    };
    if let Some(trailers) = frame.trailers_ref() {
        return Some(outcome::of_trailers(trailers));
    }
    if *bytes != UNKNOWN {
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        *bytes = bytes.saturating_sub(length);
    }
    (end == End::Now || *bytes == 0).then_some(Outcome::Success)
}

/// Whether a frame is the last one of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Now,
    Later,
}
