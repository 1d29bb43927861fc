//! A flood that is told by its arrivals, long before its queue is as long as callers wait.
//!
//! A dependency that becomes slow delays completions, and brings no more arrivals. A burst that is over brings no more either. Where
//! more requests arrive than before, still arrive, and completions do not follow within two service times, more arrive than
//! the server can carry.

use super::{estimates::Estimates, seen::Seen};
use crate::control::average::gain;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Surge {
    /// The requests in flight in the latest window.
    waiting: f64,
    /// Arrivals per second, over some seconds.
    usual: f64,
    /// Per second, lately.
    arrivals: f64,
    completions: f64,
    /// Since the arrivals rose: requests, and for how long that is, in seconds.
    arrived: f64,
    completed: f64,
    elapsed: f64,
    /// The requests that have arrived and completed in the latest window, and a little of those before.
    now: (f64, f64),
}

/// Arrivals have risen at so many times the usual rate: less is the difference between two moments of a day.
const RISEN: f64 = 2.0;

/// The arrivals for each completion in a flood. Within two service times half of all requests would be complete if all took as long;
/// the rest is for a service time that is estimated too short.
const AHEAD: f64 = 2.5;

/// Completions that chance delays.
const DELAYED: f64 = 4.0;

/// The time over which the usual rate is averaged, in seconds, and over which it follows a rise that lasts.
const USUAL: f64 = 2.0;
const FOLLOWS: f64 = 0.2;

impl Surge {
    pub(crate) fn take_in(&mut self, seen: &Seen, known: &Estimates) {
        let admitted = (seen.completed + seen.in_flight - self.waiting).max(0.0);
        let arrived = admitted + seen.refusals;
        self.waiting = seen.in_flight;
        self.now = (
            0.2 * self.now.0 + arrived,
            0.2 * self.now.1 + seen.completed,
        );
        if seen.elapsed <= 0.0 {
            return;
        }
        let rate = arrived / seen.elapsed;
        if self.usual == 0.0 {
            self.usual = known.rate.max(rate);
        }
        let lately = (known.service / 2.0)
            .max(0.02)
            .max(8.0 / self.usual.max(1.0));
        let weight = gain(seen.elapsed, lately);
        self.arrivals += weight * (rate - self.arrivals);
        self.completions += weight * (seen.completed / seen.elapsed - self.completions);
        let has_risen = self.arrivals > RISEN * self.usual;
        // What has lasted for so long is usual by now.
        if !has_risen || self.elapsed > 1.0 + 5.0 * known.service {
            let over = if has_risen { FOLLOWS } else { USUAL };
            self.usual += gain(seen.elapsed, over) * (self.arrivals - self.usual);
            (self.arrived, self.completed, self.elapsed) = (0.0, 0.0, 0.0);
            return;
        }
        self.arrived += arrived;
        self.completed += seen.completed;
        self.elapsed += seen.elapsed;
    }

    /// Returns whether more requests arrive than complete, for longer than two service times, and still do.
    pub(crate) fn is_flood(&self, seen: &Seen, known: &Estimates) -> bool {
        self.elapsed > 2.0 * known.service + seen.elapsed / 2.0
            && self.arrived > AHEAD * (self.completed + DELAYED)
            && self.arrivals > RISEN * self.completions
            && self.now.0 > RISEN * (self.now.1 + 1.0)
            && seen.in_flight > known.by_chance()
    }

    /// Returns the completions per second since the arrivals rose.
    pub(crate) fn rate(&self) -> f64 {
        self.completed / self.elapsed.max(1e-3)
    }
}
