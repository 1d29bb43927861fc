//! The reasons of limit changes, as [`LimitChange::reason`](crate::LimitChange::reason), metrics and logs show them.
//!
//! They are stable: dashboards and alerts name them. The documentation of `telemetry` lists them, and a test compares the
//! list with these constants.

/// [`Budget::set_limit`](crate::Budget::set_limit).
pub(crate) const SET: &str = "set";

macro_rules! reasons {
    ($($name:ident = $text:literal,)+) => {
        $(pub(crate) const $name: &str = $text;)+

        /// The reasons of limit changes.
        #[cfg(test)]
        pub(crate) const ALL: &[&str] = &[$($text),+];
    };
}

/// The reasons of [`Adaptive`](crate::Adaptive).
pub(crate) mod adaptive {
    reasons! {
        UNLIMITED = "unlimited",
        NO_RESPONSES = "no responses",
        BURST_GUARD = "burst guard",
        PROBING = "probing",
        PROBING_FROM_BELOW = "probing from below",
        PROBE_COMPLETE = "probe complete",
        TRACKING = "tracking",
        RECOVERING = "recovering",
        RECOVERED = "recovered",
    }

    /// Keeps the limit, so no change has this reason.
    pub(crate) const LEARNING: &str = "learning";

    /// The states, as [`Learned::state`](crate::control::Learned::state) shows them.
    #[cfg(test)]
    pub(crate) const STATES: &[&str] = &[
        LEARNING,
        NO_RESPONSES,
        UNLIMITED,
        BURST_GUARD,
        PROBING,
        TRACKING,
    ];
}

/// The reasons of [`LatencyTarget`](crate::LatencyTarget).
pub(crate) mod latency_target {
    reasons! {
        ABOVE_TARGET = "latency above target",
        ABOUT_TO_EXCEED = "latency about to exceed target",
        HEADROOM = "headroom",
        NO_RESPONSES = "no responses",
        OLDER_THAN_TARGET = "requests older than target",
    }

    /// Keeps the limit, so no change has this reason.
    pub(crate) const WITHIN_TARGET: &str = "within target";
    /// Keeps the limit, likewise.
    pub(crate) const TOO_FEW_SAMPLES: &str = "too few samples";
}
