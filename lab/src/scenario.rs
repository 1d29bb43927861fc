use std::time::Duration;

use loadshed::RetryAfter;

/// A server, its callers, and what happens to them.
///
/// The fields are all there is to it: start from [`Scenario::new`] and change what should differ.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// For people.
    pub name: String,
    /// The server, in its usual state.
    pub server: Server,
    /// Those who call it.
    pub callers: Callers,
    /// What those are told that it refuses.
    pub retry_after: RetryAfter,
    /// Who of them calls, and what their calls cost.
    pub client_mix: ClientMix,
    /// How many servers share the load, round robin. Each has a budget of its own.
    pub instances: usize,
    /// Where a candidate's limit begins, with a run for each; `usize::MAX` is its largest. None: where the candidate likes.
    pub initial_limits: Vec<usize>,
    /// What happens, one after the other.
    pub phases: Vec<Phase>,
}

/// What answers.
///
/// A call passes the dependency first, where there is one, and then the station.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Something else that it waits for, which is never saturated: the mean time that it takes.
    pub dependency: Option<Duration>,
    /// What does the work.
    pub station: Station,
    /// How many calls are worked on at full speed at once.
    pub workers: usize,
    /// How long a worker is busy with one call, on average.
    pub service: Duration,
    /// How the times of single calls differ, of the station's as of the dependency's.
    pub times: Times,
}

/// How calls share the workers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Station {
    /// Each worker has one call at a time; the others stand in line, first come, first served.
    Pool,
    /// All calls are worked on at once. Above as many as there are workers, they slow each other down.
    Shared {
        /// At `n` calls and `c` workers, throughput is that of `c ÷ (1 + thrash × (n ÷ c − 1))` workers. 0 keeps it
        /// where it is, 0.2 takes a sixth of it at twice the knee, 1 takes half.
        thrash: f64,
    },
    /// There is none: only the dependency takes time.
    None,
}

/// How the times of single calls are distributed about their mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Times {
    /// All alike.
    Fixed,
    /// Exponentially.
    Exponential,
    /// Most are short and some are long, each kind of a fixed time.
    Bimodal {
        /// Of the short ones, in units of the mean.
        short: f64,
        /// Of the long ones, in units of the mean.
        long: f64,
    },
}

/// Who calls. They arrive one by one, at random (Poisson), whether or not the server answers.
#[derive(Clone, Copy, Debug)]
pub struct Callers {
    /// How long they wait. Then they drop their request; the work that it has caused goes on.
    pub timeout: Duration,
    /// This share of them waits only for so long.
    pub short_timeout: Option<(f64, Duration)>,
    /// How often a refused caller tries again.
    pub retries: u32,
    /// How long it waits until then.
    pub retry_delay: RetryDelay,
}

/// Who calls, and what one call costs, where not all are alike. What a call costs is what it takes of the budget, and not how
/// long a worker is busy with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClientMix {
    /// How many tenants there are.
    pub tenants: u32,
    /// Which share of the calls is the first one's. The others have as many each.
    pub first: f64,
    /// Which share of the calls is large. Without them, each costs one unit.
    pub large: f64,
    /// How many units a large call costs.
    pub units: u32,
}

/// How long a refused caller waits until it tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDelay {
    /// 50 to 150 ms: it has its own idea.
    Short,
    /// 1, 2, 4 s: as curl does without a hint.
    Doubling,
    /// As long as `Retry-After` says: whole seconds, as over HTTP.
    HintSeconds,
    /// As long as the hint is to the millisecond, as over gRPC.
    HintMilliseconds,
}

impl RetryDelay {
    /// Whether callers wait for as long as the retry hint says.
    pub(crate) fn follows_hint(self) -> bool {
        match self {
            Self::Short | Self::Doubling => false,
            Self::HintSeconds | Self::HintMilliseconds => true,
        }
    }
}

/// One part of a scenario.
#[derive(Clone, Debug)]
pub struct Phase {
    /// For people.
    pub name: String,
    /// How long it lasts.
    pub length: Duration,
    /// How many calls arrive.
    pub load: Load,
    /// Calls of the class CRITICAL that arrive besides, in units of the capacity. They are shed half-way between the
    /// ratio and the full limit; the others at the ratio.
    pub critical: f64,
    /// Which share of the workers works.
    pub workers: f64,
    /// How much longer the dependency takes than usual, at the beginning and at the end of the phase.
    pub slowdown: (f64, f64),
    /// Which share of the calls hangs in the dependency until the caller leaves.
    pub hanging: f64,
    /// Which share of the calls is long, where times are bimodal.
    pub long: f64,
    /// Whether it counts, or only leads to the next.
    pub scored: bool,
}

/// How many calls arrive, in units of the server's usual capacity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// As many all the time.
    Steady(f64),
    /// More of them for a while, again and again.
    Bursts {
        /// Between the bursts.
        base: f64,
        /// In a burst.
        peak: f64,
        /// How long a burst lasts.
        lasts: Duration,
        /// From the beginning of one to that of the next.
        every: Duration,
    },
}

impl Scenario {
    /// Nothing happens yet to this server.
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

    /// About so many calls arrive.
    pub(crate) fn calls(&self) -> f64 {
        let of = |phase: &Phase| phase.length.as_secs_f64() * (phase.load.peak() + phase.critical);
        let load: f64 = self.phases.iter().map(of).sum();
        load * self.server.capacity() * self.instances as f64
    }

    /// One thing more that happens.
    #[must_use]
    pub fn then(mut self, phase: Phase) -> Self {
        self.phases.push(phase);
        self
    }
}

impl Server {
    /// A pool of workers, without a dependency.
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

    /// Calls a second that it can complete in its usual state.
    #[must_use]
    pub fn capacity(&self) -> f64 {
        self.workers as f64 / self.service.as_secs_f64()
    }
}

impl Default for Callers {
    /// A second of patience, and no second try.
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
    /// One tenant, and all calls alike.
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
    /// So many seconds at this load, in units of the capacity, and nothing unusual.
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

    /// It only leads to the next.
    #[must_use]
    pub fn unscored(mut self) -> Self {
        self.scored = false;
        self
    }
}

impl Load {
    /// At most.
    pub(crate) fn peak(self) -> f64 {
        match self {
            Self::Steady(load) => load,
            Self::Bursts { base, peak, .. } => base.max(peak),
        }
    }

    /// The share of the time in which there is work to do, when work is kept for so long.
    pub(crate) fn busy(self, kept: Duration) -> f64 {
        match self {
            Self::Bursts {
                base: 0.0,
                lasts,
                every,
                ..
            } => ((lasts + kept).as_secs_f64() / every.as_secs_f64()).min(1.0),
            _ => 1.0,
        }
    }

    /// So long after the beginning of the phase.
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
