//! The arrival process. It does not depend on the decisions of a controller, so one sequence of calls serves many runs.

use std::time::Duration;

use crate::{
    random::{Conditions, Draw, Random, nanos},
    scenario::{ClientMix, Phase, Scenario},
    station::Nanos,
};

/// One call and its time of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) at: Nanos,
    pub(crate) draw: Draw,
}

/// An iterator over all calls of a scenario, in order of arrival.
#[derive(Debug)]
pub(crate) struct Arrivals<'a> {
    scenario: &'a Scenario,
    random: Random,
    /// A random source of its own, so that the client mix does not change the other draws.
    mix: Random,
    phase: usize,
    began: Nanos,
    at: Nanos,
}

impl<'a> Arrivals<'a> {
    pub(crate) fn new(scenario: &'a Scenario, seed: u64) -> Self {
        Self {
            scenario,
            random: Random::new(seed),
            mix: Random::new(seed.rotate_left(32)),
            phase: 0,
            began: 0,
            at: 0,
        }
    }

    /// Draws the call that arrives now, or `None` where thinning drops it. A load that varies is thinned from its peak.
    fn draw(&mut self, phase: &Phase) -> Option<Draw> {
        let since = Duration::from_nanos(self.at - self.began);
        let (load, peak) = (phase.load.at(since), phase.load.peak());
        let (from, to) = phase.slowdown;
        let progress = since.as_secs_f64() / phase.length.as_secs_f64();
        let conditions = Conditions {
            load,
            slowdown: from + (to - from) * progress,
        };
        let kept = self.random.uniform() * (peak + phase.critical) < load + phase.critical;
        let (server, callers) = (&self.scenario.server, &self.scenario.callers);
        let mut draw = self.random.draw(server, callers, phase, conditions);
        if self.scenario.client_mix != ClientMix::default() {
            self.mix.mix(&self.scenario.client_mix, &mut draw);
        }
        kept.then_some(draw)
    }
}

impl Iterator for Arrivals<'_> {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        while let Some(phase) = self.scenario.phases.get(self.phase) {
            let load = phase.load.peak() + phase.critical;
            let capacity = self.scenario.server.capacity() * self.scenario.instances as f64;
            let gap = self.random.exponential() / (load * capacity);
            // The cast saturates, so a gap that is too large ends the phase.
            self.at = self.at.saturating_add((gap * 1e9) as Nanos);
            let end = self.began + nanos(phase.length);
            if self.at >= end {
                (self.phase, self.began, self.at) = (self.phase + 1, end, end);
            } else if let Some(draw) = self.draw(phase) {
                return Some(Arrival { at: self.at, draw });
            }
        }
        None
    }
}
