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
    /// Sets when refused callers are told to retry. By default [`RetryAfter::adaptive`].
    #[track_caller]
    pub fn retry_after(self, retry_after: RetryAfter) -> Self {
        self.with(|settings| settings.retry_after = retry_after)
    }

    /// Sets the status of a refusal over HTTP. By default 429. With 503, proxies count the refusal against the server and retry
    /// elsewhere. A refused gRPC call is RESOURCE_EXHAUSTED in any case. While the budget
    /// [drains](crate::Budget::begin_drain), the status is 503, and that of gRPC UNAVAILABLE.
    ///
    /// # Panics
    ///
    /// If `status` is not an error, 400 to 599. [`try_status`](Self::try_status) returns an error instead.
    #[track_caller]
    pub fn status(self, status: StatusCode) -> Self {
        expect_valid(self.try_status(status))
    }

    /// Sets a status that comes from configuration, as [`status`](Self::status) does.
    ///
    /// # Errors
    ///
    /// If `status` is not an error, 400 to 599.
    #[track_caller]
    pub fn try_status(self, status: StatusCode) -> Result<Self, InvalidSetting> {
        self.try_with(|settings| settings.refusal.set_status(status))
    }

    /// Writes the response of a refused HTTP request, in the place of the layer's status, headers and body.
    ///
    /// The layer adds only the [`Shed`] to the extensions of that response. If the closure panics, the layer's own response goes out.
    /// For a `HEAD` request, the length of the body is sent and the body is not. A refused gRPC call gets the response that its
    /// protocol asks for, without the closure.
    ///
    /// [`on_shed_with`](Self::on_shed_with) writes a response that depends on the request. Of the two, the last setting counts.
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

    /// Writes the response of a refused HTTP request by its head, such as a cached or a cheaper response, as
    /// [`on_shed`](Self::on_shed) does. `None` leaves the response to the layer.
    ///
    /// The head is the request without its body. The closure runs within the refusal: it should do little work, and must not
    /// wait. Its work is not counted against the budget.
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

    /// Sets how much of a refused upload is read after the response, so that its sender sees the response and not a reset. By
    /// default up to 64 MiB, for up to 60 s in all and 5 s without a byte, and after 5 s at 240 bytes per second or more; at most 256
    /// uploads at once in the process, of which this layer reads at most half.
    #[track_caller]
    pub fn refused_upload(self, bounds: RefusedUpload) -> Self {
        self.with(|settings| settings.refused_upload = bounds)
    }
}
