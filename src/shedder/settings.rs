//! The settings of a layer, and the order of its decisions about a request.

use std::{
    cell::Cell,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
};

use http::{Request, Response};
use http_body::Body;

use super::{
    measure::Measure,
    uploads::{Uploading, Uploads},
    wait::Wait,
};
use crate::{
    admission::{
        claim::{Mode, Refused},
        measured_units::SharedWeight,
        permit::CountPermit,
        shared_permit::{PermitRef, SharedPermit},
        verdict::Verdict,
    },
    budget::{budget::Budget, request_permit::RequestPermit, stall::StallSettings},
    control::controller::Outcome,
    protocol::{
        classification::decide::{Decide, Decided},
        outcome::{self, AskOutcome},
        refusal::refusal::{RefusalResponse, RefusalSettings},
    },
    refused_upload::{
        reader::{self, LayerReaders},
        refused_upload::RefusedUpload,
    },
    retry_after::retry_after::RetryAfter,
    support::{invalid::InvalidSetting, sharded_arc::Shards},
    telemetry::observed::Decisions,
    threshold::{
        class_thresholds::LiveClassThresholds, criticality::Criticality, routes::table::Routes,
        threshold::Threshold,
    },
    upload::watch::EndableUpload,
};

/// The settings that all services of one layer share.
pub(crate) struct Settings {
    /// Unset until the layer is used: a learned budget is not made where one is about to be given.
    pub(crate) budget: OnceLock<Budget>,
    /// The learned budget that this layer and its clones share, unless they are given another.
    pub(crate) learned: Arc<OnceLock<Budget>>,
    /// Whether a handle was taken: from then on only the handle changes the settings.
    pub(crate) has_handle: AtomicBool,
    /// The bits of the [`Threshold`] of the lowest class.
    pub(crate) threshold: AtomicU64,
    /// The thresholds of the classes above the lowest.
    pub(crate) class_thresholds: LiveClassThresholds,
    /// Held while either changes: whether ratio and class thresholds agree is checked first.
    pub(crate) changing: Mutex<()>,
    /// `None` where all requests have the same claim.
    pub(crate) decide: Option<Box<Decide>>,
    pub(crate) dry_run: AtomicBool,
    pub(crate) retry_after: RetryAfter,
    /// The seed of random choices.
    pub(crate) seed: Option<u64>,
    pub(crate) refusal: RefusalSettings,
    pub(crate) refused_upload: RefusedUpload,
    pub(crate) readers: LayerReaders,
    pub(crate) measure: Measure,
    pub(crate) outcome: Option<AskOutcome>,
    pub(crate) name: Option<Box<str>>,
    pub(crate) decisions: Decisions,
    pub(crate) wait: Wait,
    /// The bits of a [`RoundedThreshold`](crate::threshold::rounded::RoundedThreshold), if requests are admitted without a look at them
    /// while the budget is far from full: see [`admit_unseen`](Settings::admit_unseen). Otherwise 0.
    pub(crate) unseen: AtomicU16,
    /// Whether handlers find the permit in the extensions of the request.
    pub(crate) share_permit: bool,
    pub(crate) stall: StallSettings,
    /// Whether it counts as a layer of its budget already.
    pub(crate) is_added: AtomicBool,
    /// Whether the layer never refused a request when it was first used: then it passes the readiness of the inner service on.
    pub(crate) passes_readiness: OnceLock<bool>,
    pub(crate) uploads: Uploads,
    /// The references of the services to these settings, while there is a service.
    pub(crate) shards: Mutex<Weak<Shards<Self>>>,
}

/// The route label of requests without a route, in a layer without a name.
const UNNAMED: &str = "other";

impl Settings {
    /// Returns the claim of all requests, where it does not depend on the request.
    #[inline]
    pub(crate) fn decided(&self) -> Decided {
        Decided {
            claim: self.threshold().into(),
            class: Criticality::default(),
            route: self.name.as_ref().map(|_| 0),
        }
    }

    /// Returns whether the claim of a request depends on its head.
    pub(crate) fn depends_on_requests(&self) -> bool {
        self.decide.is_some()
    }

    /// Returns the claim of one request.
    pub(crate) fn decide(&self, head: &mut Request<()>) -> Decided {
        let Some(decide) = &self.decide else {
            return self.decided();
        };
        let mut decided = decide.decide(head, self.threshold(), &self.class_thresholds, self.seed);
        if decided.claim.units > 1 {
            decided.claim = self.budget().bound(decided.claim);
        }
        decided
    }

    /// Returns the permit of this budget that an outer layer has.
    pub(crate) fn held_permit<B>(&self, request: &Request<B>) -> Option<Arc<SharedPermit>> {
        let permit = request.extensions().get::<PermitRef>()?;
        self.budget().find_permit(permit)
    }

    /// Lets inner layers find the permit of a request that was admitted just now, and handlers if they are to. `held` is the
    /// permit that an outer layer has. Returns the permit of the request, if it is shared.
    #[cold]
    pub(crate) fn share<B: Body>(
        &self,
        request: &mut Request<B>,
        permit: &mut CountPermit,
        held: Option<Arc<SharedPermit>>,
        threshold: Threshold,
    ) -> Option<Arc<SharedPermit>> {
        let extensions = request.extensions_mut();
        // The permit of a probe is shared already.
        let is_shared = self.budget().is_shared() || permit.shared().is_some();
        if is_shared
            && let Some(shared) = permit.share(threshold)
            && let Some(outer) = extensions.insert(PermitRef::to(shared))
        {
            shared.set_outer(outer);
        }
        if self.share_permit {
            let shared = permit.shared().cloned().or_else(|| held.clone());
            let outer = extensions.remove();
            extensions.insert(RequestPermit::new(shared, outer));
        }
        if self.has_upload(request) && self.budget().measures(permit) {
            // Its upload tells how long the handler waits for the client.
            permit.share(threshold);
        }
        permit.shared().cloned().or(held)
    }

    pub(crate) fn decide_mut(&mut self) -> &mut Decide {
        self.decide.get_or_insert_default()
    }

    /// # Errors
    ///
    /// If the layer has a name already.
    pub(crate) fn set_name(&mut self, name: String) -> Result<(), InvalidSetting> {
        if let Some(first) = &self.name {
            return Err(InvalidSetting::named_twice("layer", first, &name));
        }
        self.name = Some(name.into());
        Ok(())
    }

    fn hints(&self) -> RetryAfter {
        match self.seed {
            Some(seed) => self.retry_after.or_seed(seed),
            None => self.retry_after,
        }
    }

    #[inline]
    pub(crate) fn threshold(&self) -> Threshold {
        // Relaxed, as all settings: each is independent of the others.
        Threshold::from_bits(self.threshold.load(Ordering::Relaxed))
    }

    /// Returns whether a request may be refused by its threshold.
    fn can_shed(&self) -> bool {
        let decide_can_shed = |decide: &Decide| {
            decide.threshold.is_some() || decide.routes.as_ref().is_some_and(Routes::has_ratios)
        };
        !self.threshold().is_never_shed()
            || self.class_thresholds.load().is_set()
            || self.decide.as_deref().is_some_and(decide_can_shed)
    }

    #[inline]
    pub(crate) fn passes_readiness(&self) -> bool {
        self.passes_readiness.get().copied().unwrap_or_default()
    }

    /// Prepares for requests: the layer is about to be used.
    pub(crate) fn begin(&self) {
        let budget = self.budget();
        if !self.is_added.swap(true, Ordering::Relaxed) {
            budget.add_layer(self.share_permit);
            budget.set_stall(&self.stall);
        }
        if self.decide.is_some() || self.name.is_some() {
            self.begin_decisions();
        }
        self.passes_readiness.get_or_init(|| !self.can_shed());
        self.find_unseen(&self.change());
    }

    /// Returns the references to `settings`: the same for all services of the layer.
    pub(crate) fn shards(settings: &Arc<Self>) -> Arc<Shards<Self>> {
        let shards = settings.shards.lock();
        let mut shards = shards.unwrap_or_else(PoisonError::into_inner);
        shards.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Shards::new(settings));
            *shards = Arc::downgrade(&new);
            new
        })
    }

    fn begin_decisions(&self) {
        if self.decide.iter().any(|decide| decide.fair_by.is_some()) {
            self.budget().make_shares();
        }
        self.decisions
            .begin(1 + self.routes().map_or(0, Routes::len));
    }

    fn routes(&self) -> Option<&Routes> {
        self.decide.as_ref()?.routes.as_ref()
    }

    /// Returns the label of the route with this number: 0 stands for all requests without a route.
    fn label(&self, nth: u16) -> &str {
        let index = usize::from(nth).checked_sub(1);
        let route = index.and_then(|index| self.routes()?.label(index));
        route.or(self.name.as_deref()).unwrap_or(UNNAMED)
    }

    /// Counts a decision, in a layer with rules or a name.
    #[inline]
    fn count(&self, decided: &Decided, verdict: Verdict) {
        if let Some(nth) = decided.route {
            let find = || (self.budget().observed(), self.label(nth));
            self.decisions.add(nth, decided.class, verdict, find);
        }
    }

    /// Decides upon a request. Takes the layer's budget, as the caller has it at hand.
    // Always: its result is copied otherwise, which costs as much as the decision.
    #[inline(always)]
    pub(crate) fn admit(
        &self,
        budget: &Budget,
        decided: &Decided,
        held: Option<&SharedPermit>,
    ) -> Result<CountPermit, Refused> {
        if self.dry_run() {
            return self.try_out(budget, decided, held);
        }
        let admitted = budget.admit(&decided.claim, Mode::Enforce, held);
        let verdict = match admitted {
            Ok(_) if decided.claim.threshold.is_exempt() => Verdict::Exempt,
            Ok(_) => Verdict::Admitted,
            // It may be queued: see `refuse` and `has_waited`.
            Err(_) => return admitted,
        };
        self.count(decided, verdict);
        admitted
    }

    /// Returns whether the request has a body, in a layer that watches uploads.
    pub(crate) fn has_upload<B: Body>(&self, request: &Request<B>) -> bool {
        self.uploads.are_watched() && !request.body().is_end_stream()
    }

    /// Watches the upload of an admitted request: see [`Uploads::watch`].
    pub(crate) fn watch<B: Body + 'static>(
        &self,
        request: Request<B>,
        threshold: Threshold,
        weight: Option<Arc<SharedWeight>>,
    ) -> (Request<B>, Option<EndableUpload>) {
        let uploading = Uploading {
            budget: self.budget(),
            threshold,
            weight,
            is_dry_run: self.dry_run(),
        };
        let (request, watch) = self.uploads.watch(request, uploading);
        (request, watch.map(EndableUpload::new))
    }

    /// Counts a queued request that was admitted.
    pub(crate) fn has_waited(&self, decided: &Decided) {
        self.count(decided, Verdict::Admitted);
    }

    #[cold]
    fn try_out(
        &self,
        budget: &Budget,
        decided: &Decided,
        held: Option<&SharedPermit>,
    ) -> Result<CountPermit, Refused> {
        let passed = match decided.claim.threshold.is_exempt() {
            true => Verdict::Exempt,
            false => Verdict::Admitted,
        };
        let told = Cell::new(Some(passed));
        let admitted = budget.admit(&decided.claim, Mode::DryRun(&told), held);
        if let Some(verdict) = told.get() {
            self.count(decided, verdict);
        }
        admitted
    }

    /// Counts a refusal, and returns its response. If the request [has more](reader::has_more), its rest is to be
    /// [read](Self::read_rest).
    #[inline]
    pub(crate) fn refuse<B>(
        &self,
        request: &mut Request<B>,
        decided: &Decided,
        refused: &Refused,
    ) -> RefusalResponse {
        let counted = self.budget().refused(refused);
        counted.end_slow_uploads(decided.claim.threshold);
        self.count(decided, Verdict::Refused(refused.reason));
        let shed = |unit| counted.shed(&self.hints(), unit, decided.class);
        self.refusal.respond(request, shed)
    }

    /// Reads what is left of a refused request.
    #[cold]
    pub(crate) fn read_rest<B: Body + Send + 'static>(&self, request: Request<B>) {
        let refuses_from = self.budget().refuses_from();
        let (bounds, readers) = (self.refused_upload, &self.readers);
        reader::read(bounds, readers, refuses_from, request.into_body());
    }

    /// Returns how refused requests may wait. In a dry run no request is refused.
    #[inline]
    pub(crate) fn wait(&self) -> Option<&Wait> {
        Some(&self.wait).filter(|_| !self.dry_run())
    }

    pub(crate) fn wait_mut(&mut self) -> &mut Wait {
        &mut self.wait
    }

    /// Returns the outcome of a measured request, by the head of its response.
    pub(crate) fn outcome<B>(&self, response: &mut Response<B>) -> Outcome {
        let asked = self.outcome.as_ref();
        let decided = asked.and_then(|ask| ask.outcome(response));
        decided.unwrap_or_else(|| outcome::of_head(response))
    }

    pub(crate) fn measure(&self) -> Measure {
        self.measure
    }

    #[inline]
    pub(crate) fn dry_run(&self) -> bool {
        self.dry_run.load(Ordering::Relaxed)
    }

    pub(crate) fn set_dry_run(&self, dry_run: bool) {
        self.dry_run.store(dry_run, Ordering::Relaxed);
    }

    pub(crate) fn set_ratio(&self, ratio: f64) -> Result<(), InvalidSetting> {
        let threshold = Threshold::try_ratio(ratio)?;
        let alone = self.change();
        if let Some(allowed) = self.class_thresholds.load().disorder(threshold) {
            return Err(InvalidSetting::new("ratio", ratio, allowed));
        }
        self.threshold.store(threshold.to_bits(), Ordering::Relaxed);
        self.find_unseen(&alone);
        Ok(())
    }

    pub(crate) fn set_class_ratios(
        &self,
        ratios: &[(Criticality, f64)],
    ) -> Result<(), InvalidSetting> {
        let alone = self.change();
        let mut class_thresholds = self.class_thresholds.load();
        let threshold = class_thresholds.set(self.threshold(), ratios)?;
        self.class_thresholds.store(class_thresholds);
        self.threshold.store(threshold.to_bits(), Ordering::Relaxed);
        self.find_unseen(&alone);
        Ok(())
    }

    pub(crate) fn set_at(&self, route: &str, ratio: f64) -> Result<(), InvalidSetting> {
        let threshold = Threshold::try_ratio(ratio)?;
        let alone = self.change();
        match self.routes() {
            Some(table) => table.set_at(route, threshold)?,
            None => Routes::default().set_at(route, threshold)?,
        }
        self.find_unseen(&alone);
        Ok(())
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        // A poisoned lock is as good: it guards nothing that a panic could leave half done.
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    pub(crate) fn budget(&self) -> &Budget {
        match self.budget.get() {
            Some(budget) => budget,
            None => self.learned_budget(),
        }
    }

    // A function of its own: within `budget` it would keep that from being inlined.
    #[cold]
    fn learned_budget(&self) -> &Budget {
        self.budget
            .get_or_init(|| self.learned.get_or_init(Budget::adaptive).clone())
    }
}

impl Clone for Settings {
    fn clone(&self) -> Self {
        Self {
            // A clone of a layer shares its budget, the learned one as well.
            budget: self.budget.clone(),
            learned: Arc::clone(&self.learned),
            has_handle: AtomicBool::new(false),
            threshold: AtomicU64::new(self.threshold.load(Ordering::Relaxed)),
            class_thresholds: self.class_thresholds.clone(),
            changing: Mutex::default(),
            decide: self.decide.clone(),
            dry_run: AtomicBool::new(self.dry_run()),
            retry_after: self.retry_after,
            seed: self.seed,
            refusal: self.refusal.clone(),
            refused_upload: self.refused_upload,
            // Reads for this layer alone.
            readers: LayerReaders::default(),
            measure: self.measure,
            outcome: self.outcome.clone(),
            name: self.name.clone(),
            // Counts for this layer alone.
            decisions: Decisions::default(),
            wait: self.wait.clone(),
            unseen: AtomicU16::new(0),
            share_permit: self.share_permit,
            stall: self.stall.clone(),
            is_added: AtomicBool::new(false),
            passes_readiness: OnceLock::new(),
            uploads: self.uploads.clone(),
            shards: Mutex::default(),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("name", &self.name)
            .field("budget", &self.budget.get())
            .field("threshold", &self.threshold())
            .field("class_thresholds", &self.class_thresholds)
            .field("decide", &self.decide)
            .field("dry_run", &self.dry_run())
            .field("retry_after", &self.retry_after)
            .field("refusal", &self.refusal)
            .field("refused_upload", &self.refused_upload)
            .field("measure", &self.measure)
            .field("outcome", &self.outcome.is_some())
            .field("wait", &self.wait)
            .field("share_permit", &self.share_permit)
            .field("stall", &self.stall)
            .field("uploads", &self.uploads)
            .finish()
    }
}
