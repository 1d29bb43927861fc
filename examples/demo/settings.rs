//! What can be changed while it runs, from the page.

use serde::{Deserialize, Serialize};

/// Far from too much, and yet too much if each caller asks three times, or half of the workers are gone.
pub(crate) const CALM: f64 = 0.6;

/// The load that is allowed, in multiples of the capacity.
pub(crate) const LOADS: std::ops::RangeInclusive<f64> = 0.2..=20.0;

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Settings {
    /// Fresh requests, in multiples of the capacity of all workers.
    pub(crate) load: f64,
    /// A dependency takes longer.
    pub(crate) slow: bool,
    /// Half of the workers are gone.
    pub(crate) drop: bool,
    pub(crate) retry: bool,
    pub(crate) dry_run: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            load: CALM,
            slow: false,
            drop: false,
            retry: true,
            dry_run: false,
        }
    }
}

/// What is left out stays.
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

    /// All of it or nothing.
    pub(crate) fn of(self, old: Settings) -> Result<Settings, String> {
        let load = self.load.unwrap_or(old.load);
        if !LOADS.contains(&load) {
            let (least, most) = (LOADS.start(), LOADS.end());
            return Err(format!("load is {load}, allowed is {least} to {most}"));
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
