use std::sync::{Arc, atomic::Ordering};

use super::load_shed::LoadShed;
use crate::{middleware::handle::Handle, support::invalid::expect_valid};

/// # While it runs
impl LoadShed {
    /// Names the layer, for people.
    ///
    /// With the feature `metrics` the name is the label `route` of requests that match none of the layer's own patterns. So a layer
    /// at one route is named as the route, and the name of a layer around the app stands for the remaining requests.
    ///
    /// ```
    /// use loadshed::{Budget, LoadShed};
    ///
    /// let pool = Budget::fixed(200).named("mail");
    /// let receive = LoadShed::ratio(0.85).budget(&pool).named("/mail/receive");
    /// let send = LoadShed::ratio(0.7).budget(&pool).named("/mail/send");
    /// ```
    ///
    /// # Panics
    ///
    /// If the layer has a name already.
    #[track_caller]
    pub fn named(self, name: impl Into<String>) -> Self {
        let name = name.into();
        expect_valid(self.try_with(|settings| settings.set_name(name)))
    }

    /// Makes random choices repeatable: how retry hints are spread, where they have no seed of their own, and which tenants of
    /// [`fair_by`](Self::fair_by) collide.
    ///
    /// The same seed and the same clock give the same decisions. It is for tests: a caller that knows the seed can find a tenant
    /// that shares the share of another. Layers of one budget with `fair_by` need the same seed. The controllers of this
    /// crate choose nothing at random.
    #[track_caller]
    pub fn seed(self, seed: u64) -> Self {
        self.with(|settings| settings.seed = Some(seed))
    }

    /// Takes and counts the same decisions, and refuses nothing. A request that would have been refused runs, and is
    /// marked: later decisions in dry run leave it out, as if it had been refused. Layers that enforce count it, as it runs.
    ///
    /// A [drain](crate::Budget::begin_drain) is a decision of the budget: after its grace a layer in dry run refuses requests, too.
    #[track_caller]
    pub fn dry_run(self, dry_run: bool) -> Self {
        self.with(|settings| *settings.dry_run.get_mut() = dry_run)
    }

    /// Returns a handle that changes the layer while it runs.
    ///
    /// It governs this value, its clones, and all services made from them. It is taken last, after all settings: a setter
    /// called afterwards panics, as the handle would not govern the layer with that setting.
    ///
    /// ```
    /// use loadshed::LoadShed;
    ///
    /// let shed = LoadShed::ratio(0.85).except(["/login"]);
    /// let handle = shed.handle(); // last
    /// handle.set_ratio(0.7)?;
    /// # Ok::<(), loadshed::InvalidSetting>(())
    /// ```
    #[must_use]
    pub fn handle(&self) -> Handle {
        // Relaxed: read by a setter of this value or of a clone of it, which is called later.
        self.settings.has_handle.store(true, Ordering::Relaxed);
        Handle::new(Arc::clone(&self.settings))
    }
}
