use std::{
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header::CONTENT_LENGTH};
use http_body::{Body, Frame};

use crate::{
    admission::{permit::CountPermit, shared_permit::SharedPermit},
    budget::{
        budget::Budget,
        sample_timer::{SampleTimer, Watch},
    },
    control::controller::Outcome,
    protocol::{grpc::grpc_content_type, outcome},
    shed::Shed,
    shedder::{measure::Measure, settings::Settings},
    threshold::threshold::Threshold,
    upload::watch::{EndableUpload, UploadWatch},
};

/// The measurement of one request, or none.
///
/// A drop is a cancellation, unless the inner service panics.
#[derive(Default)]
pub(crate) struct Measurement(Option<Measured>);

struct Measured {
    timer: SampleTimer,
    upload: Option<MeasuredUpload>,
    in_flight: InFlight,
}

/// The upload of a measured request. A drop ends its part in the measurement.
struct MeasuredUpload(Arc<UploadWatch>);

impl Drop for MeasuredUpload {
    fn drop(&mut self) {
        self.0.end_measurement();
    }
}

impl Measured {
    /// Ends the measured time.
    #[cold]
    #[inline(never)]
    fn finish(self, outcome: Outcome) -> InFlight {
        let Self {
            timer,
            upload,
            in_flight,
        } = self;
        let client_time = upload.map_or(Duration::ZERO, |upload| upload.0.end_measurement());
        if let Some(settings) = in_flight.settings() {
            timer.finish_without(client_time, settings.budget(), outcome);
        }
        in_flight
    }
}

/// A measured request in flight.
struct InFlight {
    /// Holds the settings, and so the budget: the layer that measures a request decides its outcome. `None` once a shared permit
    /// keeps it.
    watch: Option<Watch<Arc<Settings>>>,
    /// Empty where the permit is not shared.
    shared: Weak<SharedPermit>,
}

impl InFlight {
    fn settings(&self) -> Option<&Arc<Settings>> {
        self.watch.as_ref().map(Watch::owner)
    }

    fn respond(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.respond();
        }
    }
}

impl Drop for InFlight {
    #[inline]
    fn drop(&mut self) {
        // A handler has taken the permit along: until it is released, the request counts as responded.
        if let Some(shared) = self.shared.upgrade()
            && let Some(mut watch) = self.watch.take()
        {
            watch.respond();
            shared.keep_until_released(Box::new(watch));
        }
    }
}

impl Measurement {
    /// Begins the measurement of a request that was admitted under `threshold`, and the call of the inner service: see
    /// [`leave`](Self::leave).
    #[inline]
    pub(crate) fn begin(
        settings: &Arc<Settings>,
        budget: &Budget,
        permit: &CountPermit,
        threshold: Threshold,
    ) -> Self {
        if budget.measures(permit) {
            Self::begin_measured(settings, budget, permit, threshold)
        } else {
            Self::default()
        }
    }

    #[cold]
    fn begin_measured(
        settings: &Arc<Settings>,
        budget: &Budget,
        permit: &CountPermit,
        threshold: Threshold,
    ) -> Self {
        Self(Some(Measured {
            timer: SampleTimer::new(budget, threshold),
            upload: None,
            in_flight: InFlight {
                watch: Some(Watch::begin(Arc::clone(settings), permit.units())),
                shared: permit.shared().map(Arc::downgrade).unwrap_or_default(),
            },
        }))
    }

    /// Returns the units in flight that the request stands for, or 0 if it is not measured.
    fn units(&self) -> u32 {
        let watch = self.0.as_ref().and_then(|it| it.in_flight.watch.as_ref());
        watch.map_or(0, Watch::units)
    }

    /// Watches the upload of the request, if it has one, and leaves the time that its handler waits for the client out of the
    /// latency. Returns the future's part in the upload.
    pub(crate) fn watch<B: Body + 'static>(
        &mut self,
        settings: &Settings,
        request: Request<B>,
        threshold: Threshold,
    ) -> (Request<B>, Option<EndableUpload>) {
        let (request, watch) = settings.watch(request, threshold, self.units());
        let upload = watch.as_ref().map(EndableUpload::new);
        if let Some(measured) = &mut self.0 {
            measured.upload = watch.map(MeasuredUpload);
        }
        (request, upload)
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

    /// Ends the measurement and the request.
    #[inline]
    pub(crate) fn end(&mut self, outcome: Outcome) {
        if self.0.is_some() {
            self.end_measured(outcome);
        }
    }

    #[cold]
    #[inline(never)]
    fn end_measured(&mut self, outcome: Outcome) {
        if let Some(measured) = self.0.take() {
            measured.finish(outcome);
        }
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
            _until_dropped: in_flight,
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
        let Some(settings) = measured.in_flight.settings() else {
            return BodyMeasurement::default();
        };
        let outcome = settings.outcome(response);
        if response.body().is_end_stream() {
            self.end(outcome);
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
    Responded { _until_dropped: InFlight },
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
