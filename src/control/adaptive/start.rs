//! The first look at a server.

pub(crate) mod clock;
#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

use tokio::time::Instant;

use self::clock::Clock;
use super::{
    estimates::{Crowded, Estimates},
    seen::{Seen, has_left, latency},
};
use crate::control::controller::{Outcome, Sample, Window};

/// Gathers the first answers until they tell a service time.
///
/// The first to finish are the short ones, so most of what was waited has to be that of requests which have ended. Under a flood it
/// never is, and there is no time; but a flood shows. Those who came first end first, and the more come the longer they take;
/// or twice as many are in flight and hardly more are answered, which no server does that still has room; or callers leave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Start {
    clock: Clock,
    crowd: Crowd,
    ended: Ended,
    latencies: Vec<f64>,
    /// How many came first, and until when.
    first: Option<(f64, Instant)>,
    first_ended: Ended,
    crowded: Crowded,
    /// When the number in flight was last compared.
    compared: Option<Compared>,
    /// How many more callers have left than were answered, be it by an error.
    left: f64,
    /// How many are let in, once it was seen that nobody was answered, and since when.
    room: Option<(f64, Instant)>,
    /// Whether the limit was too low for what came, or was made so.
    refused: bool,
    /// In seconds, as a setting tells.
    client_timeout: Option<f64>,
}

/// What the first look has told.
#[derive(Debug)]
pub(crate) struct Learned {
    pub(crate) known: Estimates,
    pub(crate) crowded: Crowded,
    /// Whether more have come than can be answered soon.
    pub(crate) overloaded: bool,
}

/// All together: who has come, who waits.
#[derive(Clone, Copy, Debug, Default)]
struct Crowd {
    /// What the clock read last.
    at: f64,
    came: f64,
    /// When they came, all together: in seconds of the clock.
    came_at: f64,
    completed: f64,
    waiting: f64,
    /// How long all of them have waited together, in seconds.
    waited: f64,
}

/// Of those who have ended: how many were measured, and how long they waited together, in seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Ended {
    measured: f64,
    waited: f64,
    /// How many of them were successes, their latencies, and when they were admitted, in seconds of the clock.
    successes: f64,
    latency: f64,
    admitted_at: f64,
}

#[derive(Clone, Copy, Debug)]
struct Compared {
    /// After so many answers and seconds.
    responded: f64,
    at: f64,
    in_flight: f64,
    /// Answers a second since the last time.
    rate: f64,
}

/// Successes, the fewest that make a mean.
const ENOUGH: f64 = 4.0;

/// So many more have left than were answered: it is no chance, and no few impatient ones among many.
const LEAVE: f64 = 4.0;

/// So many who came first tell how long a request takes, when they have ended: no line was before them.
const FIRST: f64 = 8.0;

/// So many who leave are no chance where others are answered; and so many answers would tell much.
const MANY: f64 = 16.0;

/// Of all that was waited. Where times are exponential it is so after three of them.
const MOST: f64 = 0.6;

/// Times as many have ended as are inside: by Little's law that is as many times as long as one of them takes, and no line grows. Where one
/// request is worth many others, those that are measured tell nothing of what was waited.
const ALL: f64 = 8.0;

/// Nine in ten of exponential times are within 2.3 of the mean; within 1.6 times what nine in ten have taken so far, most
/// have ended.
const LONG_ENOUGH: f64 = 1.6;

/// Of the time at which all have come, on average: where a server takes any of those who wait, those who have ended came after
/// two thirds of it.
const EARLY: f64 = 0.2;

/// Answers that make a rate, to a fifth by chance.
const COUNTED: f64 = 24.0;

/// Twice as many in flight bring twice as many answers where there is room, and as many where there is none. Nearer to the latter, as the one
/// is the rule at a start.
const HARDLY: f64 = 1.2;

/// The most that are kept: a percentile of as many is as good.
const KEPT: usize = 1_024;

impl Start {
    pub(crate) fn new(client_timeout: Option<f64>) -> Self {
        Self {
            client_timeout,
            ..Self::default()
        }
    }

    pub(crate) fn learn(&mut self, window: &Window<'_>) -> Option<Learned> {
        self.refused |= window.refused > 0;
        let elapsed = self.clock.read(window);
        let busy = Duration::from_secs_f64(elapsed);
        let began = window.now.checked_sub(busy).unwrap_or(window.now);
        self.crowd.take_in(window, elapsed);
        if self.crowd.came >= FIRST && self.first.is_none() {
            self.first = Some((self.crowd.came, window.now));
        }
        self.take_in(window, began);
        let (mut known, seen) = (self.known(elapsed), Seen::of(window, 0.0));
        self.crowded.take_in(&seen, &known);
        let slower = self.is_slower(elapsed);
        if self.ended.successes < ENOUGH || elapsed == 0.0 {
            return None;
        }
        let piles_up = self.first_have_ended() && known.is_flooded(&seen, &self.crowded);
        let flooded = slower || piles_up || self.left >= LEAVE || self.in_order(elapsed);
        known.hasty = flooded || self.refused;
        (flooded || self.most_has_ended()).then_some(Learned {
            crowded: self.crowded,
            overloaded: self.refused || flooded && seen.in_flight > known.burst(),
            known,
        })
    }

    /// How many are to be let in, where the room is full, as many have left as are inside and hardly anybody was answered: nothing
    /// would ever be learned of a server that so many keep from finishing even one. A few at first, and half as many each time again.
    pub(crate) fn room(&mut self, window: &Window<'_>) -> Option<f64> {
        let (inside, room) = (window.waiting() as f64, self.room.map(|(room, _)| room));
        let is_full = window.refused > 0 || inside >= room.unwrap_or(MANY);
        let in_vain = self.ended.successes < ENOUGH && self.left >= MANY.max(inside);
        if !is_full || !in_vain || room == Some(1.0) {
            return None;
        }
        let room = MANY.min(room.unwrap_or(inside) / 2.0).max(1.0);
        *self = Self {
            refused: true,
            client_timeout: self.client_timeout,
            room: Some((room, window.now)),
            ..Self::default()
        };
        Some(room)
    }

    fn take_in(&mut self, window: &Window<'_>, began: Instant) {
        let mut more = 0.0;
        let is_new = |sample: &Sample| self.room.is_none_or(|(_, at)| sample.admitted_at >= at);
        for sample in window.samples {
            if is_new(sample) {
                more += if has_left(sample) { 1.0 } else { -1.0 };
            }
            self.ended.add(sample, began);
            if self
                .first
                .is_none_or(|(_, until)| sample.admitted_at <= until)
            {
                self.first_ended.add(sample, began);
            }
            if sample.outcome == Outcome::Success && self.latencies.len() < KEPT {
                self.latencies.push(latency(sample));
            }
        }
        let each = window.completed as f64 / window.samples.len().max(1) as f64;
        self.left = (self.left + each * more).max(0.0);
    }

    fn known(&self, elapsed: f64) -> Estimates {
        let service = match self.first_have_ended() {
            true => self.first_ended.mean(),
            false => self.ended.mean(),
        };
        let rate = self.compared.map_or(0.0, |compared| compared.rate);
        let rate = rate.max(self.responded() / elapsed.max(f64::MIN_POSITIVE));
        Estimates::new(service, rate).with_client_timeout(self.client_timeout)
    }

    /// Whether most of what was waited is of requests which have ended, or there was time for all of them.
    fn most_has_ended(&self) -> bool {
        self.ended.waited * self.each() > MOST * self.crowd.waited
            || self.crowd.completed > ALL * self.crowd.waiting
    }

    fn first_have_ended(&self) -> bool {
        let all = self.first.map_or(f64::INFINITY, |(all, _)| all);
        self.first_ended.measured * self.each() > 0.9 * all && self.first_ended.successes >= ENOUGH
    }

    /// Whether only those have ended who came first, and they take ever longer, or have all taken as long and enough time has
    /// passed for more.
    fn in_order(&mut self, elapsed: f64) -> bool {
        self.latencies.sort_by(f64::total_cmp);
        let at = |tenths: usize| self.latencies[(self.latencies.len() - 1) * tenths / 10];
        let (least, most) = (at(1), at(9));
        let (ended_at, came_at) = (
            self.ended.admitted_at / self.ended.successes,
            self.crowd.came_at / self.crowd.came,
        );
        ended_at < EARLY * came_at && (elapsed >= LONG_ENOUGH * most || most > 2.0 * least)
    }

    /// Whether twice as many are in flight as when it was last asked, and hardly more were answered a second since.
    fn is_slower(&mut self, elapsed: f64) -> bool {
        let (responded, before) = (self.responded(), self.compared);
        let (since, at) = before.map_or((0.0, 0.0), |before| (before.responded, before.at));
        let is_more = before.is_none_or(|before| self.crowd.waiting > 2.0 * before.in_flight);
        if responded - since < COUNTED || elapsed <= at || !is_more {
            return false;
        }
        let rate = (responded - since) / (elapsed - at);
        self.compared = Some(Compared {
            responded,
            at: elapsed,
            in_flight: self.crowd.waiting,
            rate,
        });
        before.is_some_and(|before| rate < HARDLY * before.rate)
    }

    /// How many ended for each one that was measured.
    fn each(&self) -> f64 {
        // The last may have given its place back after its window was closed.
        (self.crowd.completed / self.ended.measured.max(1.0)).max(1.0)
    }

    fn responded(&self) -> f64 {
        self.crowd.completed * self.ended.successes / self.ended.measured.max(1.0)
    }
}

impl Crowd {
    fn take_in(&mut self, window: &Window<'_>, elapsed: f64) {
        let (waiting, completed) = (window.waiting() as f64, window.completed as f64);
        self.waited += (elapsed - self.at) * (self.waiting + waiting) / 2.0;
        let came = (waiting + completed - self.waiting).max(0.0);
        self.came += came;
        // At the earliest: many who come at once are no flow.
        self.came_at += came * self.at;
        self.at = elapsed;
        self.completed += completed;
        self.waiting = waiting;
    }
}

impl Ended {
    fn add(&mut self, sample: &Sample, began: Instant) {
        self.measured += 1.0;
        self.waited += latency(sample);
        if sample.outcome == Outcome::Success {
            self.successes += 1.0;
            self.latency += latency(sample);
            self.admitted_at += sample
                .admitted_at
                .saturating_duration_since(began)
                .as_secs_f64();
        }
    }

    fn mean(&self) -> f64 {
        self.latency / self.successes.max(1.0)
    }
}
