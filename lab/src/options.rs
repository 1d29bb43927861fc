//! What a run depends on besides its scenario and its controller.

use crate::scenario::Scenario;

/// How a scenario is run.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Lab {
    pub(crate) seed: u64,
    pub(crate) ratio: f64,
    pub(crate) path: AdmissionPath,
    pub(crate) layer_options: LayerOptions,
}

/// What the layer is told of callers, beside their class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerOptions {
    /// `LoadShed::cost`, as many units as a call costs.
    pub cost: bool,
    /// `LoadShed::fair_by`, by tenant.
    pub fair_by: bool,
    /// `LoadShed::key`, by tenant.
    pub key: bool,
}

/// Which way calls take into the server. Both decide alike; a test compares them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum AdmissionPath {
    /// As in a program: what a candidate is judged by.
    Layer,
    /// A permit of the budget, without the layer: no samples and no responses, at a quarter of the cost. For fixed limits.
    ///
    /// Where callers heed hints, calls take the layer all the same, as the hints are its own.
    Budget,
}

impl Lab {
    /// With chance beginning here.
    pub fn seed(seed: u64) -> Self {
        Self {
            seed,
            ratio: 0.85,
            path: AdmissionPath::Layer,
            layer_options: LayerOptions::default(),
        }
    }

    /// What the layer goes by. By default, neither costs nor tenants.
    pub fn layer_options(self, layer_options: LayerOptions) -> Self {
        Self {
            layer_options,
            ..self
        }
    }

    /// The ratio of the layer. By default 0.85.
    pub fn ratio(self, ratio: f64) -> Self {
        Self { ratio, ..self }
    }

    pub(crate) fn path(self, path: AdmissionPath) -> Self {
        Self { path, ..self }
    }

    /// Returns the same options, with the way that calls of this scenario can take.
    pub(crate) fn for_scenario(self, scenario: &Scenario) -> Self {
        match scenario.callers.retry_delay.follows_hint() {
            true => self.path(AdmissionPath::Layer),
            false => self,
        }
    }
}
