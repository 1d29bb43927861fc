use std::{sync::Arc, task::Poll};

use bytes::Bytes;
use http::{Response, header::CONTENT_LENGTH};
use http_body::{Body, Frame};

use crate::{
    admission::held::{CountPermit, Scope, show},
    budget::sample_timer::{SampleTimer, Watch},
    control::controller::Outcome,
    protocol::{grpc::grpc_content_type, outcome},
    shed::Shed,
    shedder::{measure::Measure, settings::Settings},
    threshold::threshold::Threshold,
};

/// One request that is measured, or none.
///
/// It is dropped as a cancellation, unless what is inside panics.
#[derive(Default)]
pub(crate) struct Measurement(Option<Measured>);

struct Measured {
    timer: SampleTimer,
    // With the budget in it: the layer that has measured a request says what its outcome is.
    watch: Watch<Arc<Settings>>,
}

impl Measurement {
    /// Begins with the admission under `threshold`.
    #[inline]
    pub(crate) fn begin(
        settings: &Arc<Settings>,
        permit: &CountPermit,
        threshold: Threshold,
    ) -> Self {
        if settings.budget().measures(permit) {
            Self::begin_measured(settings, permit, threshold)
        } else {
            Self::default()
        }
    }

    #[cold]
    fn begin_measured(
        settings: &Arc<Settings>,
        permit: &CountPermit,
        threshold: Threshold,
    ) -> Self {
        Self(Some(Measured {
            timer: SampleTimer::new(settings.budget(), threshold),
            watch: Watch::begin(Arc::clone(settings), permit.units()),
        }))
    }

    /// What is inside runs until [`leave`](Self::leave).
    #[inline]
    pub(crate) fn enter<'a>(&mut self, permit: &'a mut CountPermit) -> Scope<'a> {
        self.set_inside(true);
        show(permit)
    }

    /// Layers further in may have decided upon the request. One that they have refused is no sample.
    #[inline]
    pub(crate) fn leave(&mut self, scope: Scope<'_>) {
        if self.0.is_some() {
            self.learn(&scope);
        }
        drop(scope);
    }

    // Apart, so that a fixed budget pays for one comparison.
    #[cold]
    fn learn(&mut self, scope: &Scope<'_>) {
        self.set_inside(false);
        if let Some(measured) = &mut self.0 {
            match scope.left() {
                Some(threshold) => measured.timer.lower(threshold),
                None => self.0 = None,
            }
        }
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

    /// The request ends here.
    #[inline]
    pub(crate) fn end(&mut self, outcome: Outcome) {
        if let Some(Measured { timer, watch }) = self.0.take() {
            timer.finish(watch.budget(), outcome);
        }
    }

    /// The request is answered here, and keeps its place.
    #[cold]
    fn responded(&mut self, outcome: Outcome) -> BodyMeasurement {
        let Some(Measured { timer, mut watch }) = self.0.take() else {
            return BodyMeasurement::default();
        };
        watch.respond();
        timer.finish(watch.budget(), outcome);
        BodyMeasurement(Some(Measuring::Responded {
            _until_dropped: watch,
        }))
    }

    /// The head of the response is there, or nothing yet. Returns what is still to be measured.
    // Before it is taken out of `polled`, where it would have to be copied to be lent.
    #[inline]
    pub(crate) fn head<B: Body, E>(
        &mut self,
        polled: &mut Poll<Result<Response<B>, E>>,
    ) -> BodyMeasurement {
        match polled {
            Poll::Ready(Ok(response)) if self.0.is_some() => self.judge(response),
            _ => BodyMeasurement::default(),
        }
    }

    #[cold]
    fn judge<B: Body>(&mut self, response: &mut Response<B>) -> BodyMeasurement {
        let Some(measured) = &self.0 else {
            return BodyMeasurement::default();
        };
        if response.extensions().get::<Shed>().is_some() {
            // Refused further in, by whatever budget: that says nothing about how long requests take.
            self.0 = None;
            return BodyMeasurement::default();
        }
        let settings = measured.watch.owner();
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

/// What is left of a measurement behind the head of a response.
#[derive(Default)]
pub(crate) struct BodyMeasurement(Option<Measuring>);

enum Measuring {
    /// It goes on. In a box, as the body of each response would be larger by it, measured or not.
    Rest(Box<Rest>),
    /// It is over, and the place is still held.
    Responded {
        _until_dropped: Watch<Arc<Settings>>,
    },
}

struct Rest {
    measurement: Measurement,
    /// How many bytes are to come. `u64::MAX` where nobody knows, and where more than bytes matters.
    bytes: u64,
}

const UNKNOWN: u64 = u64::MAX;

/// A server stops asking for frames once it has as many bytes as it has announced (hyper over HTTP/1 does), and drops a
/// body that does not tell its end by itself. That is no cancellation.
fn bytes_to_come<B: Body>(response: &Response<B>) -> u64 {
    let headers = response.headers();
    if grpc_content_type(headers).is_some() {
        // The status is behind the bytes.
        return UNKNOWN;
    }
    let announced = headers.get(CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    let known = announced.or_else(|| response.body().size_hint().exact());
    known.unwrap_or(UNKNOWN)
}

impl BodyMeasurement {
    /// The inner body is asked for a frame until [`leave`](Self::leave). If it panics, there is no sample.
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

    /// The inner body has given `frame`.
    #[inline]
    pub(crate) fn frame<E>(&mut self, frame: Option<&Result<Frame<Bytes>, E>>, end: End) {
        match &mut self.0 {
            Some(Measuring::Rest(rest)) => {
                if let Some(outcome) = rest.judge(frame, end) {
                    rest.measurement.end(outcome);
                    self.0 = None;
                }
            }
            // Whatever comes later, the place is given back now.
            Some(Measuring::Responded { .. }) if end == End::Now => self.0 = None,
            _ => {}
        }
    }
}

impl Rest {
    /// `None` if it goes on.
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

/// Whether the body is at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Now,
    Later,
}
