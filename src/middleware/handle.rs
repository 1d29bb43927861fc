use std::sync::Arc;

use crate::{
    budget::budget::Budget, shedder::settings::Settings, support::invalid::InvalidSetting,
    threshold::criticality::Criticality,
};

/// A handle that changes a [`LoadShed`](crate::LoadShed) while it runs. Its clones change the same layer.
///
/// A change applies to all later requests. It needs no restart, and no permit is lost.
///
/// ```
/// use loadshed::{Budget, LoadShed};
///
/// let shed = LoadShed::ratio(0.85).budget(Budget::fixed(200));
/// let handle = shed.handle();
///
/// handle.set_ratio(0.7)?;
/// handle.set_dry_run(true);
/// handle.budget().set_limit(150)?;
/// assert!(handle.set_ratio(70.0).is_err(), "the ratio stays 0.7");
/// # Ok::<(), loadshed::InvalidSetting>(())
/// ```
#[derive(Clone, Debug)]
pub struct Handle {
    settings: Arc<Settings>,
}

impl Handle {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self { settings }
    }

    /// Sets the ratio of the budget at which requests are refused. A layer made by
    /// [`observe`](crate::LoadShed::observe) sheds from now on.
    ///
    /// A closure of [`LoadShed::threshold`](crate::LoadShed::threshold) and the ratios of routes stay in force. The classes
    /// above the lowest move with the ratio, unless they [were set](crate::LoadShed::class_ratios).
    ///
    /// # Errors
    ///
    /// If `ratio` is not greater than 0 and at most 1, or a class would stop above a higher class that was set. The old
    /// ratio then stays.
    pub fn set_ratio(&self, ratio: f64) -> Result<(), InvalidSetting> {
        self.settings.set_ratio(ratio)
    }

    /// Sets class thresholds, as [`LoadShed::class_ratios`](crate::LoadShed::class_ratios) does. Classes that are not given
    /// keep their thresholds. A request that is decided meanwhile sees the old or the new ratio of its class.
    ///
    /// # Errors
    ///
    /// If a ratio is not greater than 0 and at most 1, or a class would stop above a higher class. The old ratios then stay.
    pub fn set_class_ratios(
        &self,
        ratios: impl IntoIterator<Item = (Criticality, f64)>,
    ) -> Result<(), InvalidSetting> {
        let ratios: Vec<_> = ratios.into_iter().collect();
        self.settings.set_class_ratios(&ratios)
    }

    /// Sets the ratio of a route that has its own by [`LoadShed::at`](crate::LoadShed::at), under the same pattern.
    ///
    /// # Errors
    ///
    /// If `ratio` is not greater than 0 and at most 1, or the route has no ratio of its own. The old ratio then stays.
    pub fn set_at(&self, route: impl AsRef<str>, ratio: f64) -> Result<(), InvalidSetting> {
        self.settings.set_at(route.as_ref(), ratio)
    }

    /// Sets whether refusals are only counted.
    pub fn set_dry_run(&self, dry_run: bool) {
        self.settings.set_dry_run(dry_run);
    }

    /// Returns whether refusals are only counted.
    #[must_use]
    pub fn dry_run(&self) -> bool {
        self.settings.dry_run()
    }

    /// Returns the budget of the layer.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        self.settings.budget()
    }
}
