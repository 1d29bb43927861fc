use std::sync::Arc;

use super::load_shed::LoadShed;
use crate::middleware::handle::Handle;

/// # While it runs
impl LoadShed {
    /// Names the layer, for people: with the feature `metrics` it is what the figures by route call a request that is none
    /// of the layer's own patterns. So a layer at one route has the route's own name, and one around the app tells by it
    /// what is left.
    ///
    /// ```
    /// use loadshed::{Budget, LoadShed};
    ///
    /// let pool = Budget::fixed(200).named("mail");
    /// let receive = LoadShed::ratio(0.85).budget(&pool).named("/mail/receive");
    /// let send = LoadShed::ratio(0.7).budget(&pool).named("/mail/send");
    /// ```
    pub fn named(self, name: impl Into<String>) -> Self {
        self.with(|settings| settings.name = Some(name.into().into()))
    }

    /// Makes repeatable what is left to chance: how hints are spread, as far as they have no seed of their own, and which
    /// tenants of [`fair_by`](Self::fair_by) are taken for one. The same seed and the same clock give the same decisions. It is
    /// for tests: who knows the seed can find a tenant that takes another one's part. Layers of one budget that are told of tenants
    /// need the same one. The controllers of this crate leave nothing to chance.
    pub fn seed(self, seed: u64) -> Self {
        self.with(|settings| settings.seed = Some(seed))
    }

    /// Takes the same decisions and counts them, and refuses nothing. What would have been refused runs uncounted, so
    /// that what is decided next is what would be decided then.
    pub fn dry_run(self, dry_run: bool) -> Self {
        self.with(|settings| *settings.dry_run.get_mut() = dry_run)
    }

    /// What can be changed while running.
    ///
    /// It belongs to this value as it is now, and to all layers and services that come of it. A setting made after
    /// makes a value of its own.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.settings))
    }
}
