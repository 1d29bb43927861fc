//! The units of measured requests in flight.
//!
//! A part of the requests is measured. Of all units in flight as large a share has responded as of the measured units: a
//! controller does not take these for work that waits. So a measured request is weighed exactly while its permit is in the count
//! and unmarked, as the units in flight are that a controller is shown.

use std::{
    fmt,
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::sampler::Sampler;
use crate::support::sync::{Mutex, MutexGuard};

/// The units in flight that a measured request stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weight {
    units: usize,
    is_counted: bool,
    has_responded: bool,
    /// The handler waits for the bytes of its client.
    waits_for_client: bool,
}

impl Weight {
    /// Weighs a request that holds `units`.
    pub(crate) fn begin(sampler: &Sampler, units: u32) -> Self {
        let units = sampler.one_in().saturating_mul(units as usize);
        let mut weight = Self {
            units,
            is_counted: false,
            has_responded: false,
            waits_for_client: false,
        };
        weight.count(sampler, true);
        weight
    }

    /// Notes whether the permit is in the count, and unmarked.
    pub(crate) fn count(&mut self, sampler: &Sampler, is_counted: bool) {
        self.change(sampler, |weight| weight.is_counted = is_counted);
    }

    /// Notes that the request has responded and keeps its permit.
    pub(crate) fn respond(&mut self, sampler: &Sampler) {
        self.change(sampler, |weight| weight.has_responded = true);
    }

    fn change(&mut self, sampler: &Sampler, change: impl FnOnce(&mut Self)) {
        let before = self.parts();
        change(self);
        let after = self.parts();
        for (sum, (before, after)) in [
            (&sampler.watched, (before.0, after.0)),
            (&sampler.responded, (before.1, after.1)),
        ] {
            if before != after {
                sum.add(after.wrapping_sub(before));
            }
        }
    }

    /// Returns the units that count as measured, and as responded.
    fn parts(self) -> (usize, usize) {
        let counted = if self.is_counted { self.units } else { 0 };
        let is_idle = self.has_responded || self.waits_for_client;
        (counted, if is_idle { counted } else { 0 })
    }
}

/// What has a sampler.
pub(crate) trait Sampled: Send + Sync {
    fn sampler(&self) -> Option<&Sampler>;
}

/// The weight of a request whose permit is shared: the permit, the measurement and the upload know it. It is weighed until the
/// permit is released.
pub(crate) struct SharedWeight {
    sampled: Arc<dyn Sampled>,
    state: Mutex<State>,
}

struct State {
    weight: Weight,
    /// Since when the handler waits for its client.
    waiting_since: Option<Instant>,
    /// How long it has waited before.
    waited: Duration,
}

impl SharedWeight {
    pub(crate) fn new(sampled: Arc<dyn Sampled>, weight: Weight) -> Arc<Self> {
        let state = State {
            weight,
            waiting_since: None,
            waited: Duration::ZERO,
        };
        Arc::new(Self {
            sampled,
            state: Mutex::new(state),
        })
    }

    pub(crate) fn count(&self, is_counted: bool) {
        self.change(|weight, sampler| weight.count(sampler, is_counted));
    }

    pub(crate) fn respond(&self) {
        self.change(|weight, sampler| weight.respond(sampler));
    }

    fn change(&self, change: impl FnOnce(&mut Weight, &Sampler)) {
        if let Some(sampler) = self.sampled.sampler() {
            change(&mut self.state().weight, sampler);
        }
    }

    /// Notes that the handler waits for its client: the request counts as responded meanwhile.
    pub(crate) fn client_wait_begins(&self) {
        let mut state = self.state();
        // An inner layer may watch the same upload.
        if state.waiting_since.is_none() {
            state.waiting_since = Some(Instant::now());
            self.set_waits_for_client(&mut state, true);
        }
    }

    /// Notes that the handler goes on.
    pub(crate) fn client_wait_ends(&self) {
        let mut state = self.state();
        if let Some(since) = state.waiting_since.take() {
            state.waited += since.elapsed();
            self.set_waits_for_client(&mut state, false);
        }
    }

    fn set_waits_for_client(&self, state: &mut State, waits: bool) {
        if let Some(sampler) = self.sampled.sampler() {
            let set = |weight: &mut Weight| weight.waits_for_client = waits;
            state.weight.change(sampler, set);
        }
    }

    /// Returns how long the handler has waited for its client.
    pub(crate) fn client_time(&self) -> Duration {
        let state = self.state();
        let waits = state.waiting_since.map(|since| since.elapsed());
        state.waited + waits.unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock is as good: each change is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SharedWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedWeight")
            .field(&self.state().weight)
            .finish()
    }
}
