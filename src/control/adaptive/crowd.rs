//! How a flood is told from a slow server, while no request is refused.

use super::{estimates::Estimates, observation::Observation};
use crate::control::average::{Since, gain};

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Crowd {
    /// The requests in flight in the latest window.
    waiting: f64,
    /// Arrivals per second, over some seconds.
    usual: f64,
    /// Since when more requests are in flight than chance brings together.
    since: Since,
    /// Since then, and lately: over two service times.
    lately: Lately,
    is_growing: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lately {
    elapsed: f64,
    /// The time that all requests have waited together, in seconds.
    waited: f64,
    arrived: f64,
    completed: f64,
}

/// Arrivals have risen at so many times the usual rate: less is the difference between two moments of a day.
const RISEN: f64 = 2.0;

/// The time over which the usual rate is averaged, in seconds.
const USUAL: f64 = 2.0;

/// The arrivals for each completion in a flood. Within two service times half of all requests would be complete if all took as long;
/// the rest is for a service time that is estimated too short.
const AHEAD: f64 = 2.5;

/// Completions that chance delays.
const DELAYED: f64 = 4.0;

impl Crowd {
    /// Starts with so many requests in flight and arrivals per second.
    pub(crate) fn new(waiting: f64, usual: f64) -> Self {
        Self {
            waiting,
            usual,
            ..Self::default()
        }
    }

    pub(crate) fn observe(&mut self, seen: &Observation, server: &Estimates) {
        let (elapsed, completed) = (seen.figures.elapsed, seen.figures.completed);
        let grown = seen.waiting - self.waiting;
        let arrived = (completed + grown).max(0.0);
        self.waiting = seen.waiting;
        if elapsed > 0.0 {
            self.usual += gain(elapsed, USUAL) * (arrived / elapsed - self.usual);
        }
        let is_crowd = seen.waiting > server.by_chance();
        if self.since.so(is_crowd, seen.now) == 0.0 {
            self.lately = Lately::default();
            return;
        }
        let kept = 1.0 - gain(elapsed, 2.0 * server.service);
        let lately = &mut self.lately;
        lately.elapsed = kept * lately.elapsed + elapsed;
        lately.waited = kept * lately.waited + seen.figures.waited;
        lately.arrived = kept * lately.arrived + arrived;
        lately.completed = kept * lately.completed + completed;
        self.is_growing = grown > completed;
    }

    /// Returns whether more requests are in flight than can complete soon. The server has had the time of a request to show
    /// what it can do, and completes few.
    pub(crate) fn is_too_large(&self, seen: &Observation, server: &Estimates) -> bool {
        seen.waiting > server.burst()
            && server.do_few_complete(self.lately.waited, self.lately.completed)
            && self.since.lasts(seen.now) > server.service + seen.figures.elapsed / 2.0
    }

    /// Returns whether its arrivals tell a flood, long before the queue is as long as callers wait. A dependency that becomes slow
    /// delays completions, and brings no more arrivals; a burst that is over brings no more either.
    pub(crate) fn is_flood(&self, seen: &Observation, server: &Estimates) -> bool {
        self.is_growing
            && self.since.lasts(seen.now) > 2.0 * server.service + seen.figures.elapsed / 2.0
            && self.lately.arrived > AHEAD * (self.lately.completed + DELAYED)
            && self.lately.arrived > RISEN * self.usual.max(server.peak) * self.lately.elapsed
    }

    /// Returns the completions per second.
    pub(crate) fn rate(&self) -> f64 {
        self.lately.completed / self.lately.elapsed.max(1e-3)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::control::adaptive::adaptive::tests::{TICK, window};

    #[test]
    fn p11_a_moment_without_responses_is_no_flood_and_a_long_one_is() {
        let (server, mut now) = (Estimates::new(1.0, 10.0), Instant::now());
        let mut crowd = Crowd::default();
        let mut after = |elapsed: Duration, completed| {
            now += elapsed;
            let mut window = window(now, 1_000, 40, &[]);
            (window.elapsed, window.completed) = (elapsed, completed);
            let seen = Observation::of(&window, 0.0);
            crowd.observe(&seen, &server);
            crowd.is_too_large(&seen, &server)
        };
        // All of a second each.
        for _ in 0..50 {
            assert!(!after(5 * TICK, 4));
        }
        assert!(!after(5 * TICK, 0));
        assert!(after(Duration::from_secs(5), 0));
    }
}
