//! Settings that the page changes while the demo runs.

use serde::{Deserialize, Serialize};

/// Well below the capacity, but above it if each request is sent three times or half of the workers stop.
pub(crate) const NORMAL_LOAD: f64 = 0.6;

/// Allowed loads, in multiples of the capacity.
pub(crate) const LOADS: std::ops::RangeInclusive<f64> = 0.2..=20.0;

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Settings {
    /// Rate of fresh requests, in multiples of the capacity of all workers.
    pub(crate) load: f64,
    /// Whether the dependency is slow.
    pub(crate) slow: bool,
    /// Whether half of the workers are stopped.
    pub(crate) drop: bool,
    pub(crate) retry: bool,
    pub(crate) dry_run: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            load: NORMAL_LOAD,
            slow: false,
            drop: false,
            retry: true,
            dry_run: false,
        }
    }
}

/// A change of settings. An absent field stays as it is.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    load: Option<f64>,
    slow: Option<bool>,
    drop: Option<bool>,
    retry: Option<bool>,
    dry_run: Option<bool>,
}

impl Change {
    pub(crate) fn load(load: f64) -> Self {
        Self {
            load: Some(load),
            ..Self::default()
        }
    }

    /// Returns the changed settings, or an error if a value is invalid.
    pub(crate) fn apply_to(self, old: Settings) -> Result<Settings, String> {
        let load = self.load.unwrap_or(old.load);
        if !LOADS.contains(&load) {
            let (least, most) = (LOADS.start(), LOADS.end());
            return Err(format!(
                "invalid load {load}: must be from {least} to {most}"
            ));
        }
        Ok(Settings {
            load,
            slow: self.slow.unwrap_or(old.slow),
            drop: self.drop.unwrap_or(old.drop),
            retry: self.retry.unwrap_or(old.retry),
            dry_run: self.dry_run.unwrap_or(old.dry_run),
        })
    }
}
