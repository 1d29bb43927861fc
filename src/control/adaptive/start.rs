//! The first look at a server.

use tokio::time::Instant;

use super::estimates::{Estimates, has_left, latency};
use crate::control::{Outcome, Sample, Window};

/// Gathers the first answers until they tell a service time.
///
/// The first to finish are the short ones, so some time has to pass first: 1.6 times what nine in ten of them took.
/// Under a flood there is no time; but then half as many more are in flight and no more are answered, which no server does that
/// still has room, or callers leave.
#[derive(Clone, Debug, Default)]
pub(super) struct Start {
    /// Since when somebody has been waiting for an answer, if anybody was when the last window was closed.
    busy: Option<Instant>,
    /// For how long somebody was before that, in seconds.
    before: f64,
    /// Until when that was.
    counted: Option<Instant>,
    latencies: Vec<f64>,
    /// Whether the limit was too low for what came, or was made so.
    pub(super) refused: bool,
    /// How many more callers have left than were answered, be it by an error.
    left: f64,
    /// How many are let in, once it was seen that nobody was answered, and since when.
    room: Option<(f64, Instant)>,
    answers: f64,
    /// The busy time by then, in seconds.
    compared_at: f64,
    /// In flight, and answers a second, when they were last compared.
    compared: Option<(f64, f64)>,
}

const ENOUGH: usize = 4;

/// So many who leave are no chance where others are answered; and so many answers would tell much.
const MANY: f64 = 16.0;

/// Nine in ten of exponential times are within 2.3 of the mean; within 1.6 times what nine in ten have taken so far, most
/// have ended.
const LONG_ENOUGH: f64 = 1.6;

/// Answers that make a rate.
const COUNTED: f64 = 8.0;

/// The most that are kept: a percentile of as many is as good.
const KEPT: usize = 1_024;

impl Start {
    pub(super) fn learn(&mut self, window: &Window<'_>) -> Option<Estimates> {
        self.refused |= window.refused > 0;
        let (mut any_left, mut more) = (false, 0.0);
        let is_new = |sample: &Sample| self.room.is_none_or(|(_, at)| sample.admitted_at >= at);
        for sample in window.samples {
            let has_left = has_left(sample);
            any_left |= has_left;
            if sample.outcome == Outcome::Success && self.latencies.len() < KEPT {
                self.latencies.push(latency(sample));
            }
            if is_new(sample) {
                more += if has_left { 1.0 } else { -1.0 };
            }
        }
        let each = window.completed as f64 / window.samples.len().max(1) as f64;
        self.left = (self.left + each * more).max(0.0);
        let elapsed = self.busy_for(window);
        let is_flooded = self.is_flooded(window, elapsed) || any_left;
        if self.latencies.len() < ENOUGH || elapsed == 0.0 {
            return None;
        }
        self.latencies.sort_by(f64::total_cmp);
        let most = self.latencies[(self.latencies.len() - 1) * 9 / 10];
        (elapsed >= LONG_ENOUGH * most || is_flooded).then(|| {
            let count = self.latencies.len() as f64;
            let mean = self.latencies.iter().sum::<f64>() / count;
            let rate = self.compared.map_or(0.0, |(_, rate)| rate);
            Estimates::new(mean, rate.max(count / elapsed))
        })
    }

    /// How many are to be let in, where the room is full, as many have left as are inside and hardly anybody was answered: nothing
    /// would ever be learned of a server that so many keep from finishing even one. A few at first, and half as many each time again.
    pub(super) fn room(&mut self, window: &Window<'_>) -> Option<f64> {
        let (inside, room) = (window.waiting() as f64, self.room.map(|(room, _)| room));
        let is_full = window.refused > 0 || inside >= room.unwrap_or(MANY);
        let in_vain = self.latencies.len() < ENOUGH && self.left >= MANY.max(inside);
        if !is_full || !in_vain || room == Some(1.0) {
            return None;
        }
        let room = MANY.min(room.unwrap_or(inside) / 2.0).max(1.0);
        *self = Self {
            refused: true,
            room: Some((room, window.now)),
            ..Self::default()
        };
        Some(room)
    }

    /// For how long somebody has been waiting, in seconds. While nobody does, nothing says how much the server can do: a
    /// first request, and a burst long after it, are no slow server.
    fn busy_for(&mut self, window: &Window<'_>) -> f64 {
        let admitted = window.samples.iter().map(|sample| sample.admitted_at);
        let since = admitted.chain(self.busy).min().unwrap_or(window.now);
        let since = self.counted.map_or(since, |counted| since.max(counted));
        let busy = self.before + window.now.saturating_duration_since(since).as_secs_f64();
        // One that has just finished may be among them still.
        let finished = usize::from(!window.samples.is_empty());
        if window.waiting() > finished {
            self.busy = Some(since);
        } else {
            self.busy = None;
            self.before = busy;
            self.counted = Some(window.now);
        }
        busy
    }

    fn is_flooded(&mut self, window: &Window<'_>, busy: f64) -> bool {
        let is_success = |sample: &&Sample| sample.outcome == Outcome::Success;
        let successes = window.samples.iter().filter(is_success).count() as f64;
        let measured = window.samples.len().max(1) as f64;
        self.answers += window.completed as f64 * successes / measured;
        let seconds = busy - self.compared_at;
        if self.answers < COUNTED || seconds == 0.0 {
            return false;
        }
        let (in_flight, rate) = (window.waiting() as f64, self.answers / seconds);
        (self.answers, self.compared_at) = (0.0, busy);
        let more = |&(before, _): &(f64, f64)| in_flight > 1.5 * before;
        let answered = |(_, before): (f64, f64)| rate < 1.2 * before;
        let is_flooded = self.compared.filter(more).is_some_and(answered);
        if self.compared.is_none_or(|before| more(&before)) {
            self.compared = Some((in_flight, rate));
        }
        is_flooded
    }
}
