use std::sync::Arc;

use crate::{
    budget::budget::Budget, shedder::settings::Settings, support::invalid::InvalidSetting,
    threshold::criticality::Criticality,
};

/// Changes a [`LoadShed`](crate::LoadShed) while it runs. A clone changes the same one.
///
/// A change applies to the requests decided upon from then on. None needs a restart, and none loses a permit.
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

    /// Refuses once more than `ratio` of the budget would be in flight. A layer that only observed sheds from now on.
    /// Where [`LoadShed::threshold`](crate::LoadShed::threshold) was given a closure, that goes on deciding, and so do the
    /// routes that have a ratio of their own. The classes above the lowest move along, unless they
    /// [were set](crate::LoadShed::class_ratios).
    ///
    /// # Errors
    ///
    /// If `ratio` is not greater than 0 and at most 1, or a class would stop above a higher one that was set. The old one then
    /// stays.
    pub fn set_ratio(&self, ratio: f64) -> Result<(), InvalidSetting> {
        self.settings.set_ratio(ratio)
    }

    /// Sets where classes stop, as [`LoadShed::class_ratios`](crate::LoadShed::class_ratios) does. Classes that are not given
    /// stay as they are. A request that is decided upon meanwhile goes by the old ratio of its class or by the new one.
    ///
    /// # Errors
    ///
    /// If a ratio is not greater than 0 and at most 1, or a class would stop above a higher one. The old ones then stay.
    pub fn set_class_ratios(
        &self,
        ratios: impl IntoIterator<Item = (Criticality, f64)>,
    ) -> Result<(), InvalidSetting> {
        let ratios: Vec<_> = ratios.into_iter().collect();
        self.settings.set_class_ratios(&ratios)
    }

    /// Changes the ratio of a route that was given one of its own by [`LoadShed::at`](crate::LoadShed::at), under the same
    /// pattern.
    ///
    /// # Errors
    ///
    /// If `ratio` is not greater than 0 and at most 1, or the route was given none. The old one then stays.
    pub fn set_at(&self, route: impl AsRef<str>, ratio: f64) -> Result<(), InvalidSetting> {
        self.settings.set_at(route.as_ref(), ratio)
    }

    /// Whether refusals are only counted.
    pub fn set_dry_run(&self, dry_run: bool) {
        self.settings.set_dry_run(dry_run);
    }

    /// Whether refusals are only counted.
    #[must_use]
    pub fn dry_run(&self) -> bool {
        self.settings.dry_run()
    }

    /// The layer's budget.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        self.settings.budget()
    }
}
