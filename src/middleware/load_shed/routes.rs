use http::Request;

use super::load_shed::LoadShed;
use crate::{
    protocol::classification::decide::ByHead,
    support::invalid::{InvalidSetting, expect_valid},
    threshold::{routes::table::Meaning, threshold::Threshold},
};

/// # Which requests
///
/// By route, by anything in the head of a request, or by its class. Of these, the first that says something decides:
///
/// 1. [`exempt`](Self::exempt), then [`at`](Self::at), then [`only`](Self::only) and [`except`](Self::except): what is excepted
///    has to be left out of the patterns of `at`. Of several patterns of one of these that match, the one that fits closest: at the first place at which they differ, a literal
///    goes before a parameter, and that before the rest of the path; then the one that names the method.
/// 2. [`threshold`](Self::threshold).
/// 3. [`classify`](Self::classify), by the ladder of [`class_ratios`](Self::class_ratios).
/// 4. The ratio.
///
/// A pattern is a path in axum's syntax: `/mail/{id}` for one segment, `/export/{*path}` for the rest of the path. A method
/// may stand in front, `"POST /mail/receive"`; as in axum, `GET` stands for `HEAD`, too, unless that is named. A call by
/// gRPC is `/package.Service/Method`.
///
/// Patterns are compared to the path of the request as this layer sees it, by which axum picks the handler, too: as it was
/// sent, not decoded. A layer around a whole `Router` sees the whole path. One inside of `Router::nest("/api", …)` sees it
/// without `/api`: there `/mail` is what is `/api/mail` outside.
///
/// With the feature `axum`, a pattern also matches where it is the very text of the template (`MatchedPath`) of the route that
/// axum has found. In nested routers that is the whole one: `/api/mail/{id}` matches there as `/mail/{id}` does, and fits
/// closest. Where a layer sees the whole path, templates change nothing. Where axum has set none, as in most fallbacks, the path
/// decides.
///
/// ```
/// use loadshed::LoadShed;
///
/// let shed = LoadShed::ratio(0.85)
///     .only(["POST /mail/receive", "/export/{*path}"]) // opt in; what is not named is counted, never shed
///     .at("/export/{*path}", 0.50)                     // this one goes first
///     .exempt(["/healthz", "/metrics"]);               // neither counted nor shed
/// ```
///
/// What a request takes of the budget is another matter: [`cost`](Self::cost).
///
/// To find what applies takes tens of nanoseconds and no allocation, and nothing where none of this is set.
impl LoadShed {
    /// Opts these routes in. Whatever is not named, here or by [`at`](Self::at), is counted and never shed.
    ///
    /// # Panics
    ///
    /// If a pattern is malformed, or conflicts with another one of this layer: `/a/{x}` with `/a/{*rest}`, or the same
    /// route with two meanings. [`try_only`](Self::try_only) returns an error instead.
    #[track_caller]
    pub fn only(self, routes: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        expect_valid(self.try_only(routes))
    }

    /// [`only`](Self::only) for routes that come from configuration. Without any, nothing is opted in.
    ///
    /// # Errors
    ///
    /// If a pattern is malformed, or conflicts with another one of this layer.
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
    /// If a pattern is malformed, or conflicts with another one of this layer. [`try_except`](Self::try_except) returns
    /// an error instead.
    #[track_caller]
    pub fn except(self, routes: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        expect_valid(self.try_except(routes))
    }

    /// [`except`](Self::except) for routes that come from configuration.
    ///
    /// # Errors
    ///
    /// If a pattern is malformed, or conflicts with another one of this layer.
    #[track_caller]
    pub fn try_except(
        self,
        routes: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, InvalidSetting> {
        self.try_routes(Meaning::Except, routes)
    }

    /// Gives a route a ratio of its own, and opts it in. It holds for all classes there, and stays when the layer's own
    /// ratio is changed.
    ///
    /// # Panics
    ///
    /// If `ratio` is not greater than 0 and at most 1, or the pattern is malformed, or conflicts with another one of this
    /// layer. [`try_at`](Self::try_at) returns an error instead.
    #[track_caller]
    pub fn at(self, route: impl AsRef<str>, ratio: f64) -> Self {
        expect_valid(self.try_at(route, ratio))
    }

    /// [`at`](Self::at) for a route and a ratio that come from configuration.
    ///
    /// # Errors
    ///
    /// If `ratio` is not greater than 0 and at most 1, or the pattern is malformed, or conflicts with another one of this
    /// layer.
    #[track_caller]
    pub fn try_at(self, route: impl AsRef<str>, ratio: f64) -> Result<Self, InvalidSetting> {
        self.try_routes(Meaning::At(Threshold::try_ratio(ratio)?), [route])
    }

    /// Neither counts these routes, nor samples, nor sheds them: health checks, metrics.
    ///
    /// # Panics
    ///
    /// If a pattern is malformed, or conflicts with another one of this layer. [`try_exempt`](Self::try_exempt) returns
    /// an error instead.
    #[track_caller]
    pub fn exempt(self, routes: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        expect_valid(self.try_exempt(routes))
    }

    /// [`exempt`](Self::exempt) for routes that come from configuration.
    ///
    /// # Errors
    ///
    /// If a pattern is malformed, or conflicts with another one of this layer.
    #[track_caller]
    pub fn try_exempt(
        self,
        routes: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, InvalidSetting> {
        self.try_routes(Meaning::Exempt, routes)
    }

    /// Decides for each request by its head, in place of the ratio.
    ///
    /// The head is the request without its body. A panic in the closure counts as [`Threshold::NEVER_SHED`](crate::Threshold::NEVER_SHED).
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
