//! The rate of arrivals over time.

use std::time::Duration;

/// The rate of arrivals, in units of the kind: by default of its server's usual capacity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// A constant rate.
    Steady(f64),
    /// A rate that rises at regular intervals.
    Bursts {
        /// The rate between bursts.
        base: f64,
        /// The rate during a burst.
        peak: f64,
        /// The duration of a burst.
        lasts: Duration,
        /// The time from the beginning of a burst to that of the next.
        every: Duration,
    },
    /// A rate that follows a sine from the lowest to the highest and back, beginning at the mean.
    Wave {
        /// The lowest rate.
        low: f64,
        /// The highest rate.
        high: f64,
        /// The time from one peak to the next.
        period: Duration,
    },
    /// A rate that changes linearly, and then stays.
    Ramp {
        /// The rate at the beginning of the phase.
        from: f64,
        /// The rate at the end of the change.
        to: f64,
        /// The duration of the change.
        within: Duration,
    },
}

impl Load {
    /// Creates a rate of `count` calls within the first second of a phase, and `then` calls a second, for a kind whose unit is
    /// one call a second.
    #[must_use]
    pub fn rush(count: f64, then: f64) -> Self {
        Self::Bursts {
            base: then,
            peak: count,
            lasts: Duration::from_secs(1),
            every: Duration::MAX,
        }
    }

    /// Returns the highest rate.
    pub(crate) fn peak(self) -> f64 {
        match self {
            Self::Steady(load) => load,
            Self::Bursts { base, peak, .. } => base.max(peak),
            Self::Wave { low, high, .. } => low.max(high),
            Self::Ramp { from, to, .. } => from.max(to),
        }
    }

    /// Returns the share of the time in which there is work to do, if work can wait for `wait`.
    pub(crate) fn busy(self, wait: Duration) -> f64 {
        match self {
            Self::Bursts {
                base: 0.0,
                lasts,
                every,
                ..
            } => ((lasts + wait).as_secs_f64() / every.as_secs_f64()).min(1.0),
            _ => 1.0,
        }
    }

    /// Returns the rate at this time since the beginning of the phase.
    pub(crate) fn at(self, since: Duration) -> f64 {
        match self {
            Self::Steady(load) => load,
            Self::Bursts {
                base,
                peak,
                lasts,
                every,
            } => {
                let into = since.as_secs_f64() % every.as_secs_f64();
                if into < lasts.as_secs_f64() {
                    peak
                } else {
                    base
                }
            }
            Self::Wave { low, high, period } => {
                let turns = since.as_secs_f64() / period.as_secs_f64();
                let sine = (turns * std::f64::consts::TAU).sin();
                (low + high) / 2.0 + (high - low) / 2.0 * sine
            }
            Self::Ramp { from, to, within } => {
                let progress = since.as_secs_f64() / within.as_secs_f64();
                from + (to - from) * progress.min(1.0)
            }
        }
    }
}
