//! The options of a run, besides its scenario and its budget.

use crate::scenario::scenario::Scenario;

/// Runs scenarios, with a seed and the options of the layer.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Lab {
    pub(crate) seed: u64,
    pub(crate) ratio: f64,
    pub(crate) path: AdmissionPath,
    pub(crate) layer_options: LayerOptions,
}

/// What the layer is told of a call, besides its class. All are off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerOptions {
    /// Sets `LoadShed::cost`: the cost of a call in units.
    pub cost: bool,
    /// Sets `LoadShed::fair_by`: fair shares by tenant.
    pub fair_by: bool,
    /// Sets `LoadShed::key`: the tenant is the key.
    pub key: bool,
}

/// The path by which calls are admitted. Both paths take the same decisions; a test compares them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum AdmissionPath {
    /// Through the layer, as in a program: for candidates.
    Layer,
    /// Through a permit of the budget, without the layer: no samples and no responses, in a quarter of the time. For fixed
    /// limits.
    ///
    /// Where callers follow retry hints, calls take the layer, which computes the hints.
    Budget,
}

impl Lab {
    /// Creates the options of a run with this seed.
    pub fn seed(seed: u64) -> Self {
        Self {
            seed,
            ratio: 0.85,
            path: AdmissionPath::Layer,
            layer_options: LayerOptions::default(),
        }
    }

    /// Sets what the layer is told of a call. By default neither cost nor tenant.
    pub fn layer_options(self, layer_options: LayerOptions) -> Self {
        Self {
            layer_options,
            ..self
        }
    }

    /// Sets the ratio of the layer. By default 0.85.
    pub fn ratio(self, ratio: f64) -> Self {
        Self { ratio, ..self }
    }

    pub(crate) fn path(self, path: AdmissionPath) -> Self {
        Self { path, ..self }
    }

    /// Returns the same options, with a path that this scenario allows.
    pub(crate) fn for_scenario(self, scenario: &Scenario) -> Self {
        let mut callers = scenario.kinds.iter().map(|kind| &kind.callers);
        match callers.any(|callers| callers.retry_delay.follows_hint()) {
            true => self.path(AdmissionPath::Layer),
            false => self,
        }
    }
}
