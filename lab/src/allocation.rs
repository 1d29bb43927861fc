//! Who gets what, when there is not enough for all: by class, by tenant, by what a call costs.

use std::time::Duration;

use loadshed::Budget;

use crate::{
    options::{Lab, LayerOptions},
    report::PhaseReport,
    scenario::{ClientMix, Phase, Scenario, Server, Station, Times},
};

/// Many tenants, of which the first sends more than its part. Nobody tries again.
#[derive(Clone, Copy, Debug)]
pub struct TenantLoad {
    /// The server.
    pub server: Server,
    /// How many tenants there are, and which share of the calls is the first one's.
    pub client_mix: ClientMix,
    /// What all send together, in units of the capacity.
    pub load: f64,
    /// How long.
    pub length: Duration,
    /// What the layer goes by.
    pub layer_options: LayerOptions,
}

/// What each has shares of it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TenantShares {
    /// Jain's index over what all but the first have shares: 1 if it is as much for each, 1 ÷ their number if one has all.
    pub jain: f64,
    /// What the first has shares, in units of the capacity.
    pub first: f64,
    /// What the first would have shares by max-min fairness, likewise.
    pub first_fair: f64,
    /// Which share of the others' calls was answered in time.
    pub others: f64,
    /// The same of the one that it was worst for.
    pub worst: f64,
    /// All answers in time, in units of the capacity.
    pub goodput: f64,
    /// The share of tenants that have a clear answer: at least 95 of 100 calls served, or at most 5.
    pub clear: f64,
    /// Tasks of four calls of one tenant, one after the other at services like this one: the share that gets through all.
    pub tasks: f64,
}

impl TenantLoad {
    /// A hundred tenants of whom one sends half, at twice the capacity, for a minute after ten seconds.
    #[must_use]
    pub fn new(server: Server) -> Self {
        let client_mix = ClientMix {
            tenants: 100,
            first: 0.5,
            ..ClientMix::default()
        };
        Self {
            server,
            client_mix,
            load: 2.0,
            length: Duration::from_secs(60),
            layer_options: LayerOptions {
                fair_by: true,
                ..LayerOptions::default()
            },
        }
    }

    /// For the lab.
    #[must_use]
    pub fn scenario(&self) -> Scenario {
        let mut scenario = Scenario::new("tenants", self.server)
            .then(Phase::new("before", 10.0, self.load).unscored())
            .then(Phase::new("tenants", self.length.as_secs_f64(), self.load));
        scenario.client_mix = self.client_mix;
        scenario
    }

    /// What came, with this seed and such a budget.
    ///
    /// # Panics
    ///
    /// Within a tokio runtime.
    #[must_use]
    pub fn run(&self, seed: u64, budget: impl FnMut() -> Budget) -> TenantShares {
        let report = Lab::seed(seed)
            .layer_options(self.layer_options)
            .run(&self.scenario(), budget);
        self.shares(&report.phases[1])
    }

    fn shares(&self, phase: &PhaseReport) -> TenantShares {
        let all = phase.length.as_secs_f64() * self.server.capacity();
        let (first, others) = (phase.tenants[0], &phase.tenants[1..]);
        let share = |&(sent, good): &(usize, usize)| good as f64 / sent.max(1) as f64;
        let each: Vec<_> = others.iter().map(|&(_, good)| good as f64).collect();
        let sum: f64 = each.iter().sum();
        let squares: f64 = each.iter().map(|good| good * good).sum();
        let sent: usize = others.iter().map(|&(sent, _)| sent).sum();
        let is_clear = |share: &f64| !(0.05..0.95).contains(share);
        let clear = phase.tenants.iter().map(share).filter(is_clear).count();
        let others_want = self.load * (1.0 - self.client_mix.first);
        let equal = 1.0 / f64::from(self.client_mix.tenants);
        TenantShares {
            jain: sum * sum / (each.len() as f64 * squares),
            first: first.1 as f64 / all,
            first_fair: (1.0 - others_want)
                .max(equal)
                .min(self.load * self.client_mix.first),
            others: sum / sent as f64,
            worst: others.iter().map(share).fold(1.0, f64::min),
            goodput: phase.good as f64 / all,
            tasks: phase
                .tenants
                .iter()
                .map(|tenant| share(tenant).powi(4))
                .sum::<f64>()
                / phase.tenants.len() as f64,
            clear: clear as f64 / phase.tenants.len() as f64,
        }
    }
}

/// Half of the capacity of CRITICAL calls, and from then on 12 times the capacity of SHEDDABLE ones besides. The phases:
/// CRITICAL calls `alone`, with few others to learn from; the `first` ten seconds of the flood; and what comes `then`.
#[must_use]
pub fn flood(server: Server, seconds: f64) -> Scenario {
    let phase = |name, seconds, load| {
        let mut phase = Phase::new(name, seconds, load);
        phase.critical = 0.5;
        phase
    };
    Scenario::new("flood", server)
        .then(phase("alone", 30.0, 0.01))
        .then(phase("first", 10.0, 12.0))
        .then(phase("then", seconds, 12.0))
}

/// Uploads of 2 kB and 40 MB, three times as many as there is memory for, for a minute. A unit is a megabyte, a begun one
/// counts, and each upload takes 200 ms: only memory is short. This share of them is large.
#[must_use]
pub fn uploads(large: f64) -> Scenario {
    const TAKES: Duration = Duration::from_millis(200);
    let server = Server {
        dependency: Some(TAKES),
        station: Station::None,
        workers: UPLOADS,
        service: TAKES,
        times: Times::Exponential,
    };
    let mut scenario = Scenario::new("uploads", server).then(Phase::new("uploads", 60.0, 3.0));
    scenario.client_mix = ClientMix {
        large,
        units: 41,
        ..ClientMix::default()
    };
    scenario
}

/// So many uploads at once take 400 megabytes on average, if one in twenty is large: what somebody would set who counts
/// requests.
pub const UPLOADS: usize = 133;
