use http::{HeaderMap, HeaderName, Request};

use super::load_shed::LoadShed;
use crate::{
    protocol::classification::decide::ByHead,
    support::invalid::{InvalidSetting, expect_valid},
    threshold::criticality::Criticality,
};

/// # Which class
impl LoadShed {
    /// Classifies each request. The lowest class is shed first.
    ///
    /// [`Sheddable`](Criticality::Sheddable) stops at the ratio. The classes above divide evenly what is left: over 0.85 they
    /// stop at 0.9, 0.95 and 1. So a class is refused only if every lower class is. A request without a class is `Sheddable`. A
    /// panic in the closure counts as [`Threshold::NEVER_SHED`](crate::Threshold::NEVER_SHED).
    ///
    /// The closure is [not called for every request](Self#requests-that-are-not-looked-at).
    ///
    /// Do not trust a class that a caller claims: see [`classify_by_header`](Self::classify_by_header).
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

    /// Classifies each request by a header, up to the class that the closure trusts the caller with.
    ///
    /// Any caller can send a header. If it were trusted, all callers would soon send `CRITICAL_PLUS`. So `believed` returns the highest
    /// class that this caller may claim. It should decide by something that the caller cannot choose: the certificate or
    /// token that an outer layer has verified, or the listener that accepted the connection. A claim above that class counts as
    /// that class.
    ///
    /// The header holds the name of a class, as `loadshed_client::Backpressure` sends it in `x-criticality`. Without the header,
    /// or with another value, the request is [`Sheddable`](Criticality::Sheddable). Of several values the lowest counts. The closure
    /// is called as that of [`classify`](Self::classify), where a request claims a higher class.
    ///
    /// ```
    /// use http::HeaderName;
    /// use loadshed::{Criticality, LoadShed};
    ///
    /// /// Inserted by the layer that verifies certificates.
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
            // The lowest class needs no trust.
            Criticality::Sheddable => Criticality::Sheddable,
            claimed => claimed.min(believed(head)),
        })
    }

    /// Sets the class thresholds, in the place of the even division. Classes that are not given stay evenly divided, and move
    /// with the ratio. The threshold of [`Sheddable`](Criticality::Sheddable) is the ratio.
    ///
    /// ```
    /// use loadshed::{Criticality, LoadShed};
    ///
    /// // Batch work leaves half of the budget free. The last 2 % are for CRITICAL_PLUS requests.
    /// let shed = LoadShed::ratio(0.5).class_ratios([
    ///     (Criticality::SheddablePlus, 0.8),
    ///     (Criticality::Critical, 0.98),
    /// ]);
    /// ```
    ///
    /// # Panics
    ///
    /// If a ratio is not greater than 0 and at most 1, or a class would stop above a higher class.
    /// [`try_class_ratios`](Self::try_class_ratios) returns an error instead.
    #[track_caller]
    pub fn class_ratios(self, ratios: impl IntoIterator<Item = (Criticality, f64)>) -> Self {
        expect_valid(self.try_class_ratios(ratios))
    }

    /// Sets class thresholds that come from configuration, as [`class_ratios`](Self::class_ratios) does.
    ///
    /// # Errors
    ///
    /// If a ratio is not greater than 0 and at most 1, or a class would stop above a higher class.
    #[track_caller]
    pub fn try_class_ratios(
        self,
        ratios: impl IntoIterator<Item = (Criticality, f64)>,
    ) -> Result<Self, InvalidSetting> {
        let ratios: Vec<_> = ratios.into_iter().collect();
        self.try_with(|settings| settings.set_class_ratios(&ratios))
    }

    /// Inserts the class of each request into its extensions, as a [`Criticality`], for handlers. A call to the next service can
    /// pass it on: `loadshed_client::Backpressure` sends the class in a request's extensions. A layer that does not
    /// [classify](Self::classify) keeps the class that an outer layer has inserted.
    ///
    /// Off by default, as it costs one to three allocations: the price of an extension, highest for the first one. Exempt requests
    /// have no class.
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
