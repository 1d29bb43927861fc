use http::Response;

use super::load_shed::LoadShed;
use crate::{
    control::controller::Outcome, protocol::outcome::AskOutcome, shedder::measure::Measure,
};

/// # What a learned budget measures
impl LoadShed {
    /// Up to where the latency of a request is measured, for a learned budget. By default to the head of its response.
    ///
    /// Where a request passes several layers of one budget, the outermost one that counts it also measures it, and says
    /// by its own [`outcome`](Self::outcome) how it has ended.
    #[track_caller]
    pub fn measure(self, measure: Measure) -> Self {
        self.with(|settings| settings.measure = measure)
    }

    /// Tells a learned budget how a request has ended, by the head of its response.
    ///
    /// `None` leaves it to the layer, which takes 503 and 504 for overload, and for gRPC `UNAVAILABLE`,
    /// `DEADLINE_EXCEEDED` and `RESOURCE_EXHAUSTED`; 408 and `CANCELLED` for requests that were cut short; and ignores
    /// other server errors and 429. A panic in the closure counts as `None`. Errors of the inner service are ignored, and
    /// a refusal by a layer further in is no sample, so the closure is asked about neither. It is asked about measured
    /// requests alone: under high load, one in some.
    ///
    /// With [`Measure::Body`], a success is one so far: a body that fails is ignored, and a gRPC status behind it counts.
    ///
    /// ```
    /// use http::StatusCode;
    /// use loadshed::{LoadShed, control::Outcome};
    ///
    /// // A back end that answers 500 when its pool is empty, and a page of news that is never in a hurry.
    /// let shed = LoadShed::ratio(0.85).outcome(|head| match head.status() {
    ///     StatusCode::INTERNAL_SERVER_ERROR => Some(Outcome::Overload),
    ///     _ if head.headers().contains_key("x-news") => Some(Outcome::Ignored),
    ///     _ => None,
    /// });
    /// ```
    #[track_caller]
    pub fn outcome(
        self,
        outcome: impl Fn(&Response<()>) -> Option<Outcome> + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.outcome = Some(AskOutcome::new(outcome)))
    }
}
