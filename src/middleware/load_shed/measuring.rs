use http::Response;

use super::load_shed::LoadShed;
use crate::{
    control::controller::Outcome, protocol::outcome::AskOutcome, shedder::measure::Measure,
};

/// # What a learned budget measures
impl LoadShed {
    /// Sets up to where the latency of a request is measured, for a learned limit. By default to the head of its response.
    ///
    /// Where a request passes several layers of one budget, the outermost layer that counts it also measures it, and its
    /// [`outcome`](Self::outcome) applies.
    #[track_caller]
    pub fn measure(self, measure: Measure) -> Self {
        self.with(|settings| settings.measure = measure)
    }

    /// Tells a learned budget how a request has ended, by the head of its response.
    ///
    /// `None` leaves the decision to the layer. By default:
    ///
    /// | response | outcome |
    /// | --- | --- |
    /// | 503, 504; gRPC `UNAVAILABLE`, `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED` | [`Overload`](Outcome::Overload) |
    /// | 408; gRPC `CANCELLED` | [`Cancelled`](Outcome::Cancelled) |
    /// | other server errors, 429, errors of the inner service | [`Ignored`](Outcome::Ignored) |
    /// | all others | [`Success`](Outcome::Success) |
    ///
    /// A panic in the closure counts as `None`. The closure is not called for errors of the inner service, nor for a refusal by
    /// an inner layer, which is no sample. It is called for measured requests only: one in some under high load.
    ///
    /// With [`Measure::Body`], a success may still fail: a body that fails is ignored, and a gRPC status behind it counts.
    ///
    /// ```
    /// use http::StatusCode;
    /// use loadshed::{LoadShed, control::Outcome};
    ///
    /// // A back end that answers 500 when its pool is empty, and a page of news that is never urgent.
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
