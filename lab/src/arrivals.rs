//! The arrival process. It does not depend on the decisions of a controller, so one sequence of calls serves many runs.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use crate::{
    random::{Draw, Moment, Random, nanos},
    scenario::{callers::ClientMix, phase::Phase, scenario::Scenario},
    station::Nanos,
};

/// One call and its time of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) at: Nanos,
    pub(crate) draw: Draw,
}

/// An iterator over the calls of some kinds of a scenario, in order of arrival.
#[derive(Debug)]
pub(crate) struct Arrivals<'a> {
    by_kind: BTreeMap<usize, OfKind<'a>>,
    /// The next call of each kind.
    next: BinaryHeap<Reverse<(Nanos, Draw)>>,
}

/// An iterator over the calls of one kind. They do not depend on the other kinds.
#[derive(Debug)]
struct OfKind<'a> {
    scenario: &'a Scenario,
    kind: usize,
    random: Random,
    /// A random source of its own, so that the client mix does not change the other draws.
    mix: Random,
    phase: usize,
    began: Nanos,
    at: Nanos,
}

impl<'a> Arrivals<'a> {
    /// Creates the arrivals of all kinds.
    pub(crate) fn new(scenario: &'a Scenario, seed: u64) -> Self {
        Self::of(scenario, seed, 0..scenario.kinds.len())
    }

    /// Creates the arrivals of these kinds, each the same as among all.
    pub(crate) fn of(
        scenario: &'a Scenario,
        seed: u64,
        kinds: impl IntoIterator<Item = usize>,
    ) -> Self {
        let of_kind = |kind| (kind, OfKind::new(scenario, seed, kind));
        let mut arrivals = Self {
            by_kind: kinds.into_iter().map(of_kind).collect(),
            next: BinaryHeap::new(),
        };
        let first = arrivals.by_kind.values_mut().filter_map(Iterator::next);
        arrivals.next = first.map(|call| Reverse((call.at, call.draw))).collect();
        arrivals
    }
}

impl Iterator for Arrivals<'_> {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let Reverse((at, draw)) = self.next.pop()?;
        let of_kind = self.by_kind.get_mut(&draw.kind);
        if let Some(call) = of_kind.and_then(Iterator::next) {
            self.next.push(Reverse((call.at, call.draw)));
        }
        Some(Arrival { at, draw })
    }
}

impl<'a> OfKind<'a> {
    fn new(scenario: &'a Scenario, seed: u64, kind: usize) -> Self {
        // 2⁶⁴ ÷ the golden ratio, so that the seeds of kinds are far apart.
        let seed = seed.wrapping_add((kind as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Self {
            scenario,
            kind,
            random: Random::new(seed),
            mix: Random::new(seed.rotate_left(32)),
            phase: 0,
            began: 0,
            at: 0,
        }
    }

    /// Draws the call that arrives now, or `None` where thinning drops it. A load that varies is thinned from its peak.
    fn draw(&mut self, phase: &Phase) -> Option<Draw> {
        let conditions = phase.kind(self.kind);
        let since = Duration::from_nanos(self.at - self.began);
        let progress = since.as_secs_f64() / phase.length.as_secs_f64();
        let between = |(from, to): (f64, f64)| from + (to - from) * progress;
        let moment = Moment {
            load: conditions.load.at(since),
            service: between(conditions.service),
            slowdown: between(conditions.slowdown),
        };
        let rate = moment.load + conditions.critical;
        let kept = self.random.uniform() * conditions.peak() < rate;
        let kind = (self.kind, &self.scenario.kinds[self.kind]);
        let mut draw = self.random.draw(kind, &conditions, moment);
        if self.scenario.client_mix != ClientMix::default() {
            self.mix.mix(&self.scenario.client_mix, &mut draw);
        }
        kept.then_some(draw)
    }
}

impl Iterator for OfKind<'_> {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let scenario = self.scenario;
        while let Some(phase) = scenario.phases.get(self.phase) {
            let unit = scenario.kinds[self.kind].unit * scenario.instances as f64;
            let gap = self.random.exponential() / (phase.kind(self.kind).peak() * unit);
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
