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
    /// The number of requests for which it stands. A whole word: in fewer bytes the permit of each request is at an odd offset of its
    /// future, and a copy of it takes 10 ns longer.
    one_in: usize,
    /// The units of its permit that are in the count, and unmarked.
    units: u32,
    has_responded: bool,
    /// It is not at work: see [`SharedWeight::wait_begins`].
    waits: bool,
}

impl Weight {
    /// Weighs a request that holds `units`.
    pub(crate) fn begin(sampler: &Sampler, units: u32) -> Self {
        let mut weight = Self {
            one_in: sampler.one_in(),
            units: 0,
            has_responded: false,
            waits: false,
        };
        weight.count(sampler, units);
        weight
    }

    /// Notes how many units of the permit are in the count, and unmarked.
    pub(crate) fn count(&mut self, sampler: &Sampler, units: u32) {
        self.change(sampler, |weight| weight.units = units);
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
        let counted = self.one_in.saturating_mul(self.units as usize);
        let is_idle = self.has_responded || self.waits;
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
    /// The waits that have begun and not ended: for the bodies that the handler reads, and in the queue of an inner layer.
    waits: u32,
    /// Since when there are any.
    waiting_since: Option<Instant>,
    /// How long it has waited before.
    waited: Duration,
}

impl SharedWeight {
    pub(crate) fn new(sampled: Arc<dyn Sampled>, weight: Weight) -> Arc<Self> {
        let state = State {
            weight,
            waits: 0,
            waiting_since: None,
            waited: Duration::ZERO,
        };
        Arc::new(Self {
            sampled,
            state: Mutex::new(state),
        })
    }

    pub(crate) fn count(&self, units: u32) {
        self.change(|weight, sampler| weight.count(sampler, units));
    }

    pub(crate) fn respond(&self) {
        self.change(|weight, sampler| weight.respond(sampler));
    }

    fn change(&self, change: impl FnOnce(&mut Weight, &Sampler)) {
        if let Some(sampler) = self.sampled.sampler() {
            change(&mut self.state().weight, sampler);
        }
    }

    /// Notes that the request waits: its handler for the bytes of the client, or the request itself in the queue of an inner layer.
    /// The request counts as responded meanwhile, and the time is no latency. A wait may begin while another goes on.
    pub(crate) fn wait_begins(&self) {
        let mut state = self.state();
        state.waits += 1;
        if state.waits == 1 {
            state.waiting_since = Some(Instant::now());
            self.set_waits(&mut state, true);
        }
    }

    /// Notes that a wait has ended.
    pub(crate) fn wait_ends(&self) {
        let mut state = self.state();
        state.waits = state.waits.saturating_sub(1);
        if state.waits == 0
            && let Some(since) = state.waiting_since.take()
        {
            state.waited += since.elapsed();
            self.set_waits(&mut state, false);
        }
    }

    fn set_waits(&self, state: &mut State, waits: bool) {
        if let Some(sampler) = self.sampled.sampler() {
            let set = |weight: &mut Weight| weight.waits = waits;
            state.weight.change(sampler, set);
        }
    }

    /// Returns how long the request has waited.
    pub(crate) fn waited(&self) -> Duration {
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
