//! The first service time and throughput of a server.

#[cfg(test)]
pub(crate) mod tests;

use tokio::time::Instant;

use super::{
    estimates::Estimates,
    observation::{Figures, Observation, has_timed_out_after, latency},
};
use crate::control::{
    average::seconds,
    controller::{Outcome, Sample, Window},
};

/// Gathers the first responses until they tell a service time.
///
/// The first requests to complete are the short ones, so most of what was waited has to be of requests that have ended. In a flood it
/// never is. But a flood shows: the requests complete in the order of their arrival, and the latest arrivals are far ahead.
#[derive(Clone, Debug, Default)]
pub(crate) struct Startup {
    is_busy: bool,
    waiting: f64,
    arrived: f64,
    /// The times of the arrivals, all together, in seconds of that time.
    arrived_at: f64,
    /// The figures of the time in which requests were in flight. An idle time says nothing about the server.
    all: Figures,
    /// The times at which the successes were admitted, all together, likewise.
    admitted_at: f64,
    /// The latencies of all measured requests together, in seconds.
    latency: f64,
    /// When the first requests had arrived, and how many they are.
    first: Option<(Instant, f64)>,
    /// How many of them have ended, of the measured ones.
    first_ended: f64,
    /// How many of these were successes, and the latencies of the successes together, in seconds.
    first_successes: f64,
    first_latency: f64,
    /// How many more requests have timed out than responded, errors included.
    in_vain: f64,
    /// The limit that was set because requests only timed out, and since when.
    limit: Option<(f64, Instant)>,
    refused: bool,
}

/// What the startup has learned.
#[derive(Debug)]
pub(crate) struct FirstEstimates {
    pub(crate) server: Estimates,
    /// Whether more requests have arrived than can complete soon.
    pub(crate) is_overloaded: bool,
}

/// The fewest successes that make a mean.
const ENOUGH: f64 = 4.0;

/// No queue was before so many requests that arrived first. When they have ended, more in flight than can complete soon is a flood.
const FIRST: f64 = 8.0;

/// Of the time that all requests have waited, the part of requests that have ended. Where times are exponential it is reached after
/// three of them.
const MOST: f64 = 0.6;

/// By Little's law no queue grows where so many times as many requests have completed as are in flight. It is for a few requests
/// that never complete.
const ALL: f64 = 8.0;

/// Of the mean time of arrival: where requests complete in any order, the mean success has arrived after two thirds of it.
const EARLY: f64 = 0.2;

/// In mean latencies, the time that a flood takes to show. Where all requests take as long and none is queued, they complete
/// in order, too, and the mean success has arrived that early up to 1.25.
const SHOWS: f64 = 1.3;

/// Requests that time out where none responds, before fewer are admitted, and the most that are admitted then.
const MANY: f64 = 16.0;

impl Startup {
    pub(crate) fn observe(
        &mut self,
        window: &Window<'_>,
        client_timeout: f64,
    ) -> Option<FirstEstimates> {
        let seen = Observation::of(window, 0.0);
        self.add(&seen, window.samples);
        if self.all.successes < ENOUGH || self.all.elapsed <= 0.0 {
            return None;
        }
        let first_have_ended = self.first_have_ended();
        let service = match first_have_ended {
            true => self.first_latency / self.first_successes,
            false => self.all.mean(),
        };
        let mut server = Estimates::new(service, self.all.rate());
        server.client_timeout = client_timeout;
        let all = &self.all;
        let is_beyond =
            seen.waiting > server.burst() && server.do_few_complete(all.waited, all.completed);
        let is_flood =
            self.in_vain() >= MANY || self.completes_in_order() || is_beyond && first_have_ended;
        if !is_flood && !self.most_have_ended() {
            return None;
        }
        server.is_provisional = is_flood || self.refused;
        let is_overloaded = self.refused || is_flood && is_beyond;
        Some(FirstEstimates {
            server,
            is_overloaded,
        })
    }

    /// Returns how many requests are to be admitted where requests only time out: so many keep a server from completing any. A few at
    /// first, and half as many each time again.
    pub(crate) fn limit(&mut self, window: &Window<'_>) -> Option<f64> {
        let (waiting, limit) = (window.waiting() as f64, self.limit.map(|(limit, _)| limit));
        let is_full = window.refused > 0 || waiting >= limit.unwrap_or(MANY);
        let is_in_vain = self.all.successes < ENOUGH && self.in_vain() >= MANY.max(waiting);
        if !is_full || !is_in_vain || limit == Some(1.0) {
            return None;
        }
        let lower = MANY.min(limit.unwrap_or(waiting) / 2.0).max(1.0);
        *self = Self {
            refused: true,
            limit: Some((lower, window.now)),
            ..Self::default()
        };
        Some(lower)
    }

    /// Returns whether only a few requests are admitted, as callers time out and hardly any request succeeds.
    pub(crate) fn admits_few(&self) -> bool {
        self.limit.is_some()
    }

    fn add(&mut self, seen: &Observation, samples: &[Sample]) {
        let mut figures = seen.figures;
        if !self.is_busy {
            let oldest = samples.iter().map(|sample| sample.admitted_at).min();
            let busy = oldest.map_or(0.0, |oldest| seconds(oldest, seen.now));
            figures.elapsed = figures.elapsed.min(busy);
            figures.waited = seen.waiting * figures.elapsed;
        }
        let before = self.all.elapsed;
        self.all.add(&figures);
        let arrived = (seen.waiting + figures.completed - self.waiting).max(0.0);
        self.arrived += arrived;
        self.arrived_at += arrived * before;
        self.waiting = seen.waiting;
        // The request that closes the window may be complete and still counted.
        self.is_busy = seen.waiting > f64::from(!samples.is_empty());
        self.refused |= seen.figures.is_refusing();
        // Callers that give up sooner have met no queue.
        let soon = self.all.mean() / 2.0;
        for sample in samples {
            let age = seconds(sample.admitted_at, seen.now);
            let is_success = sample.outcome == Outcome::Success;
            let is_first = self
                .first
                .is_none_or(|(until, _)| sample.admitted_at <= until);
            self.latency += latency(sample);
            if is_success {
                self.admitted_at += (self.all.elapsed - age).max(0.0);
            }
            if is_first {
                self.first_ended += 1.0;
            }
            if is_first && is_success {
                self.first_successes += 1.0;
                self.first_latency += latency(sample);
            }
            if self
                .limit
                .is_none_or(|(_, since)| sample.admitted_at >= since)
            {
                let is_in_vain = has_timed_out_after(soon, sample);
                self.in_vain += if is_in_vain { 1.0 } else { -1.0 };
            }
        }
        self.in_vain = self.in_vain.max(0.0);
        if self.arrived >= FIRST && self.first.is_none() {
            self.first = Some((seen.now, self.arrived));
        }
    }

    /// Returns how many requests a measured one stands for.
    fn each(&self) -> f64 {
        // The request that closes a window may be counted in the next.
        (self.all.completed / self.all.measured().max(1.0)).max(1.0)
    }

    /// Returns how many more requests have timed out than responded, of all and not only of the measured ones.
    fn in_vain(&self) -> f64 {
        self.in_vain * self.each()
    }

    fn first_have_ended(&self) -> bool {
        let all = self.first.map_or(f64::INFINITY, |(_, first)| first);
        self.first_successes >= ENOUGH && self.first_ended * self.each() > 0.9 * all
    }

    fn most_have_ended(&self) -> bool {
        self.each() * self.latency > MOST * self.all.waited
            || self.all.completed > ALL * self.waiting
    }

    fn completes_in_order(&self) -> bool {
        let admitted_at = self.admitted_at / self.all.successes;
        admitted_at < EARLY * self.arrived_at / self.arrived
            && self.all.elapsed > SHOWS * self.all.mean()
    }
}
