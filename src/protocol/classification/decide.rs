use std::{fmt, sync::Arc};

use http::Request;

use crate::{
    admission::{
        claim::{Caller, Claim},
        shares::shares::Tenant,
    },
    protocol::head::show,
    threshold::{
        band::Band,
        class_thresholds::{ClassThresholds, LiveClassThresholds},
        criticality::Criticality,
        routes::table::{Found, Routes},
        threshold::Threshold,
    },
};

/// The settings by which requests are told apart. The threshold comes from the first of these that has one: the routes, the
/// closure for thresholds, the class thresholds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decide {
    pub(crate) routes: Option<Routes>,
    pub(crate) threshold: Option<ByHead<Threshold>>,
    pub(crate) classify: Option<ByHead<Criticality>>,
    pub(crate) cost: Option<ByHead<usize>>,
    /// Returns a caller's position in the order of its class.
    pub(crate) key: Option<ByHead<f32>>,
    pub(crate) fair_by: Option<FairBy>,
    pub(crate) expose_class: bool,
}

/// A closure over the head of a request.
#[derive(Clone)]
pub(crate) struct ByHead<T>(Arc<Ask<T>>);

type Ask<T> = dyn Fn(&Request<()>) -> T + Send + Sync;

impl<T> ByHead<T> {
    pub(crate) fn new(ask: impl Fn(&Request<()>) -> T + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }
}

/// A closure that returns the tenant of a request, hashed with the seed.
#[derive(Clone)]
pub(crate) struct FairBy(pub(crate) Arc<AskTenant>);

type AskTenant = dyn Fn(&Request<()>, Option<u64>) -> Tenant + Send + Sync;

/// What applies to one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decided {
    pub(crate) claim: Claim,
    pub(crate) class: Criticality,
    /// The index of the label in metrics: 0 is the layer's own, then come its routes. `None` if the layer has no labels.
    pub(crate) route: Option<u16>,
}

impl From<Threshold> for Decided {
    #[inline]
    fn from(threshold: Threshold) -> Self {
        Self {
            claim: threshold.into(),
            class: Criticality::default(),
            route: None,
        }
    }
}

impl Decide {
    /// Returns the highest threshold that may apply to a request, if no answer of a closure or table matters while at most half of
    /// the budget is in flight: every request then takes one unit, in no share, and fits. Otherwise returns `None`.
    ///
    /// `base` and `class_thresholds` are those of [`decide`](Self::decide).
    pub(crate) fn highest_threshold(
        &self,
        base: Threshold,
        class_thresholds: ClassThresholds,
    ) -> Option<Threshold> {
        let needs_answer = self.threshold.is_some()
            || self.cost.is_some()
            || self.fair_by.is_some()
            || self.expose_class;
        // Without a classifier, all requests are of the lowest class.
        let classes = self.classify.as_ref().map_or(1, |_| Criticality::ALL.len());
        let of_classes = Criticality::ALL[..classes].iter();
        let of_classes = of_classes.map(|class| class_thresholds.of(base, *class));
        let of_routes = self.routes.iter().flat_map(Routes::thresholds);
        let reaches_half = match self.key {
            Some(_) => Band::reaches_half,
            None => Threshold::reaches_half,
        };
        let all = of_classes.chain(of_routes);
        if needs_answer || !all.clone().all(|at| !at.is_exempt() && reaches_half(at)) {
            return None;
        }
        all.max_by_key(|at| at.priority())
    }

    /// Returns what applies to a request. `base` is the threshold of the lowest class, above which `class_thresholds` has those of
    /// the other classes. `seed` is that of the hash of tenants; without a seed, the hash is random.
    pub(crate) fn decide(
        &self,
        request: &mut Request<()>,
        base: Threshold,
        class_thresholds: &LiveClassThresholds,
        seed: Option<u64>,
    ) -> Decided {
        let found = self.routes.as_ref().map(|routes| find(routes, request));
        let Found { threshold, nth } = found.unwrap_or_default();
        let decided = Decided {
            route: Some(nth),
            ..self.ask(
                request,
                threshold,
                |class| class_thresholds.of(base, class),
                seed,
            )
        };
        if self.expose_class && !decided.claim.threshold.is_exempt() {
            let extensions = request.extensions_mut();
            // A layer that does not classify leaves the class that an outer layer has found.
            if self.classify.is_some() || extensions.get::<Criticality>().is_none() {
                extensions.insert(decided.class);
            }
        }
        decided
    }

    fn ask(
        &self,
        request: &Request<()>,
        routed: Option<Threshold>,
        base: impl Fn(Criticality) -> Threshold,
        seed: Option<u64>,
    ) -> Decided {
        let threshold = self.threshold.as_ref().filter(|_| routed.is_none());
        let (classify, cost) = (self.classify.as_ref(), self.cost.as_ref());
        let is_exempt = routed.is_some_and(Threshold::is_exempt);
        let has_callers = self.key.is_some() || self.fair_by.is_some();
        let asks_nothing =
            threshold.is_none() && classify.is_none() && cost.is_none() && !has_callers;
        if is_exempt || asks_nothing {
            return routed
                .unwrap_or_else(|| base(Criticality::default()))
                .into();
        }
        let asked = show(request, |head| {
            let for_all = routed.or_else(|| threshold.map(|ask| ask.0(head)));
            if for_all == Some(Threshold::EXEMPT) {
                return Threshold::EXEMPT.into();
            }
            let class = classify.map(|ask| ask.0(head)).unwrap_or_default();
            let stop = |class| for_all.unwrap_or_else(|| base(class));
            let units = cost.map_or(1, |ask| ask.0(head));
            Decided {
                claim: Claim {
                    caller: self.caller(head, stop, class, seed),
                    ..Claim::of(stop(class), units)
                },
                class,
                route: None,
            }
        });
        // A panic in a closure is no reason to refuse the request.
        asked.unwrap_or(Threshold::NEVER_SHED.into())
    }

    /// Returns the caller of a request of this class. `stop` returns the threshold of each class.
    fn caller(
        &self,
        head: &Request<()>,
        stop: impl Fn(Criticality) -> Threshold,
        class: Criticality,
        seed: Option<u64>,
    ) -> Option<Caller> {
        if self.key.is_none() && self.fair_by.is_none() {
            return None;
        }
        let part = self.key.as_ref().map_or(1.0, |ask| ask.0(head));
        let tenant = self.fair_by.as_ref().map(|ask| ask.0(head, seed));
        // Without a classifier, there is one class.
        let band = match self.classify {
            Some(_) => Band::of(&Criticality::ALL.map(stop), class as usize, part),
            None => Band::of(&[stop(class)], 0, part),
        };
        Some(Caller { band, tenant })
    }
}

fn find(routes: &Routes, request: &Request<()>) -> Found {
    // By the path as it was sent, not decoded, as axum's router does.
    let (method, path) = (request.method().as_str(), request.uri().path());
    #[cfg(feature = "axum")]
    if let Some(template) = request.extensions().get::<axum::extract::MatchedPath>() {
        return routes.find_by_template(method, path, template.as_str());
    }
    routes.find(method, path)
}

impl fmt::Debug for FairBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a closure")
    }
}

impl<T> fmt::Debug for ByHead<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a closure")
    }
}

#[cfg(all(test, not(loadshed_loom)))]
mod tests {
    use super::*;
    use crate::middleware::load_shed::load_shed::LoadShed;

    #[test]
    fn p16_a_seed_is_used_for_tenants_whether_it_is_set_before_or_after() {
        let tenant = |shed: LoadShed| {
            let decided = shed.settings.decide(&mut Request::new(()));
            decided.claim.tenant().expect("there is one")
        };
        let shed = || LoadShed::ratio(0.5);
        for shed in [shed().fair_by(|_| 1).seed(7), shed().seed(7).fair_by(|_| 1)] {
            assert_eq!(tenant(shed), Tenant::seeded(7, &1));
        }
        assert_eq!(tenant(shed().fair_by(|_| 1)), Tenant::of(&1));
    }
}
