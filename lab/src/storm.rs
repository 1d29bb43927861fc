//! The second wave: what comes back after a trigger, by what the refused were told.

use std::time::Duration;

use loadshed::{Budget, RetryAfter};

use crate::{
    options::Lab,
    report::Report,
    scenario::{Phase, RetryDelay, Scenario, Server},
};

/// A minute at 0.8 of the capacity, a trigger of 3 times the capacity, and then 0.8 again. Each caller tries up to four
/// times.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// The server.
    pub server: Server,
    /// How long the trigger lasts.
    pub trigger: Duration,
    /// How long it is watched after that.
    pub after: Duration,
    /// How the refused wait.
    pub retry_delay: RetryDelay,
    /// What they are told.
    pub retry_after: RetryAfter,
}

/// What came after the trigger.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Wave {
    /// The most calls in any window, those included that came back, in units of the capacity.
    pub peak: f64,
    /// What came above the capacity, summed up over windows, in seconds of the capacity.
    pub area: f64,
    /// How long it took until no window had more than 1.1 × the capacity.
    pub recovery: Duration,
    /// Callers of the whole run who were refused four times, in seconds of the capacity.
    pub lost: f64,
    /// Calls answered in time after the trigger, in units of the capacity.
    pub goodput: f64,
}

/// At least as many calls in a window, if the server is full: chance then moves their number by 3 %.
const IN_A_WINDOW: f64 = 1_000.0;

/// Loads, in units of the capacity.
const BASE_LOAD: f64 = 0.8;
const TRIGGER_LOAD: f64 = 3.0;

/// Of a report, in seconds.
const TICK: f64 = 0.1;

impl Storm {
    /// A trigger of five seconds: those who are refused then are ten seconds of the capacity, and a minute has room for
    /// twelve.
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

    /// For the lab.
    #[must_use]
    pub fn scenario(&self) -> Scenario {
        let phase = |name, length: Duration, load| Phase::new(name, length.as_secs_f64(), load);
        let mut scenario = Scenario::new("storm", self.server)
            .then(phase("before", Duration::from_secs(60), BASE_LOAD))
            .then(phase("trigger", self.trigger, TRIGGER_LOAD))
            .then(phase("after", self.after, BASE_LOAD));
        scenario.callers.retries = 3;
        scenario.callers.retry_delay = self.retry_delay;
        scenario.retry_after = self.retry_after;
        scenario
    }

    /// The goodput after the trigger, in units of the capacity, if all who were refused came back while it is watched, and
    /// when there was room: what any limit and any hint can do at most.
    #[must_use]
    pub fn possible(&self) -> f64 {
        (BASE_LOAD + (TRIGGER_LOAD - 1.0) * self.trigger.as_secs_f64() / self.after.as_secs_f64())
            .min(1.0)
    }

    /// How long a window is: two seconds, as hints come in whole ones, or as long as it takes for chance not to decide.
    #[must_use]
    pub fn window(&self) -> Duration {
        Duration::from_secs_f64((IN_A_WINDOW / self.server.capacity()).max(2.0))
    }

    /// What came, with this seed and such a budget.
    ///
    /// # Panics
    ///
    /// Within a tokio runtime.
    #[must_use]
    pub fn run(&self, seed: u64, budget: impl FnMut() -> Budget) -> Wave {
        let report = Lab::seed(seed).run(&self.scenario(), budget);
        self.wave(&report)
    }

    fn wave(&self, report: &Report) -> Wave {
        let after = &report.phases[2];
        let ticks = (self.window().as_secs_f64() / TICK).round() as usize;
        let full = ticks as f64 * TICK * self.server.capacity();
        // By window, one each tick.
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
