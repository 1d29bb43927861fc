//! The description of a server: how its workers serve calls.

use std::time::Duration;

/// What the calls of one kind go through: a dependency first, where there is one, and then a station of workers.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// The mean response time of a dependency that is never saturated, if the server has one.
    pub dependency: Option<Duration>,
    /// How the workers serve calls.
    pub station: Station,
    /// The number of calls that are served at full speed at once.
    pub workers: usize,
    /// The mean time for which a worker is busy with one call.
    pub service: Duration,
    /// The distribution of the times of single calls, both in the station and in the dependency.
    pub times: Times,
}

/// How calls share the workers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Station {
    /// Each worker serves one call at a time; the other calls wait in a FIFO queue.
    Pool,
    /// All calls are served at once (processor sharing). Calls above the number of workers slow each other down.
    Shared {
        /// At `n` calls and `c` workers, with `n > c`, throughput is that of `c ÷ (1 + thrash × (n ÷ c − 1))` workers. At
        /// `n = 2 × c`, a `thrash` of 0 takes nothing of it, 0.2 a sixth, and 1 half.
        thrash: f64,
    },
    /// No station: only the dependency takes time.
    None,
}

/// The distribution of the times of single calls about their mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Times {
    /// All times are equal.
    Fixed,
    /// Exponential.
    Exponential,
    /// Pareto with this shape, above 1: the smaller, the heavier the tail. At 1.5 the variance is infinite.
    Pareto(f64),
    /// Lognormal with this standard deviation of the logarithm.
    Lognormal(f64),
    /// Two fixed times: short for most calls, and long for the share [`Conditions::long`](super::phase::Conditions::long).
    Bimodal {
        /// The short time, in units of the mean.
        short: f64,
        /// The long time, in units of the mean.
        long: f64,
    },
}

impl Server {
    /// Creates a pool of workers, without a dependency.
    #[must_use]
    pub fn pool(workers: usize, service: Duration, times: Times) -> Self {
        Self {
            dependency: None,
            station: Station::Pool,
            workers,
            service,
            times,
        }
    }

    /// Creates a processor of so many cores that all calls share, without a dependency.
    #[must_use]
    pub fn shared(workers: usize, service: Duration, times: Times) -> Self {
        Self {
            station: Station::Shared { thrash: 0.0 },
            ..Self::pool(workers, service, times)
        }
    }

    /// Creates a server that is never saturated: only a dependency takes time.
    #[must_use]
    pub fn dependency(time: Duration, times: Times) -> Self {
        Self {
            dependency: Some(time),
            station: Station::None,
            workers: 1,
            service: time,
            times,
        }
    }

    /// Returns the calls a second that the server can complete in its usual state.
    #[must_use]
    pub fn capacity(&self) -> f64 {
        self.workers as f64 / self.service.as_secs_f64()
    }
}
