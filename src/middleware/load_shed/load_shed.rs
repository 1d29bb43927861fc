use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64},
};

use tower_layer::Layer;

pub(crate) use crate::shedder::measure::Measure;

use crate::{
    budget::budget::Budget,
    middleware::service::LoadShedService,
    protocol::refusal::refusal::RefusalSettings,
    refused_upload::refused_upload::RefusedUpload,
    retry_after::retry_after::RetryAfter,
    shedder::{settings::Settings, wait::Wait},
    support::invalid::{InvalidSetting, expect_valid},
    telemetry::observed::Decisions,
    threshold::{class_thresholds::LiveClassThresholds, threshold::Threshold},
};

/// A [`Layer`] that counts the requests in flight against a [`Budget`], and refuses those for which there is no room.
///
/// ```
/// use loadshed::{Budget, LoadShed};
///
/// // One line. The budget is learned.
/// let shed = LoadShed::ratio(0.85);
///
/// // A pool of 200, of which 30 stay free for what is not shed.
/// let pool = Budget::fixed(200);
/// let shed = LoadShed::ratio(0.85).budget(&pool);
/// let count = LoadShed::observe().budget(&pool);
/// ```
///
/// One value is one budget, however often a framework applies, clones or rebuilds the layer. Settings are made before
/// the layer is used; after that, a [`handle`](Self::handle) changes what can be changed while running.
#[derive(Clone, Debug)]
#[must_use]
pub struct LoadShed {
    pub(crate) settings: Arc<Settings>,
}

impl LoadShed {
    /// Refuses once more than `ratio` of the budget would be in flight. Without [`budget`](Self::budget) the budget is
    /// learned.
    ///
    /// # Panics
    ///
    /// If `ratio` is not greater than 0 and at most 1. [`try_ratio`](Self::try_ratio) returns an error instead.
    #[track_caller]
    pub fn ratio(ratio: f64) -> Self {
        expect_valid(Self::try_ratio(ratio))
    }

    /// [`ratio`](Self::ratio) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `ratio` is not greater than 0 and at most 1.
    pub fn try_ratio(ratio: f64) -> Result<Self, InvalidSetting> {
        Threshold::try_ratio(ratio).map(Self::with_threshold)
    }

    /// Counts, and never sheds: around the whole app, so that a layer at one route knows what the others use.
    pub fn observe() -> Self {
        Self::with_threshold(Threshold::NEVER_SHED)
    }

    fn with_threshold(threshold: Threshold) -> Self {
        Self {
            settings: Arc::new(Settings {
                budget: Budget::adaptive(),
                threshold: AtomicU64::new(threshold.to_bits()),
                class_thresholds: LiveClassThresholds::default(),
                changing: Mutex::default(),
                decide: None,
                dry_run: AtomicBool::new(false),
                retry_after: RetryAfter::default(),
                seed: None,
                refusal: RefusalSettings::default(),
                refused_upload: RefusedUpload::default(),
                measure: Measure::default(),
                outcome: None,
                name: None,
                decisions: Decisions::default(),
                wait: Wait::default(),
            }),
        }
    }

    /// Settings are shared once the layer is in use or was cloned: from then on a change makes new ones.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(self.settings_mut());
        self
    }

    pub(crate) fn try_with(
        mut self,
        change: impl FnOnce(&mut Settings) -> Result<(), InvalidSetting>,
    ) -> Result<Self, InvalidSetting> {
        change(self.settings_mut()).map(|()| self)
    }

    fn settings_mut(&mut self) -> &mut Settings {
        let settings = Arc::make_mut(&mut self.settings);
        // Its routes, or its budget, may be about to change.
        settings.decisions = Decisions::default();
        settings
    }
}

impl<S> Layer<S> for LoadShed {
    type Service = LoadShedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        self.settings.begin();
        LoadShedService::new(inner, Arc::clone(&self.settings))
    }
}
