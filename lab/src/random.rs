//! The random properties of a call, drawn at its arrival: they do not depend on the decisions of a controller.

use std::time::Duration;

use crate::{
    scenario::{Callers, ClientMix, Phase, Server, Station, Times},
    station::Nanos,
};

/// The random properties of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Draw {
    /// The time in the dependency; `None` for a call that hangs.
    pub(crate) dependency: Option<Nanos>,
    pub(crate) service: Nanos,
    pub(crate) timeout: Nanos,
    pub(crate) critical: bool,
    pub(crate) tenant: u32,
    pub(crate) units: u32,
}

/// The conditions that change within a phase.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conditions {
    pub(crate) load: f64,
    pub(crate) slowdown: f64,
}

/// A seeded source of random numbers.
#[derive(Debug)]
pub(crate) struct Random(fastrand::Rng);

impl Draw {
    /// Returns whether the call would be served in time on an idle server.
    pub(crate) fn fits(&self, server: &Server) -> bool {
        let work = match server.station {
            Station::None => 0,
            _ => self.service,
        };
        self.dependency
            .is_some_and(|dependency| dependency + work <= self.timeout)
    }
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// Returns an exponentially distributed number with a mean of 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -(1.0 - self.0.f64()).ln()
    }

    /// Returns a number from 0 to 1.
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0.f64()
    }

    /// Returns a number between `low` and `high`, whose logarithm is uniformly distributed.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low * (high / low).powf(self.uniform())
    }

    /// Draws a call. Every call takes the same number of random numbers, so a change of one property leaves the others as
    /// they are.
    pub(crate) fn draw(
        &mut self,
        server: &Server,
        callers: &Callers,
        phase: &Phase,
        conditions: Conditions,
    ) -> Draw {
        let service = self.time(server.times, phase.long);
        let dependency = self.time(server.times, phase.long);
        let [hangs, critical, times_out_early] = [self.uniform(), self.uniform(), self.uniform()];
        let timeout = match callers.short_timeout {
            Some((share, timeout)) if times_out_early < share => timeout,
            _ => callers.timeout,
        };
        let usual = server.dependency.unwrap_or_default();
        let times = |usual, times: f64| (nanos(usual) as f64 * times) as Nanos;
        Draw {
            dependency: (hangs >= phase.hanging)
                .then(|| times(usual, dependency * conditions.slowdown)),
            service: times(server.service, service),
            timeout: nanos(timeout),
            critical: critical * (conditions.load + phase.critical) < phase.critical,
            tenant: 0,
            units: 1,
        }
    }

    /// Draws the tenant and the cost of a call.
    pub(crate) fn mix(&mut self, mix: &ClientMix, draw: &mut Draw) {
        let [first, other, large] = [self.uniform(), self.uniform(), self.uniform()];
        if first >= mix.first {
            draw.tenant = 1 + (other * f64::from(mix.tenants - 1)) as u32;
        }
        if large < mix.large {
            draw.units = mix.units;
        }
    }

    /// Draws a time, in units of the mean.
    fn time(&mut self, times: Times, share_of_long: f64) -> f64 {
        let (first, uniform) = (self.uniform(), self.uniform());
        match times {
            Times::Fixed => 1.0,
            Times::Exponential => -(1.0 - first).ln(),
            Times::Bimodal { long, .. } if uniform < share_of_long => long,
            Times::Bimodal { short, .. } => short,
        }
    }
}

pub(crate) fn nanos(duration: Duration) -> Nanos {
    duration.as_nanos() as Nanos
}
