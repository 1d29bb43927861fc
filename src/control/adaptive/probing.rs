//! A probe: the controller lowers the limit until no request is queued, to measure the service time.

use super::{
    machine::{Batch, Machine, SLACK_RETURNS, State, Verdict, fewer, kept},
    observation::Observation,
    probe::{Probe, Why},
};
use crate::control::reason::adaptive as reason;

/// The part of the knee that leaves no queue for certain.
const BELOW: f64 = 0.8;

/// The same where goodput has collapsed: what callers have left behind is worked off with the other half.
const HALF: f64 = 0.5;

/// With several ratios some requests are admitted above the target: half of what is missing to the knee may be in flight.
const DRAINED: f64 = 1.125;

/// Times as many requests have completed as are in flight, and these have not become a tenth fewer: others have arrived, although all that
/// can be refused are.
const ARRIVED: f64 = 8.0;

/// The part of a throughput or a latency that shows no fall of a fifth: half-way.
const LASTS: f64 = 0.9;

/// The longest evaluation after a collapse because of the client timeout, in seconds: it may be set to an hour.
const LONGEST: f64 = 5.0;

impl Machine {
    /// Begins a probe: the target is lowered to where no request is queued.
    pub(crate) fn begin_probe(&mut self, why: Why, seen: &Observation) -> Verdict {
        let server = &self.server;
        let (rate, part) = match why {
            Why::Queue => (server.peak, BELOW),
            Why::Again => (self.batch.figures.rate(), BELOW),
            Why::Collapsed => (server.best, HALF),
        };
        // S is a guess before the first probe, and may have changed before a later one.
        let least = match why {
            _ if self.probed.is_none() => server.burst().min(seen.waiting / 4.0),
            Why::Again => seen.waiting / 2.0,
            Why::Queue | Why::Collapsed => 1.0,
        };
        self.target = (part * server.in_flight_at(rate)).max(least).max(1.0);
        // By Little's law a queue that has just come is longer than the successes have seen.
        let figures = self.batch.figures;
        let is_half = self.target.floor() <= figures.rate() * figures.mean() / 2.0;
        let probe = Probe {
            why,
            rate,
            took: 0.0,
            admitted: self.kept_in(why, seen),
            is_filled: false,
            is_drained: false,
            fewest: seen.waiting,
            completed: 0.0,
            is_least: false,
            as_slow: match why != Why::Collapsed && is_half {
                true => BELOW * figures.mean(),
                false => f64::INFINITY,
            },
        };
        self.enter(State::Probing(probe), seen.now);
        self.admit_down_to(probe.admitted, reason::PROBING)
    }

    pub(crate) fn probe(&mut self, mut probe: Probe, seen: &Observation) -> Verdict {
        probe.took += seen.figures.elapsed;
        if !probe.is_drained {
            return self.drain(probe, seen);
        }
        self.state = State::Probing(probe);
        let figures = self.batch.figures;
        let latency = figures.mean();
        // After a collapse the first requests to end are few, and the quick ones: all callers have to have had their time.
        let least = match probe.why {
            Why::Collapsed => (2.0 * latency).max(self.server.client_timeout.min(LONGEST)),
            Why::Queue | Why::Again => latency,
        };
        if figures.elapsed < least || figures.ended() < self.server.enough() {
            return self.verdict(reason::PROBING);
        }
        let noise = figures.noise();
        // Of requests that hang, more may time out than succeed. That is no sign of a queue.
        let hang = figures.do_hang(latency);
        let responds = figures.timed_out < figures.successes || hang && figures.successes >= 4.0;
        let agrees = latency < self.server.service * (1.0 + noise);
        let is_as_slow = latency > probe.as_slow;
        if responds && (agrees || is_as_slow || probe.is_least) {
            return self.complete(probe, seen);
        }
        // With half as many requests a queue leaves half of the latency. Where the requests that have ended are few of all, the queue is
        // longer than they have seen, and cannot be told from slow work.
        let half = (HALF / figures.part_ended()).max(HALF);
        probe.as_slow = match responds && (half < BELOW || self.target <= 1.0) {
            true => (half + noise / 2.0).min(BELOW) * latency,
            false => f64::INFINITY,
        };
        // Fewer than one cannot be had.
        probe.is_drained = self.target <= 1.0;
        self.lower(&mut probe, seen);
        self.enter(State::Probing(probe), seen.now);
        self.admit_down_to(probe.admitted, reason::PROBING)
    }

    /// Lowers the target to half.
    fn lower(&mut self, probe: &mut Probe, seen: &Observation) {
        self.target = (self.target / 2.0).max(1.0);
        probe.admitted = self.kept_in(probe.why, seen);
        probe.is_filled = false;
        (probe.fewest, probe.completed) = (seen.waiting, 0.0);
    }

    /// Returns how many requests are admitted at first. A server that completes nothing in time needs fewer at once.
    fn kept_in(&self, why: Why, seen: &Observation) -> f64 {
        match why {
            Why::Collapsed => 0.0,
            Why::Queue | Why::Again => kept(seen, &self.ratio),
        }
    }

    /// Lets the requests in flight be worked off, and the requests that callers gave up.
    fn drain(&mut self, mut probe: Probe, seen: &Observation) -> Verdict {
        let abandoned = self.server.abandoned;
        let most = match self.ratio.headroom() > 1.0 {
            true => self.target.ceil().max((DRAINED * self.target).floor()),
            false => self.target.ceil(),
        };
        probe.admitted = fewer(probe.admitted, seen, &self.ratio);
        probe.completed += seen.figures.completed;
        if seen.waiting < 0.9 * probe.fewest {
            (probe.fewest, probe.completed) = (seen.waiting, 0.0);
        }
        if probe.completed > ARRIVED * probe.fewest {
            probe.is_least = probe.fewest.min(seen.waiting) > most;
            (probe.fewest, probe.completed) = (seen.waiting, 0.0);
        }
        if !probe.is_filled && seen.waiting <= most {
            probe.is_filled = true;
            self.batch = Batch::from(seen.now);
        }
        // What callers leave behind is an estimate. The outcomes of as many requests as the target are none.
        let figures = self.batch.figures;
        let is_known = probe.is_filled && figures.completed > most;
        let responds = figures.successes > figures.timed_out;
        if is_known && figures.successes < 0.1 * figures.timed_out {
            self.lower(&mut probe, seen);
            probe.as_slow = f64::INFINITY;
            self.state = State::Probing(probe);
            return self.admit_down_to(probe.admitted, reason::PROBING);
        }
        probe.is_drained =
            probe.is_least || seen.waiting + abandoned <= most || is_known && responds;
        self.state = State::Probing(probe);
        if probe.is_drained {
            let settle = 2.0 * self.server.service;
            self.enter_after(State::Probing(probe), seen.now, settle);
        }
        self.admit_down_to(probe.admitted, reason::PROBING)
    }

    /// The latency seen now is the service time.
    fn complete(&mut self, probe: Probe, seen: &Observation) -> Verdict {
        let figures = self.batch.figures;
        let noise = figures.chance().max(0.1);
        let (latency, service) = (figures.mean(), self.server.service);
        // A queue would have kept the workers busy: with a fifth less in flight, throughput falls by a fifth without it.
        let lasts = probe.why == Why::Again
            && figures.is_refusing()
            && figures.rate() > LASTS * probe.rate
            && latency < LASTS * service;
        let is_shorter = lasts || latency < service * (1.0 - noise);
        let rate = match probe.why {
            Why::Collapsed => figures.rate(),
            Why::Queue | Why::Again => probe.rate.max(figures.rate()),
        };
        let server = &mut self.server;
        server.measure(&figures);
        // S was too long, and so was the target: there may be a queue still.
        if is_shorter && self.target > 1.0 && !probe.is_least {
            return self.begin_probe(Why::Again, seen);
        }
        let working = server.in_flight_at(rate);
        if probe.why == Why::Again {
            self.slack = (self.slack * SLACK_RETURNS).min(1.0);
        }
        self.target = working + self.margin(working);
        self.verified = self.target;
        self.probed = Some((seen.now, probe.took));
        let settle = self.server.service;
        self.enter_after(State::Tracking, seen.now, settle);
        self.verdict(reason::PROBE_COMPLETE)
    }
}
