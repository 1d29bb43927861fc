//! How an overloaded server's capacity is divided: by class, by tenant and by cost.

use std::time::Duration;

use loadshed::Budget;

use crate::{
    options::{Lab, LayerOptions},
    phase_report::PhaseReport,
    scenario::{
        callers::ClientMix,
        phase::{Conditions, Phase},
        scenario::Scenario,
        server::{Server, Station, Times},
    },
};

/// An experiment with many tenants, of which the first sends more than its fair share. Refused callers do not retry.
#[derive(Clone, Copy, Debug)]
pub struct TenantLoad {
    /// The server.
    pub server: Server,
    /// The number of tenants, and the share of the calls that the first one sends.
    pub client_mix: ClientMix,
    /// The load of all tenants together, in units of the capacity.
    pub load: f64,
    /// The duration of the measured phase.
    pub length: Duration,
    /// What the layer is told of a call.
    pub layer_options: LayerOptions,
}

/// What each tenant received.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TenantShares {
    /// Jain's index over the calls served of all tenants but the first: 1 if all are equal, 1 ÷ their number if one
    /// tenant has all.
    pub jain: f64,
    /// The goodput of the first tenant, in units of the capacity.
    pub first: f64,
    /// The max-min fair share of the first tenant, in units of the capacity.
    pub first_fair: f64,
    /// The share of the other tenants' calls that was served in time.
    pub others: f64,
    /// The same share, of the tenant for which it is smallest.
    pub worst: f64,
    /// The goodput of all tenants, in units of the capacity.
    pub goodput: f64,
    /// The share of tenants with a consistent result: at least 95 % of their calls are served, or fewer than 5 %.
    pub clear: f64,
    /// The expected share of tasks that complete, if a task is four calls of one tenant in sequence, to four servers like
    /// this one.
    pub tasks: f64,
}

impl TenantLoad {
    /// Creates an experiment with 100 tenants, of which the first sends half of the calls, at twice the capacity. The
    /// measured phase lasts 60 s, after 10 s at the same load.
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

    /// Returns the scenario of the experiment.
    #[must_use]
    pub fn scenario(&self) -> Scenario {
        let mut scenario = Scenario::new("tenants", self.server)
            .then(Phase::new("before", 10.0, self.load).unscored())
            .then(Phase::new("tenants", self.length.as_secs_f64(), self.load));
        scenario.client_mix = self.client_mix;
        scenario
    }

    /// Runs the experiment on this seed, with a budget from `budget`.
    ///
    /// # Panics
    ///
    /// Panics within a tokio runtime.
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

/// Returns a scenario with CRITICAL calls at half of the capacity, and a flood of SHEDDABLE calls at 12 times the capacity.
///
/// The phases are:
///
/// - `alone`, 30 s: CRITICAL calls, and SHEDDABLE calls at 1 % of the capacity;
/// - `first`, 10 s: the beginning of the flood;
/// - `then`, `seconds`: the rest of the flood.
#[must_use]
pub fn flood(server: Server, seconds: f64) -> Scenario {
    let phase = |name, seconds, load| {
        Phase::of(
            name,
            seconds,
            [Conditions {
                critical: 0.5,
                ..Conditions::at(load)
            }],
        )
    };
    Scenario::new("flood", server)
        .then(phase("alone", 30.0, 0.01))
        .then(phase("first", 10.0, 12.0))
        .then(phase("then", seconds, 12.0))
}

/// Returns a scenario of 60 s with uploads of 2 kB and of 40 MB, of which the share `large` is large.
///
/// The load is three times [`UPLOADS`], about 400 uploads at once. A small upload costs 1 unit and a large one 41, where a unit
/// is 1 MB, rounded up. Uploads take 200 ms on average and need no worker: only memory is scarce.
#[must_use]
pub fn uploads(large: f64) -> Scenario {
    const UPLOAD_TIME: Duration = Duration::from_millis(200);
    let server = Server {
        dependency: Some(UPLOAD_TIME),
        station: Station::None,
        workers: UPLOADS,
        service: UPLOAD_TIME,
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

/// The limit in uploads that suits a memory of 400 MB where 5 % of the uploads are large: 133 uploads then take 400 MB on
/// average.
pub const UPLOADS: usize = 133;
