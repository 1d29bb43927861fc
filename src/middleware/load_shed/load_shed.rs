use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
};

use tower_layer::Layer;

use crate::{
    budget::stall::StallSettings,
    middleware::service::LoadShedService,
    protocol::refusal::refusal::RefusalSettings,
    refused_upload::{reader::LayerReaders, refused_upload::RefusedUpload},
    retry_after::retry_after::RetryAfter,
    shedder::{measure::Measure, settings::Settings, uploads::Uploads, wait::Wait},
    support::invalid::{InvalidSetting, expect_valid},
    telemetry::observed::Decisions,
    threshold::{class_thresholds::LiveClassThresholds, threshold::Threshold},
};

/// A [`Layer`] that counts the requests in flight against a [`Budget`](crate::Budget), and refuses requests once a ratio of it is used.
///
/// ```
/// use loadshed::{Budget, LoadShed};
///
/// // One line. The limit is learned.
/// let shed = LoadShed::ratio(0.85);
///
/// // A pool of 200, of which 30 stay free for requests that are not shed.
/// let pool = Budget::fixed(200);
/// let shed = LoadShed::ratio(0.85).budget(&pool);
/// let count = LoadShed::observe().budget(&pool);
/// ```
///
/// One value is one budget, however often a framework applies, clones or rebuilds the layer. Settings are made before
/// the layer is used; after that, a [`handle`](Self::handle) changes what can be changed while running.
///
/// # Panics
///
/// A setter panics at the call that makes a mistake, with a message that says what is wrong and what is allowed: for a value
/// outside the allowed ones, for settings that contradict each other, and for any setting after [`handle`](Self::handle).
/// The `try_` twins return an error for values that come from configuration. [`layer`](Layer::layer) never panics.
#[derive(Clone, Debug)]
#[must_use]
pub struct LoadShed {
    pub(crate) settings: Arc<Settings>,
}

impl LoadShed {
    /// Creates a layer that refuses a request once more than `ratio` of the budget would be in flight.
    ///
    /// Without [`budget`](Self::budget) the limit is learned.
    ///
    /// # Panics
    ///
    /// If `ratio` is not greater than 0 and at most 1. [`try_ratio`](Self::try_ratio) returns an error instead.
    #[track_caller]
    pub fn ratio(ratio: f64) -> Self {
        expect_valid(Self::try_ratio(ratio))
    }

    /// Creates a layer of a ratio that comes from configuration, as [`ratio`](Self::ratio) does.
    ///
    /// # Errors
    ///
    /// If `ratio` is not greater than 0 and at most 1.
    pub fn try_ratio(ratio: f64) -> Result<Self, InvalidSetting> {
        Threshold::try_ratio(ratio).map(Self::with_threshold)
    }

    /// Creates a layer that counts and never sheds, unless its budget [drains](crate::Budget::begin_drain). Around the whole app, it
    /// tells a layer at one route what the other routes use.
    ///
    /// While no request can be refused by a threshold, the layer is ready when the inner service is. It is decided when the layer is
    /// first used, and holds for good, whatever a [`handle`](Self::handle) changes later.
    pub fn observe() -> Self {
        Self::with_threshold(Threshold::NEVER_SHED)
    }

    fn with_threshold(threshold: Threshold) -> Self {
        Self {
            settings: Arc::new(Settings {
                budget: OnceLock::new(),
                learned: Arc::default(),
                has_handle: AtomicBool::new(false),
                threshold: AtomicU64::new(threshold.to_bits()),
                class_thresholds: LiveClassThresholds::default(),
                changing: Mutex::default(),
                decide: None,
                dry_run: AtomicBool::new(false),
                retry_after: RetryAfter::default(),
                seed: None,
                refusal: RefusalSettings::default(),
                refused_upload: RefusedUpload::default(),
                readers: LayerReaders::default(),
                measure: Measure::default(),
                outcome: None,
                name: None,
                decisions: Decisions::default(),
                wait: Wait::default(),
                unseen: AtomicU16::new(0),
                share_permit: false,
                stall: StallSettings::default(),
                is_added: AtomicBool::new(false),
                passes_readiness: OnceLock::new(),
                uploads: Uploads::default(),
                shards: Mutex::default(),
            }),
        }
    }

    #[track_caller]
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(self.settings_mut());
        self
    }

    #[track_caller]
    pub(crate) fn try_with(
        mut self,
        change: impl FnOnce(&mut Settings) -> Result<(), InvalidSetting>,
    ) -> Result<Self, InvalidSetting> {
        change(self.settings_mut()).map(|()| self)
    }

    /// Returns the settings of this value alone: a layer in use, and a clone, keep theirs.
    ///
    /// # Panics
    ///
    /// If a handle was taken: it would govern the settings before the change, and not the layer that is then used.
    #[track_caller]
    fn settings_mut(&mut self) -> &mut Settings {
        // Relaxed: the handle was taken from this value, so before this call.
        let has_handle = self.settings.has_handle.load(Ordering::Relaxed);
        assert!(!has_handle, "{SETTER_AFTER_HANDLE}");
        let settings = Arc::make_mut(&mut self.settings);
        // Its routes, or its budget, may be about to change.
        settings.decisions = Decisions::default();
        settings
    }
}

const SETTER_AFTER_HANDLE: &str = "invalid order of calls: `handle` must be called after all settings of a `LoadShed`, \
     as a handle does not govern a layer whose settings change later";

impl<S> Layer<S> for LoadShed {
    type Service = LoadShedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        self.settings.begin();
        LoadShedService::new(inner, Settings::shards(&self.settings))
    }
}

#[cfg(all(test, not(loadshed_loom)))]
mod tests {
    use super::*;
    use crate::budget::budget::Budget;

    #[test]
    fn a_learned_budget_is_made_when_the_layer_is_used_and_not_where_one_is_given() {
        let learned = LoadShed::ratio(0.85);
        assert!(learned.settings.budget.get().is_none(), "{learned:?}");
        drop(learned.layer(()));
        assert!(learned.settings.budget.get().is_some(), "{learned:?}");
        let pool = Budget::fixed(200);
        let given = LoadShed::ratio(0.85).budget(&pool);
        assert_eq!(given.settings.budget().limit(), 200);
        let learned = LoadShed::ratio(0.85);
        let given = learned.clone().budget(&pool);
        assert_eq!(given.settings.budget().limit(), 200);
        assert!(learned.settings.learned.get().is_none(), "{learned:?}");
    }

    #[test]
    fn p06_clones_that_are_set_up_differently_share_the_learned_budget() {
        let one = LoadShed::ratio(0.85);
        let other = one.clone().named("other");
        let _permit = one.handle().budget().try_acquire(Threshold::NEVER_SHED);
        assert_eq!(other.handle().budget().in_flight(), 1);
    }
}
