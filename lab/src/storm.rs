//! Retry storms: the second wave of attempts after a trigger, depending on the retry hints.

use std::time::Duration;

use loadshed::{Budget, RetryAfter};

use crate::{
    options::Lab,
    report::Report,
    scenario::{callers::RetryDelay, phase::Phase, scenario::Scenario, server::Server},
};

/// An experiment of three phases: 60 s at 0.8 times the capacity, a trigger of 3 times the capacity, and then 0.8 times again.
/// Each caller makes up to four attempts.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// The server.
    pub server: Server,
    /// The duration of the trigger.
    pub trigger: Duration,
    /// The duration of the phase after the trigger.
    pub after: Duration,
    /// The delay of refused callers before a retry.
    pub retry_delay: RetryDelay,
    /// The retry hints of refusals.
    pub retry_after: RetryAfter,
}

/// The attempts after the trigger.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Wave {
    /// The highest rate of attempts in any window, in units of the capacity.
    pub peak: f64,
    /// The attempts above the capacity, integrated over windows, in seconds of the capacity.
    pub area: f64,
    /// The time until the rate of attempts stays at or below 1.1 times the capacity.
    pub recovery: Duration,
    /// The callers of the whole run whose last attempt was refused, in seconds of the capacity.
    pub lost: f64,
    /// The goodput after the trigger, in units of the capacity.
    pub goodput: f64,
}

/// The least number of calls in a window at the capacity. The standard deviation of their number is then 3 %.
const IN_A_WINDOW: f64 = 1_000.0;

/// The load before and after the trigger, and during the trigger, in units of the capacity.
const BASE_LOAD: f64 = 0.8;
const TRIGGER_LOAD: f64 = 3.0;

/// The interval of the ticks of a report, in seconds.
const TICK: f64 = 0.1;

impl Storm {
    /// Creates an experiment with a trigger of 5 s and adaptive hints over HTTP, observed for 120 s.
    ///
    /// The trigger leaves a backlog of 10 s of the capacity. Each minute at 0.8 times the capacity has headroom for 12 s.
    #[must_use]
    pub fn new(server: Server) -> Self {
        Self {
            server,
            trigger: Duration::from_secs(5),
            after: Duration::from_secs(120),
            retry_delay: RetryDelay::HintSeconds,
            retry_after: RetryAfter::adaptive(),
        }
    }

    /// Returns the scenario of the experiment.
    #[must_use]
    pub fn scenario(&self) -> Scenario {
        let phase = |name, length: Duration, load| Phase::new(name, length.as_secs_f64(), load);
        let mut scenario = Scenario::new("storm", self.server)
            .then(phase("before", Duration::from_secs(60), BASE_LOAD))
            .then(phase("trigger", self.trigger, TRIGGER_LOAD))
            .then(phase("after", self.after, BASE_LOAD));
        scenario.kinds[0].callers.retries = 3;
        scenario.kinds[0].callers.retry_delay = self.retry_delay;
        scenario.retry_after = self.retry_after;
        scenario
    }

    /// Returns the highest possible goodput after the trigger, in units of the capacity: all refused callers retry in that
    /// phase, each when there is headroom.
    #[must_use]
    pub fn possible(&self) -> f64 {
        (BASE_LOAD + (TRIGGER_LOAD - 1.0) * self.trigger.as_secs_f64() / self.after.as_secs_f64())
            .min(1.0)
    }

    /// Returns the length of a window: 2 s, because HTTP hints are whole seconds, or the time of 1,000 calls at the capacity if
    /// that is longer.
    #[must_use]
    pub fn window(&self) -> Duration {
        Duration::from_secs_f64((IN_A_WINDOW / self.server.capacity()).max(2.0))
    }

    /// Runs the experiment on this seed, with a budget from `budget`.
    ///
    /// # Panics
    ///
    /// Panics within a tokio runtime.
    #[must_use]
    pub fn run(&self, seed: u64, budget: impl FnMut() -> Budget) -> Wave {
        let report = Lab::seed(seed).run(&self.scenario(), budget);
        self.wave(&report)
    }

    fn wave(&self, report: &Report) -> Wave {
        let after = &report.phases[2];
        let ticks = (self.window().as_secs_f64() / TICK).round() as usize;
        let full = ticks as f64 * TICK * self.server.capacity();
        // The rate of attempts in each window; a window begins at each tick.
        let flow: Vec<_> = after
            .ticks
            .windows(ticks)
            .map(|window| window.iter().map(|tick| tick.attempts).sum::<usize>() as f64 / full)
            .collect();
        let last = flow.iter().rposition(|&flow| flow > 1.1);
        let recovery = last.map_or(0.0, |last| (last + ticks) as f64 * TICK);
        let lost: usize = report.phases.iter().map(|phase| phase.lost).sum();
        Wave {
            peak: flow.iter().copied().fold(0.0, f64::max),
            area: flow.iter().map(|flow| (flow - 1.0).max(0.0) * TICK).sum(),
            recovery: Duration::from_secs_f64(recovery),
            lost: lost as f64 / self.server.capacity(),
            goodput: after.goodput() / self.server.capacity(),
        }
    }
}
