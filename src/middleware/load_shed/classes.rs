use http::{HeaderMap, HeaderName, Request};

use super::load_shed::LoadShed;
use crate::{
    protocol::classification::decide::ByHead,
    support::invalid::{InvalidSetting, expect_valid},
    threshold::criticality::Criticality,
};

/// # Which class
impl LoadShed {
    /// Tells the class of each request, the lowest of which is shed first.
    ///
    /// [`Sheddable`](Criticality::Sheddable) stops at the ratio, and the classes above divide evenly what is left: over
    /// 0.85 they stop at 0.9, 0.95 and 1. So a class has room for as long as a lower one has. What is not classified is
    /// `Sheddable`. A panic in the closure counts as [`Threshold::NEVER_SHED`](crate::Threshold::NEVER_SHED).
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
    #[track_caller]
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
    #[track_caller]
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
    /// If a ratio is not greater than 0 and at most 1, or a class would stop above a higher one.
    /// [`try_class_ratios`](Self::try_class_ratios) returns an error instead.
    #[track_caller]
    pub fn class_ratios(self, ratios: impl IntoIterator<Item = (Criticality, f64)>) -> Self {
        expect_valid(self.try_class_ratios(ratios))
    }

    /// [`class_ratios`](Self::class_ratios) for values that come from configuration.
    ///
    /// # Errors
    ///
    /// If a ratio is not greater than 0 and at most 1, or a class would stop above a higher one.
    #[track_caller]
    pub fn try_class_ratios(
        self,
        ratios: impl IntoIterator<Item = (Criticality, f64)>,
    ) -> Result<Self, InvalidSetting> {
        let ratios: Vec<_> = ratios.into_iter().collect();
        self.try_with(|settings| settings.set_class_ratios(&ratios))
    }

    /// Puts the class of each request into its extensions, as a [`Criticality`], for handlers to read. From there a call to
    /// the next service can take it along: `loadshed_client::Backpressure` sends the one that it finds in a request's extensions. A layer
    /// that does not [classify](Self::classify) leaves the class that one further out has found.
    ///
    /// Off by default, as it costs one to three allocations: what an extension costs, and the first one the most. Requests
    /// that are exempt have no class.
    #[track_caller]
    pub fn expose_class(self, expose_class: bool) -> Self {
        self.with(|settings| settings.decide_mut().expose_class = expose_class)
    }
}

fn claimed(headers: &HeaderMap, name: &HeaderName) -> Criticality {
    let claims = headers.get_all(name).iter();
    let classes = claims.map(|claim| Criticality::from_name(claim.as_bytes()).unwrap_or_default());
    classes.min().unwrap_or_default()
}
