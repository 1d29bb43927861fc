//! What is known about the server.

use super::observation::{Figures, Observation};
use crate::control::average::{Since, gain};

/// What is known about the server. Times are in seconds, rates per second.
#[derive(Clone, Debug)]
pub(crate) struct Estimates {
    /// S: the latency without a queue.
    pub(crate) service: f64,
    /// The successes of probes that S rests on.
    rests_on: f64,
    /// c²: the squared coefficient of variation of S. 0 if all requests take as long, 1 if exponential.
    variation: f64,
    /// Whether S was measured in a flood, or while requests were refused, and by no probe since.
    pub(crate) is_provisional: bool,
    /// X: successes, lately.
    rate: f64,
    /// The most of it, while the server is not seen to do less although it is busy.
    pub(crate) peak: f64,
    /// The most since the limit was unlimited.
    pub(crate) best: f64,
    /// Since when the server is busy.
    busy: Since,
    /// Requests that callers have given up and that may still be queued.
    pub(crate) abandoned: f64,
    /// H: for each success, how long requests were in flight that timed out although there was no queue.
    hanging: f64,
    /// The share of requests that succeed: of the last 16 or so that were no errors, and of all.
    responded: f64,
    succeeded: f64,
    /// The latency of the last 16 or so successes, and since when there is none.
    latency: f64,
    silent: Since,
    /// How long callers wait.
    pub(crate) client_timeout: f64,
}

/// The part of the client timeout that a queue may take for a while: the requests have to complete still.
const TOLERATED: f64 = 0.7;

/// The same in service times, for a slow server.
const SLOW: f64 = 3.0;

/// The margin in standard deviations of the number at work, its square root where times are exponential: a worker idles for want
/// of requests one time in 40.
const MARGIN: f64 = 2.0;

/// A mean of 16 is within a quarter of the true mean two times in three. It takes twice as many where times are exponential.
const ENOUGH: f64 = 16.0;

/// S rests on so many times as many: what chance does to one probe is more than halved.
const REMEMBERED: f64 = 5.0;

/// The successes that are missing where none arrives in a time in which the server has had as many at its best.
const SILENT: f64 = 4.0;

/// Completions in the time that a server is busy before its peak is forgotten.
const MISSING: f64 = 16.0;

impl Estimates {
    /// Creates estimates from the first service time and rate.
    pub(crate) fn new(service: f64, rate: f64) -> Self {
        Self {
            service,
            rests_on: 0.0,
            // Not known yet: as if exponential.
            variation: 1.0,
            is_provisional: false,
            rate,
            peak: rate,
            best: rate,
            busy: Since::default(),
            abandoned: 0.0,
            hanging: 0.0,
            responded: 1.0,
            succeeded: 1.0,
            latency: service,
            silent: Since::default(),
            client_timeout: 1.0,
        }
    }

    pub(crate) fn observe(&mut self, seen: &Observation) {
        let figures = &seen.figures;
        let (successes, ended) = (figures.successes, figures.ended());
        if ended > 0.0 {
            self.responded += gain(ended, ENOUGH) * (successes / ended - self.responded);
        }
        if successes > 0.0 {
            self.latency += gain(successes, ENOUGH) * (figures.mean() - self.latency);
        }
        self.silent.so(successes == 0.0, seen.now);
        if self.is_idle(figures) {
            self.expect_responses();
            self.silent = Since::default();
            return;
        }
        let all = figures.measured();
        if all > 0.0 {
            self.succeeded += gain(all, ENOUGH) * (successes / all - self.succeeded);
        }
        self.follow_rate(seen);
        self.follow_abandoned(figures);
    }

    /// Averages over three service times, as completions arrive in waves of that length, and over at least 24 of them.
    fn follow_rate(&mut self, seen: &Observation) {
        let elapsed = seen.figures.elapsed;
        if elapsed <= 0.0 {
            return;
        }
        let rate = seen.figures.completed * self.succeeded / elapsed;
        let most = self.rate.max(rate).max(f64::MIN_POSITIVE);
        let over = (3.0 * self.service).max(24.0 / most).clamp(0.1, 2.0);
        self.rate += gain(elapsed, over) * (rate - self.rate);
        // The peak is forgotten only while the server is busy, and for longer than chance keeps some completions away.
        let busy = self.busy.so(seen.waiting > self.knee(), seen.now);
        if busy * self.peak > MISSING {
            self.peak += gain(elapsed, self.tolerated()) * (self.rate - self.peak).min(0.0);
        }
        self.peak = self.peak.max(self.rate);
        self.best = self.best.max(self.peak);
    }

    /// A server works off the requests that callers gave up with what it can do beyond its successes. A success has not been queued
    /// behind more than the server does in its latency (Little's law).
    fn follow_abandoned(&mut self, figures: &Figures) {
        let each = figures.completed / figures.measured().max(1.0);
        self.abandoned += each * figures.timed_out;
        if figures.successes > 0.0 {
            self.abandoned = self.abandoned.min(self.best * figures.mean());
        }
        let spare = self.best * figures.elapsed - each * figures.successes;
        self.abandoned = (self.abandoned - spare.max(0.0)).max(0.0);
    }

    /// Moves S towards a mean latency that no probe has measured.
    pub(crate) fn guess_service(&mut self, mean: f64, weight: f64) {
        self.service += weight * (mean - self.service);
        (self.is_provisional, self.rests_on) = (false, 0.0);
    }

    /// Takes in what a probe has measured without a queue.
    pub(crate) fn measure(&mut self, measured: &Figures) {
        // As long as probes agree, S is their mean: one alone is wrong by a sixth where times are exponential.
        let do_agree = (measured.mean() / self.service - 1.0).abs() < measured.noise();
        let before = if do_agree { self.rests_on } else { 0.0 };
        self.rests_on = (before + measured.successes).min(REMEMBERED * self.enough());
        let weight = (measured.successes / self.rests_on).min(1.0);
        self.service += weight * (measured.mean() - self.service);
        self.is_provisional = false;
        self.learn_variation(measured);
        self.hanging = measured.timed_out_each();
        self.expect_responses();
    }

    pub(crate) fn learn_variation(&mut self, measured: &Figures) {
        self.variation += 0.3 * (measured.variation() - self.variation);
    }

    /// Expects responses from what was changed.
    pub(crate) fn expect_responses(&mut self) {
        self.responded = 1.0;
    }

    pub(crate) fn forget_best(&mut self) {
        self.best = self.peak;
    }

    /// K: how many requests are in flight where the server is just busy.
    pub(crate) fn knee(&self) -> f64 {
        self.in_flight_at(self.peak)
    }

    /// Returns how many requests are in flight without a queue at so many successes per second: X × (S + H), by Little's law.
    pub(crate) fn in_flight_at(&self, rate: f64) -> f64 {
        rate * (self.service + self.hanging)
    }

    /// How long a request may take for a while, queue included.
    pub(crate) fn tolerated(&self) -> f64 {
        (TOLERATED * self.client_timeout).max(SLOW * self.service)
    }

    /// How many requests may be in flight for a while: as many as complete in time, or as chance brings together.
    pub(crate) fn burst(&self) -> f64 {
        (self.peak * (self.tolerated() + self.hanging)).max(self.by_chance())
    }

    /// Returns whether so few requests have completed, of all that have `waited` together, that a request takes longer than a slow
    /// server's may.
    pub(crate) fn do_few_complete(&self, waited: f64, completed: f64) -> bool {
        waited > SLOW * self.service * (completed + 1.0)
    }

    /// The most requests that chance brings together.
    pub(crate) fn by_chance(&self) -> f64 {
        self.knee() + 4.0 * (self.peak * self.service).sqrt() + 4.0
    }

    /// m = 2 × √(K × (1 + c²) / 2): how long a queue chance makes where so many requests are at work.
    pub(crate) fn margin(&self, working: f64) -> f64 {
        MARGIN * (working * (1.0 + self.variation) / 2.0).sqrt()
    }

    /// Returns how many successes make a reliable mean.
    pub(crate) fn enough(&self) -> f64 {
        ENOUGH * (1.0 + self.variation)
    }

    /// Returns whether hardly any request arrives.
    pub(crate) fn is_idle(&self, figures: &Figures) -> bool {
        figures.elapsed > 1.0 + 3.0 * self.service
    }

    /// Returns whether most callers get their response.
    pub(crate) fn do_respond(&self) -> bool {
        self.responded > 0.6
    }

    /// Returns whether goodput has collapsed: most callers time out, and the successes are late and few. Or the callers of the
    /// `latest` figures time out sooner than S, which rests on requests that were queued.
    pub(crate) fn has_collapsed(&self, seen: &Observation, latest: &Figures) -> bool {
        let is_queue =
            self.is_provisional && latest.timed_out_latency < self.service * latest.timed_out;
        let is_silent = self.silent.lasts(seen.now) * self.best > SILENT;
        let is_late = is_silent || self.latency > 2.0 * self.service;
        let is_less = is_late && self.rate < 0.5 * self.best;
        !self.is_idle(&seen.figures) && self.responded < 0.4 && (is_less || is_queue)
    }
}
