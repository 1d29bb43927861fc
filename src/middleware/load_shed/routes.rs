use http::Request;

use super::load_shed::LoadShed;
use crate::{
    protocol::classification::decide::ByHead,
    support::invalid::{InvalidSetting, expect_valid},
    threshold::{routes::table::Meaning, threshold::Threshold},
};

/// # Which requests
///
/// Rules decide by route, by anything in the head of a request, or by its class. The first rule that applies decides:
///
/// 1. [`exempt`](Self::exempt), then [`at`](Self::at), then [`only`](Self::only) and [`except`](Self::except). A route that is
///    to be excepted must not match a pattern of `at`. Of several matching patterns of one rule, the closest match wins: at the
///    first difference a literal has priority over a parameter, and a parameter over the rest of the path; then a pattern
///    that names the method has priority.
/// 2. [`threshold`](Self::threshold).
/// 3. [`classify`](Self::classify), by the class thresholds of [`class_ratios`](Self::class_ratios).
/// 4. The ratio.
///
/// A pattern is a path in axum's syntax: `/mail/{id}` for one segment, `/export/{*path}` for the rest of the path. A method
/// may stand before it: `"POST /mail/receive"`. As in axum, `GET` includes `HEAD`, unless a pattern names `HEAD`. The path of a
/// gRPC call is `/package.Service/Method`.
///
/// Patterns are compared to the path of the request as this layer sees it: as sent, not decoded. axum picks the handler by
/// the same path. A layer around a whole `Router` sees the whole path. A layer inside of `Router::nest("/api", …)` sees
/// the path without `/api`: the pattern `/mail` matches there what is `/api/mail` outside.
///
/// With the feature `axum`, a pattern also matches if it equals the template (`MatchedPath`) of the route that axum has found.
/// In nested routers that is the whole template: `/api/mail/{id}` matches there as `/mail/{id}` does, and is the closest match.
/// Where a layer sees the whole path, templates change nothing. Where axum has set no template, as in most fallbacks, the
/// path decides.
///
/// ```
/// use loadshed::LoadShed;
///
/// let shed = LoadShed::ratio(0.85)
///     .only(["POST /mail/receive", "/export/{*path}"]) // opt in; all other routes are counted, never shed
///     .at("/export/{*path}", 0.50)                     // refused first
///     .exempt(["/healthz", "/metrics"]);               // neither counted nor shed
/// ```
///
/// How many units of the budget a request takes is set by [`cost`](Self::cost).
///
/// The lookup takes tens of nanoseconds and no allocation. Without any of these rules there is no lookup.
///
/// # Requests that are not looked at
///
/// While a budget is far from full, a request fits under each threshold of at least one half. That begins where at most a quarter of
/// the limit is in flight, and lasts until half of it is. A layer then admits requests without a lookup, and without a call of the
/// closures of `classify` and `key`, if
///
/// - the limit is fixed,
/// - each of its thresholds is at least 0.5, or more than 4/7 with a `key`,
/// - it has no route that is `exempt`, and no `threshold`, `cost` or `fair_by`,
/// - and neither the class is [exposed](Self::expose_class), nor [uploads are watched](Self::watch_uploads), nor decisions are
///   counted by route (with the feature `metrics`, in each layer with routes, classes or a name),
/// - it is the budget's only layer, and shares no permit with handlers ([`share_permit`](Self::share_permit)).
///
/// Each decision is the one that the lookup leads to. If the response of such a request [stalls](Self::stall_timeout), it goes on
/// under the highest threshold of the layer.
impl LoadShed {
    /// Opts these routes in. All other routes, except those of [`at`](Self::at), are counted and never shed.
    ///
    /// # Panics
    ///
    /// If a pattern is malformed, or conflicts with another pattern of this layer: `/a/{x}` with `/a/{*rest}`, or the same
    /// route with two meanings. [`try_only`](Self::try_only) returns an error instead.
    #[track_caller]
    pub fn only(self, routes: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        expect_valid(self.try_only(routes))
    }

    /// Opts in routes that come from configuration, as [`only`](Self::only) does. An empty list opts no route in.
    ///
    /// # Errors
    ///
    /// If a pattern is malformed, or conflicts with another pattern of this layer.
    #[track_caller]
    pub fn try_only(
        self,
        routes: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, InvalidSetting> {
        let shed = self.try_routes(Meaning::Only, routes)?;
        Ok(shed.with(|settings| settings.decide_mut().routes.get_or_insert_default().only()))
    }

    /// Opts these routes out: they are counted, and never shed.
    ///
    /// ```
    /// use loadshed::LoadShed;
    ///
    /// let shed = LoadShed::ratio(0.85).except(["/login"]);
    /// ```
    ///
    /// # Panics
    ///
    /// If a pattern is malformed, or conflicts with another pattern of this layer. [`try_except`](Self::try_except) returns
    /// an error instead.
    #[track_caller]
    pub fn except(self, routes: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        expect_valid(self.try_except(routes))
    }

    /// Opts out routes that come from configuration, as [`except`](Self::except) does.
    ///
    /// # Errors
    ///
    /// If a pattern is malformed, or conflicts with another pattern of this layer.
    #[track_caller]
    pub fn try_except(
        self,
        routes: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, InvalidSetting> {
        self.try_routes(Meaning::Except, routes)
    }

    /// Gives a route its own ratio, and opts the route in. The ratio holds for all classes of the route. It stays when the
    /// ratio of the layer changes.
    ///
    /// # Panics
    ///
    /// If `ratio` is not greater than 0 and at most 1, or the pattern is malformed, or conflicts with another pattern of this
    /// layer. [`try_at`](Self::try_at) returns an error instead.
    #[track_caller]
    pub fn at(self, route: impl AsRef<str>, ratio: f64) -> Self {
        expect_valid(self.try_at(route, ratio))
    }

    /// Gives a route its own ratio, both from configuration, as [`at`](Self::at) does.
    ///
    /// # Errors
    ///
    /// If `ratio` is not greater than 0 and at most 1, or the pattern is malformed, or conflicts with another pattern of this
    /// layer.
    #[track_caller]
    pub fn try_at(self, route: impl AsRef<str>, ratio: f64) -> Result<Self, InvalidSetting> {
        self.try_routes(Meaning::At(Threshold::try_ratio(ratio)?), [route])
    }

    /// Exempts these routes: their requests are neither counted, nor sampled, nor shed. For health checks and metrics.
    ///
    /// # Panics
    ///
    /// If a pattern is malformed, or conflicts with another pattern of this layer. [`try_exempt`](Self::try_exempt) returns
    /// an error instead.
    #[track_caller]
    pub fn exempt(self, routes: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        expect_valid(self.try_exempt(routes))
    }

    /// Exempts routes that come from configuration, as [`exempt`](Self::exempt) does.
    ///
    /// # Errors
    ///
    /// If a pattern is malformed, or conflicts with another pattern of this layer.
    #[track_caller]
    pub fn try_exempt(
        self,
        routes: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, InvalidSetting> {
        self.try_routes(Meaning::Exempt, routes)
    }

    /// Sets the threshold of each request by its head, in the place of the ratio.
    ///
    /// The head is the request without its body. A panic in the closure counts as
    /// [`Threshold::NEVER_SHED`](crate::Threshold::NEVER_SHED).
    ///
    /// ```
    /// use http::Method;
    /// use loadshed::{LoadShed, Threshold};
    ///
    /// let shed = LoadShed::ratio(0.85).threshold(|head| {
    ///     if head.method() == Method::GET { Threshold::NEVER_SHED } else { Threshold::ratio(0.7) }
    /// });
    /// ```
    #[track_caller]
    pub fn threshold(
        self,
        decide: impl Fn(&Request<()>) -> Threshold + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.decide_mut().threshold = Some(ByHead::new(decide)))
    }

    #[track_caller]
    fn try_routes(
        self,
        meaning: Meaning,
        routes: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, InvalidSetting> {
        self.try_with(|settings| {
            let table = settings.decide_mut().routes.get_or_insert_default();
            let mut routes = routes.into_iter();
            routes.try_for_each(|route| table.add(meaning, route.as_ref()))
        })
    }
}
