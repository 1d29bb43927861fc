//! The random properties of a call, drawn at its arrival: they do not depend on the decisions of a controller.

use std::time::Duration;

use crate::{
    scenario::{callers::ClientMix, kind::Kind, phase::Conditions, server::Times},
    station::Nanos,
};

/// The random properties of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Draw {
    /// The number of the kind.
    pub(crate) kind: usize,
    /// The time in the dependency; `None` for a call that hangs. For a call that fails, the time until its response.
    pub(crate) dependency: Option<Nanos>,
    /// Whether the call fails, without any work.
    pub(crate) fails: bool,
    pub(crate) service: Nanos,
    /// The time from the head of the response to the end of its body.
    pub(crate) body: Nanos,
    pub(crate) timeout: Nanos,
    pub(crate) critical: bool,
    pub(crate) tenant: u32,
    pub(crate) units: u32,
}

/// The conditions at the moment of an arrival, where they change within a phase.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) load: f64,
    /// The factor on the service time.
    pub(crate) service: f64,
    /// The factor on the dependency's response time.
    pub(crate) slowdown: f64,
}

/// A seeded source of random numbers.
#[derive(Debug)]
pub(crate) struct Random(fastrand::Rng);

impl Draw {
    /// Returns whether the call would be served in time on an idle server, where it needs a worker or none.
    pub(crate) fn fits(&self, is_queued: bool) -> bool {
        let work = if is_queued { self.service } else { 0 };
        let in_time = |dependency| dependency + work + self.body <= self.timeout;
        !self.fails && self.dependency.is_some_and(in_time)
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

    /// Draws a call of this kind, which is the `nth`. Every call of a kind takes the same number of random numbers, so a change of one
    /// property leaves the others as they are.
    pub(crate) fn draw(
        &mut self,
        (nth, kind): (usize, &Kind),
        conditions: &Conditions,
        moment: Moment,
    ) -> Draw {
        let Kind {
            server, callers, ..
        } = kind;
        let service = self.time(server.times, conditions.long);
        let dependency = self.time(server.times, conditions.long);
        let [fate, critical, times_out_early] = [self.uniform(), self.uniform(), self.uniform()];
        let timeout = match callers.short_timeout {
            Some((share, timeout)) if times_out_early < share => timeout,
            _ => callers.timeout,
        };
        let usual = server.dependency.unwrap_or_default();
        let times = |usual, times: f64| (nanos(usual) as f64 * times) as Nanos;
        let hangs = fate < conditions.hanging;
        let fails = !hangs && fate < conditions.hanging + conditions.failing;
        let dependency = match fails {
            true => nanos(kind.failure.after),
            false => times(usual, dependency * moment.slowdown),
        };
        Draw {
            kind: nth,
            dependency: (!hangs).then_some(dependency),
            fails,
            service: times(server.service, service * moment.service),
            body: match kind.body {
                Duration::ZERO => 0,
                mean => {
                    let factor = self.time(server.times, conditions.long);
                    times(mean, factor)
                }
            },
            timeout: nanos(timeout),
            critical: critical * (moment.load + conditions.critical) < conditions.critical,
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
    pub(crate) fn time(&mut self, times: Times, share_of_long: f64) -> f64 {
        let (first, uniform) = (self.uniform(), self.uniform());
        match times {
            Times::Fixed => 1.0,
            Times::Exponential => -(1.0 - first).ln(),
            // The mean of a Pareto distribution is its least value × shape ÷ (shape − 1).
            Times::Pareto(shape) => (shape - 1.0) / shape * (1.0 - first).powf(-1.0 / shape),
            Times::Lognormal(deviation) => {
                // Box and Muller's transform. The mean of a lognormal distribution is exp(deviation² ÷ 2).
                let radius = (-2.0 * (1.0 - first).ln()).sqrt();
                let normal = radius * (uniform * std::f64::consts::TAU).cos();
                (deviation * normal - deviation * deviation / 2.0).exp()
            }
            Times::Bimodal { long, .. } if uniform < share_of_long => long,
            Times::Bimodal { short, .. } => short,
        }
    }
}

/// Returns the duration in nanoseconds: at most 2⁶³, so that a sum with a time does not overflow.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    duration.as_nanos().min(1 << 63) as Nanos
}
