use bytes::Bytes;
use http::{Request, Response, StatusCode};

use super::load_shed::LoadShed;
use crate::{
    refused_upload::refused_upload::RefusedUpload,
    retry_after::retry_after::RetryAfter,
    shed::Shed,
    support::invalid::{InvalidSetting, expect_valid},
};

/// # What a refused caller gets
impl LoadShed {
    /// When refused callers are told to come back.
    #[track_caller]
    pub fn retry_after(self, retry_after: RetryAfter) -> Self {
        self.with(|settings| settings.retry_after = retry_after)
    }

    /// The status of a refusal over HTTP. By default 429; 503 has proxies count it against the server, and retry it
    /// elsewhere. A refused gRPC call is RESOURCE_EXHAUSTED whatever this is.
    ///
    /// # Panics
    ///
    /// If `status` is not an error. [`try_status`](Self::try_status) returns an error instead.
    #[track_caller]
    pub fn status(self, status: StatusCode) -> Self {
        expect_valid(self.try_status(status))
    }

    /// [`status`](Self::status) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `status` is not an error.
    #[track_caller]
    pub fn try_status(self, status: StatusCode) -> Result<Self, InvalidSetting> {
        self.try_with(|settings| settings.refusal.set_status(status))
    }

    /// Writes the answer to a refused HTTP request, in place of the status, the headers and the body of this layer.
    /// Nothing is added to it but the [`Shed`] in its extensions. If the closure panics, the layer's own answer goes
    /// out. For a `HEAD` request the length of the body goes out, and not the body. A refused gRPC call is answered as
    /// that protocol asks, without the closure.
    ///
    /// See [`on_shed_with`](Self::on_shed_with) for an answer that depends on the request. Of the two, the one that is
    /// set last counts.
    ///
    /// ```
    /// use http::Response;
    /// use loadshed::{LoadShed, Shed};
    ///
    /// let shed = LoadShed::ratio(0.85).on_shed(|shed: &Shed| {
    ///     Response::builder()
    ///         .status(503)
    ///         .header("retry-after", shed.retry_after_secs())
    ///         .body("come back later".into())
    ///         .unwrap()
    /// });
    /// ```
    #[track_caller]
    pub fn on_shed(
        self,
        on_shed: impl Fn(&Shed) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        self.on_shed_with(move |_, shed| Some(on_shed(shed)))
    }

    /// [`on_shed`](Self::on_shed) for an answer that depends on the request: one from a cache, or one that costs less.
    /// `None` leaves it to the layer.
    ///
    /// The head is the request without its body. The closure runs within the refusal: it should do little, and wait for
    /// nothing. What it answers is not counted against the budget.
    ///
    /// ```
    /// use http::{Method, Response};
    /// use loadshed::LoadShed;
    ///
    /// let shed = LoadShed::ratio(0.85).on_shed_with(|head, _| match head.uri().path() {
    ///     "/suggestions" if head.method() == Method::GET => Some(Response::new("[]".into())),
    ///     _ => None,
    /// });
    /// ```
    ///
    /// The example `last_good` answers with the last good response for the path, where there is one.
    #[track_caller]
    pub fn on_shed_with(
        self,
        on_shed: impl Fn(&Request<()>, &Shed) -> Option<Response<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.refusal.set_on_shed(on_shed))
    }

    /// How much of a refused upload is read after the answer, so that its sender sees the answer and not a reset. By
    /// default up to 64 MiB, for up to 60 s in all and 5 s without a byte, 256 uploads at once in the process.
    #[track_caller]
    pub fn refused_upload(self, bounds: RefusedUpload) -> Self {
        self.with(|settings| settings.refused_upload = bounds)
    }
}
