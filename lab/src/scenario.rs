//! The description of a scenario: a server, its callers, and its phases.

use std::time::Duration;

use loadshed::RetryAfter;

/// A server, its callers, and the phases of their load.
///
/// All fields are public: start from [`Scenario::new`] and change the fields that differ.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The name, for tables and charts.
    pub name: String,
    /// The server, in its usual state.
    pub server: Server,
    /// The behaviour of the callers.
    pub callers: Callers,
    /// The retry hints of refusals.
    pub retry_after: RetryAfter,
    /// The tenants among the callers, and the cost of their calls.
    pub client_mix: ClientMix,
    /// The number of servers that share the load, round robin. Each has its own budget.
    pub instances: usize,
    /// The initial limits, with a run for each; `usize::MAX` is the largest limit of the candidate. If empty, one run with the
    /// candidate's default.
    pub initial_limits: Vec<usize>,
    /// The phases, in order.
    pub phases: Vec<Phase>,
}

/// A server.
///
/// A call waits for the dependency first, where there is one, and is then served by the station.
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
    /// Two fixed times: short for most calls, and long for the share [`Phase::long`].
    Bimodal {
        /// The short time, in units of the mean.
        short: f64,
        /// The long time, in units of the mean.
        long: f64,
    },
}

/// The behaviour of callers. Calls are a Poisson process, whether or not the server responds (an open loop).
#[derive(Clone, Copy, Debug)]
pub struct Callers {
    /// The client timeout. After it the caller drops the request, while the server goes on with the work.
    pub timeout: Duration,
    /// The share of callers with a shorter timeout, and that timeout. By default none.
    pub short_timeout: Option<(f64, Duration)>,
    /// The number of retries of a refused caller. By default 0.
    pub retries: u32,
    /// The delay before each retry.
    pub retry_delay: RetryDelay,
}

/// The tenants among the callers, and the cost of their calls. The cost of a call is what the call takes of the budget; it
/// does not change the service time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClientMix {
    /// The number of tenants.
    pub tenants: u32,
    /// The share of the calls that the first tenant sends. The other tenants send equal shares of the rest.
    pub first: f64,
    /// The share of the calls that is large. All other calls cost one unit.
    pub large: f64,
    /// The cost of a large call, in units.
    pub units: u32,
}

/// The delay between a refusal and the caller's retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDelay {
    /// 50 to 150 ms at random, whatever the hint says.
    Short,
    /// 1, 2, 4 s and so on, as curl does without a hint.
    Doubling,
    /// The retry hint in whole seconds, as `Retry-After` over HTTP.
    HintSeconds,
    /// The retry hint in milliseconds, as over gRPC.
    HintMilliseconds,
}

impl RetryDelay {
    /// Returns whether the retry hint sets the delay.
    pub(crate) fn follows_hint(self) -> bool {
        match self {
            Self::Short | Self::Doubling => false,
            Self::HintSeconds | Self::HintMilliseconds => true,
        }
    }
}

/// One phase of a scenario.
#[derive(Clone, Debug)]
pub struct Phase {
    /// The name, for tables and charts.
    pub name: String,
    /// The duration.
    pub length: Duration,
    /// The load of SHEDDABLE calls.
    pub load: Load,
    /// The load of CRITICAL calls, in addition, in units of the capacity. Their threshold lies two thirds of the way from the
    /// ratio to the full limit; that of the other calls is the ratio.
    pub critical: f64,
    /// The share of the workers that is available. By default 1.
    pub workers: f64,
    /// The factor on the dependency's response time, at the beginning and at the end of the phase; linear in between. By
    /// default 1.
    pub slowdown: (f64, f64),
    /// The share of calls that hang in the dependency until the caller times out. By default 0.
    pub hanging: f64,
    /// The share of long calls, where times are bimodal. By default 0.
    pub long: f64,
    /// Whether the phase is part of the evaluation. By default true.
    pub scored: bool,
}

/// The rate of arrivals, in units of the server's usual capacity.
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
}

impl Scenario {
    /// Creates a scenario without phases.
    #[must_use]
    pub fn new(name: impl Into<String>, server: Server) -> Self {
        Self {
            name: name.into(),
            server,
            callers: Callers::default(),
            retry_after: RetryAfter::default(),
            client_mix: ClientMix::default(),
            instances: 1,
            initial_limits: Vec::new(),
            phases: Vec::new(),
        }
    }

    /// Returns the approximate number of calls.
    pub(crate) fn calls(&self) -> f64 {
        let of = |phase: &Phase| phase.length.as_secs_f64() * (phase.load.peak() + phase.critical);
        let load: f64 = self.phases.iter().map(of).sum();
        load * self.server.capacity() * self.instances as f64
    }

    /// Adds a phase at the end.
    #[must_use]
    pub fn then(mut self, phase: Phase) -> Self {
        self.phases.push(phase);
        self
    }
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

    /// Returns the calls a second that the server can complete in its usual state.
    #[must_use]
    pub fn capacity(&self) -> f64 {
        self.workers as f64 / self.service.as_secs_f64()
    }
}

impl Default for Callers {
    /// Creates callers with a timeout of 1 s and without retries.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(1),
            short_timeout: None,
            retries: 0,
            retry_delay: RetryDelay::Short,
        }
    }
}

impl Default for ClientMix {
    /// Creates a mix of one tenant whose calls cost one unit each.
    fn default() -> Self {
        Self {
            tenants: 1,
            first: 1.0,
            large: 0.0,
            units: 1,
        }
    }
}

impl Phase {
    /// Creates a phase of this duration, in seconds, and at this load, in units of the capacity, without faults.
    #[must_use]
    pub fn new(name: impl Into<String>, seconds: f64, load: f64) -> Self {
        Self {
            name: name.into(),
            length: Duration::from_secs_f64(seconds),
            load: Load::Steady(load),
            critical: 0.0,
            workers: 1.0,
            slowdown: (1.0, 1.0),
            hanging: 0.0,
            long: 0.0,
            scored: true,
        }
    }

    /// Excludes the phase from the evaluation.
    #[must_use]
    pub fn unscored(mut self) -> Self {
        self.scored = false;
        self
    }
}

impl Load {
    /// Returns the highest rate.
    pub(crate) fn peak(self) -> f64 {
        match self {
            Self::Steady(load) => load,
            Self::Bursts { base, peak, .. } => base.max(peak),
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
        }
    }
}
