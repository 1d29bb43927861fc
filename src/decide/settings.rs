use http::{HeaderMap, HeaderName, Request};

use super::ByHead;
use crate::{
    invalid::{InvalidSetting, expect_valid},
    layer::LoadShed,
    threshold::{Criticality, Meaning, Threshold},
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
    /// If `ratio` is not more than 0 and at most 1, or the pattern is malformed, or conflicts with another one of this
    /// layer. [`try_at`](Self::try_at) returns an error instead.
    #[track_caller]
    pub fn at(self, route: impl AsRef<str>, ratio: f64) -> Self {
        expect_valid(self.try_at(route, ratio))
    }

    /// [`at`](Self::at) for a route and a ratio that come from configuration.
    ///
    /// # Errors
    ///
    /// If `ratio` is not more than 0 and at most 1, or the pattern is malformed, or conflicts with another one of this
    /// layer.
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
    pub fn try_exempt(
        self,
        routes: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, InvalidSetting> {
        self.try_routes(Meaning::Exempt, routes)
    }

    /// Decides for each request by its head, in place of the ratio.
    ///
    /// The head is the request without its body. A panic in the closure counts as [`Threshold::NEVER`].
    ///
    /// ```
    /// use http::Method;
    /// use loadshed::{LoadShed, Threshold};
    ///
    /// let shed = LoadShed::ratio(0.85).threshold(|head| {
    ///     if head.method() == Method::GET { Threshold::NEVER } else { Threshold::ratio(0.7) }
    /// });
    /// ```
    pub fn threshold(
        self,
        decide: impl Fn(&Request<()>) -> Threshold + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.decide_mut().threshold = Some(ByHead::new(decide)))
    }

    /// Tells the class of each request, the lowest of which is shed first.
    ///
    /// [`Sheddable`](Criticality::Sheddable) stops at the ratio, and the classes above divide evenly what is left: over
    /// 0.85 they stop at 0.9, 0.95 and 1. So a class has room for as long as a lower one has. What is not classified is
    /// `Sheddable`. A panic in the closure counts as [`Threshold::NEVER`].
    ///
    /// A class that a caller merely claims is a way to the front of the queue: see
    /// [`classify_by_header`](Self::classify_by_header).
    ///
    /// ```
    /// use loadshed::{Criticality, LoadShed};
    ///
    /// let shed = LoadShed::ratio(0.85).classify(|head| match head.headers().get("x-batch") {
    ///     Some(_) => Criticality::Sheddable,
    ///     None => Criticality::Critical,
    /// });
    /// ```
    ///
    /// The class of a refused request is in its [`Shed`](crate::Shed), also where a route or a threshold has decided.
    pub fn classify(
        self,
        classify: impl Fn(&Request<()>) -> Criticality + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.decide_mut().classify = Some(ByHead::new(classify)))
    }

    /// [`classify`](Self::classify) by what the caller says in a header, as far as it is believed.
    ///
    /// Anyone can send a header. Were it believed, everyone would soon send `CRITICAL_PLUS`, and an attacker at once. So
    /// `believed` tells up to which class a caller may go, by something that it cannot make up: who it is by its
    /// certificate or its token, as an outer layer has found out, or the listener that it came in by. A claim above that
    /// counts as that class.
    ///
    /// The header has the name of a class, as `loadshed_client::Backpressure` sends it in `x-criticality`. Without one, and with one
    /// that is none, the request is [`Sheddable`](Criticality::Sheddable); of several, the lowest counts.
    ///
    /// ```
    /// use http::HeaderName;
    /// use loadshed::{Criticality, LoadShed};
    ///
    /// /// Put there by the layer that checks certificates.
    /// #[derive(Clone)]
    /// struct Peer(String);
    ///
    /// let header = HeaderName::from_static("x-criticality");
    /// let shed = LoadShed::ratio(0.85).classify_by_header(header, |head| {
    ///     match head.extensions().get::<Peer>() {
    ///         Some(Peer(name)) if name == "checkout" => Criticality::CriticalPlus,
    ///         Some(_) => Criticality::Critical,
    ///         None => Criticality::Sheddable,
    ///     }
    /// });
    /// ```
    pub fn classify_by_header(
        self,
        name: HeaderName,
        believed: impl Fn(&Request<()>) -> Criticality + Send + Sync + 'static,
    ) -> Self {
        self.classify(move |head| match claimed(head.headers(), &name) {
            // Nobody needs to be believed in this.
            Criticality::Sheddable => Criticality::Sheddable,
            claimed => claimed.min(believed(head)),
        })
    }

    /// Where classes stop, in place of the even ladder. Those that are not given stay on it, and move with the ratio;
    /// that of [`Sheddable`](Criticality::Sheddable) is the ratio.
    ///
    /// ```
    /// use loadshed::{Criticality, LoadShed};
    ///
    /// // Batch work leaves half of the budget free, and the last 2 % are for what must not fail.
    /// let shed = LoadShed::ratio(0.5).class_ratios([
    ///     (Criticality::SheddablePlus, 0.8),
    ///     (Criticality::Critical, 0.98),
    /// ]);
    /// ```
    ///
    /// # Panics
    ///
    /// If a ratio is not more than 0 and at most 1, or a class would stop above a higher one.
    /// [`try_class_ratios`](Self::try_class_ratios) returns an error instead.
    #[track_caller]
    pub fn class_ratios(self, ratios: impl IntoIterator<Item = (Criticality, f64)>) -> Self {
        expect_valid(self.try_class_ratios(ratios))
    }

    /// [`class_ratios`](Self::class_ratios) for values that come from configuration.
    ///
    /// # Errors
    ///
    /// If a ratio is not more than 0 and at most 1, or a class would stop above a higher one.
    pub fn try_class_ratios(
        self,
        ratios: impl IntoIterator<Item = (Criticality, f64)>,
    ) -> Result<Self, InvalidSetting> {
        let ratios: Vec<_> = ratios.into_iter().collect();
        self.try_with(|settings| settings.set_class_ratios(&ratios))
    }

    /// Says how many units of the budget a request takes, where not all weigh the same. Without it, each takes one.
    ///
    /// The limit is then in units, too, and so are all figures but the counters of requests: 200 may be 200 MiB of memory.
    /// A request is admitted when its units fit under its threshold; one that is dearer than that, when nothing else is
    /// in flight, and it then counts as all that it may use. What is above its threshold stays free for higher classes. 0 counts as
    /// 1. A panic in the closure counts as 1, and [`Threshold::NEVER`].
    ///
    /// Where several layers of one budget say what a request costs, the most counts, from the layer on that says it.
    ///
    /// Classes keep their order among requests of one cost: a dear one of a high class may find no room where a cheap one
    /// of a low class still does. In the same way dear requests are refused more often than cheap ones where both want more than
    /// there is; [`wait`](Self::wait) gives them their turn.
    ///
    /// A learned budget learns how many units at once the server carries: that is of use where a unit is about the same work
    /// in each request. It takes the closure's word for it: what a caller merely announces, bound it (`.min(100)`), or give the
    /// budget a ceiling, or one request that says it is a thousand is taken for a server that does a thousand in its time.
    ///
    /// ```
    /// use loadshed::{Budget, LoadShed, content_length};
    ///
    /// // 200 MiB of uploads at once: 2 kB take one unit, 40 MB take 39.
    /// let memory = Budget::fixed(200).named("uploads");
    /// let shed = LoadShed::ratio(0.85)
    ///     .budget(&memory)
    ///     .cost(|head| 1 + content_length(head) / (1 << 20));
    /// ```
    pub fn cost(self, cost: impl Fn(&Request<()>) -> usize + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.decide_mut().cost = Some(ByHead::new(cost)))
    }

    /// Puts the class of each request into its extensions, as a [`Criticality`], for handlers to read. From there a call to
    /// the next service can take it along: `loadshed_client::Backpressure` sends the one that it finds in a request's extensions. A layer
    /// that does not [classify](Self::classify) leaves the class that one further out has found.
    ///
    /// Off by default, as it costs one to three allocations: what an extension costs, and the first one the most. Requests
    /// that are exempt have no class.
    pub fn expose_class(self, expose_class: bool) -> Self {
        self.with(|settings| settings.decide_mut().expose_class = expose_class)
    }

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

fn claimed(headers: &HeaderMap, name: &HeaderName) -> Criticality {
    let claims = headers.get_all(name).iter();
    let classes = claims.map(|claim| Criticality::from_name(claim.as_bytes()).unwrap_or_default());
    classes.min().unwrap_or_default()
}
