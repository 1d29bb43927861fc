//! The state machine of the controller: its states, and the transitions between them.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    client_timeout::ClientTimeout,
    crowd::Crowd,
    estimates::Estimates,
    lowest_ratio::LowestRatio,
    observation::{Figures, Observation},
    probe::{Probe, Why},
    startup::Startup,
};
use crate::control::{
    average::{Since, seconds},
    controller::Window,
    reason::adaptive as reason,
};

/// How many requests may be in flight without a response, and why.
pub(crate) type Verdict = (Allowance, &'static str);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Allowance {
    Unlimited,
    Waiting(f64),
    /// As many as now.
    Unchanged,
}

#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) state: State,
    startup: Startup,
    pub(crate) server: Estimates,
    pub(crate) ratio: LowestRatio,
    pub(crate) timeout: ClientTimeout,
    /// How many requests may wait for a response, where that is limited.
    pub(crate) target: f64,
    /// Whether the largest limit admits fewer.
    is_clipped: bool,
    /// The part of the margin that is used: less where the server suffers from the number of requests.
    pub(crate) slack: f64,
    /// The target that the last probe gave.
    pub(crate) verified: f64,
    /// When the last probe was complete, and how long it took, in seconds.
    pub(crate) probed: Option<(Instant, f64)>,
    /// What was seen under the present target.
    pub(crate) batch: Batch,
    crowd: Crowd,
    quiet: Since,
    queued: Since,
    refused: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum State {
    /// Nothing is known yet.
    Learning,
    /// No request is refused.
    Unlimited,
    /// The queue is kept to what callers wait: this may be a burst.
    BurstGuard(Guard),
    /// The limit is lowered until no request is queued, to measure S.
    Probing(Probe),
    /// The queue is kept as short as chance allows.
    Tracking,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard {
    /// In a flood that its arrivals told: the completions per second.
    flood: Option<f64>,
    /// Requests that are refused later than others are admitted up to so many.
    admitted: f64,
}

/// The figures of several windows, from the moment on at which a change has had its effect.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Batch {
    since: Option<Instant>,
    pub(crate) figures: Figures,
}

/// The service time where it is unknown, in seconds.
pub(crate) const UNKNOWN: f64 = 0.1;

/// The queue in a flood, in service times: shorter than callers wait as a rule, and longer than most bursts make it.
const FLOOD_QUEUE: f64 = 15.0;

/// A queue that stands for so long, in seconds, is no burst.
const STANDS: f64 = 1.0;

/// The same in service times.
const STANDS_SERVICES: f64 = 3.0;

/// The time without a refusal after which an episode is over, in seconds: longer than what comes again and again.
const QUIET: f64 = 3.0;

/// The least time between two probes, in seconds, and in times of what the last one took: a fifteenth of the time at four
/// fifths of the throughput is 1.3 % of it.
const PAUSE: (f64, f64) = (5.0, 15.0);

/// The least part of the margin, and how it comes back with each probe.
const LEAST_SLACK: f64 = 0.2;
pub(crate) const SLACK_RETURNS: f64 = 1.1;

/// The part of the best throughput below which something is wrong with the server.
const FALLS: f64 = 0.7;

impl Machine {
    /// Starts, with the client timeout of a setting, in seconds.
    pub(crate) fn new(client_timeout: Option<f64>) -> Self {
        Self {
            state: State::Learning,
            startup: Startup::default(),
            server: Estimates::new(UNKNOWN, 0.0),
            ratio: LowestRatio::default(),
            timeout: ClientTimeout::new(client_timeout),
            target: 0.0,
            is_clipped: false,
            slack: 1.0,
            verified: 0.0,
            probed: None,
            batch: Batch::default(),
            crowd: Crowd::default(),
            quiet: Since::default(),
            queued: Since::default(),
            refused: None,
        }
    }

    /// Returns a machine that knows nothing but the setting.
    pub(crate) fn anew(&self) -> Self {
        Self::new(self.timeout.set)
    }

    pub(crate) fn update(&mut self, window: &Window<'_>) -> Verdict {
        self.ratio.learn(window.samples, window.now);
        if matches!(self.state, State::Learning) {
            return self.learn(window);
        }
        // In half of a service time no request has been queued. Where S is provisional it may be far too long.
        let soon = self.service_time().map_or(0.0, |service| service / 2.0);
        let seen = Observation::of(window, soon);
        self.server.observe(&seen);
        self.timeout.learn(window.samples, &self.server);
        self.server.client_timeout = self.timeout.seconds();
        self.batch.observe(&seen);
        self.crowd.observe(&seen, &self.server);
        if seen.figures.is_refusing() {
            self.refused = Some(seen.now);
        }
        let queued = self.queued_for(&seen);
        if self.has_recovered(&seen) {
            self.server.expect_responses();
            self.enter(State::Unlimited, seen.now);
            return (Allowance::Unlimited, reason::RECOVERED);
        }
        match self.state {
            State::Probing(probe) => self.probe(probe, &seen),
            _ if self.server.has_collapsed(&seen, &self.batch.figures) => {
                if matches!(self.state, State::Tracking) {
                    // The queue was too long for it.
                    self.slack = (self.slack / 2.0).max(LEAST_SLACK);
                }
                self.begin_probe(Why::Collapsed, &seen)
            }
            State::Learning | State::Unlimited => self.watch(queued, &seen),
            State::BurstGuard(guard) => self.guard(guard, queued, &seen),
            State::Tracking => self.track(&seen),
        }
    }

    fn learn(&mut self, window: &Window<'_>) -> Verdict {
        self.timeout.learn(window.samples, &self.server);
        let timeout = self.timeout.seconds();
        let Some(first) = self.startup.observe(window, timeout) else {
            return match self.startup.limit(window) {
                Some(limit) => (Allowance::Waiting(limit), reason::NO_RESPONSES),
                None => (Allowance::Unchanged, reason::LEARNING),
            };
        };
        self.server = first.server;
        self.crowd = Crowd::new(window.waiting() as f64, self.server.peak);
        self.enter(State::Unlimited, window.now);
        match first.is_overloaded {
            true => self.begin_guard(None, &Observation::of(window, 0.0)),
            false => (Allowance::Unlimited, reason::UNLIMITED),
        }
    }

    /// Bounds the target by the largest limit, where that admits fewer.
    pub(crate) fn keep_within(&mut self, limit: Option<usize>) {
        self.is_clipped = limit.is_some();
        let most = limit.map_or(f64::INFINITY, |limit| self.ratio.in_flight(limit));
        self.target = self.target.min(most);
        self.verified = self.verified.min(most);
    }

    /// Returns the state, as operators see it.
    pub(crate) fn state(&self) -> &'static str {
        match self.state {
            State::Learning if self.startup.admits_few() => reason::NO_RESPONSES,
            State::Learning => reason::LEARNING,
            State::Unlimited => reason::UNLIMITED,
            State::BurstGuard(_) => reason::BURST_GUARD,
            State::Probing(_) => reason::PROBING,
            State::Tracking => reason::TRACKING,
        }
    }

    /// Returns what is known about the server, once the first responses have told it.
    pub(crate) fn estimates(&self) -> Option<&Estimates> {
        (!matches!(self.state, State::Learning)).then_some(&self.server)
    }

    /// Returns S in seconds, once a probe or traffic without refusals has shown it.
    pub(crate) fn service_time(&self) -> Option<f64> {
        let server = self.estimates().filter(|server| !server.is_provisional);
        server.map(|server| server.service)
    }

    /// Returns for how long a queue has stood although requests were refused, in seconds.
    fn queued_for(&mut self, seen: &Observation) -> f64 {
        let server = &self.server;
        let lately = (16.0 / server.best.max(1.0)).max(server.service).max(0.1);
        let is_refusing = self
            .refused
            .is_some_and(|at| seconds(at, seen.now) < lately);
        let knee = server.knee();
        let has_queue = seen.waiting > knee + self.margin(knee);
        self.queued.so(has_queue && is_refusing, seen.now)
    }

    /// Returns whether an overload is over: no refusal for a while, and responses as usual.
    fn has_recovered(&mut self, seen: &Observation) -> bool {
        let server = &self.server;
        let responds = server.is_idle(&seen.figures) || server.do_respond();
        let is_quiet = !seen.figures.is_refusing() && responds;
        let quiet = self.quiet.so(is_quiet, seen.now) + seen.figures.elapsed;
        is_quiet && quiet > QUIET + 3.0 * server.service && !matches!(self.state, State::Unlimited)
    }

    fn watch(&mut self, queued: f64, seen: &Observation) -> Verdict {
        self.server.forget_best();
        self.guess_service(seen.now);
        let server = &self.server;
        if self.crowd.is_flood(seen, server) {
            return self.begin_guard(Some(self.crowd.rate()), seen);
        }
        // Below the burst, a queue may stand at the largest limit.
        if queued > server.service || self.crowd.is_too_large(seen, server) {
            return self.begin_guard(None, seen);
        }
        (Allowance::Unlimited, reason::UNLIMITED)
    }

    /// S follows the mean latency: down at once, up over 20 s, as what is seen under load may be a queue.
    fn guess_service(&mut self, now: Instant) {
        let (figures, server) = (&self.batch.figures, &mut self.server);
        if figures.elapsed < (2.0 * server.service).max(0.5) || figures.successes < server.enough()
        {
            return;
        }
        let mean = figures.mean();
        let weight = match mean < server.service {
            true => 0.3,
            false => (figures.elapsed / 20.0).min(0.3),
        };
        if mean <= 2.0 * server.service {
            server.learn_variation(figures);
        }
        server.guess_service(mean, weight);
        self.batch = Batch::from(now);
    }

    fn begin_guard(&mut self, flood: Option<f64>, seen: &Observation) -> Verdict {
        let guard = Guard {
            flood,
            admitted: kept(seen, &self.ratio),
        };
        self.target = self.guarded(flood);
        self.enter(State::BurstGuard(guard), seen.now);
        self.admit_down_to(guard.admitted, reason::BURST_GUARD)
    }

    fn guard(&mut self, mut guard: Guard, queued: f64, seen: &Observation) -> Verdict {
        let service = self.server.service;
        let falls =
            self.throughput_falls() && queued.min(self.batch.figures.elapsed) > 2.0 * service;
        if falls || queued > STANDS.max(STANDS_SERVICES * service) {
            return self.begin_probe(Why::Queue, seen);
        }
        self.target = self.guarded(guard.flood);
        guard.admitted = fewer(guard.admitted, seen, &self.ratio);
        self.state = State::BurstGuard(guard);
        self.admit_down_to(guard.admitted, reason::BURST_GUARD)
    }

    /// Returns how many requests may be in flight in the burst guard.
    fn guarded(&self, flood: Option<f64>) -> f64 {
        let server = &self.server;
        let Some(rate) = flood else {
            return server.burst();
        };
        let queue = (FLOOD_QUEUE * server.service).max(0.02);
        let most = server.in_flight_at(server.peak.max(rate)) + server.peak.max(rate) * queue;
        most.max(server.by_chance()).min(server.burst())
    }

    fn track(&mut self, seen: &Observation) -> Verdict {
        let (figures, server) = (self.batch.figures, &self.server);
        let (service, is_refusing) = (server.service, figures.is_refusing());
        // Far fewer are admitted than the server has completed at its best, and it responds quickly.
        let hanging = match figures.do_hang(service) {
            true => server.best * figures.timed_out_each(),
            false => 0.0,
        };
        let best = server
            .in_flight_at(server.best)
            .max(server.best * service + hanging);
        let recovers = self.target < FALLS * best;
        let is_quick = figures.successes >= 8.0 && figures.mean() < 1.2 * service;
        if recovers && is_refusing && is_quick && figures.elapsed >= service {
            self.target *= 1.25;
            self.verified = self.verified.max(self.target);
            self.enter_after(State::Tracking, seen.now, service);
            return self.verdict(reason::RECOVERING);
        }
        if figures.elapsed < 2.0 * service || figures.successes < server.enough() {
            return self.verdict(reason::TRACKING);
        }
        if !is_refusing {
            // The limit did not bind: nothing can be said of it.
            self.batch = Batch::from(seen.now);
            return self.verdict(reason::TRACKING);
        }
        self.step(&figures, seen)
    }

    /// Moves towards a queue as long as the margin: TCP Vegas (Brakmo and Peterson, 1994) in one step by Little's law.
    fn step(&mut self, figures: &Figures, seen: &Observation) -> Verdict {
        let (rate, service) = (figures.rate(), self.server.service);
        let queue = (rate * (figures.mean() - service)).max(0.0);
        let margin = self.margin(rate * service);
        let is_due =
            |(at, took): (Instant, f64)| seconds(at, seen.now) > PAUSE.0.max(PAUSE.1 * took);
        // A queue of half of the target, or slower work: the latency says the same of both.
        let is_in_doubt = self.target - queue + margin < self.verified / 2.0;
        if is_in_doubt || self.probed.is_none_or(is_due) {
            return self.begin_probe(Why::Again, seen);
        }
        // Half-way, as the figures are noisy.
        let by = (margin - queue) / 2.0;
        // Where the largest limit binds, nothing says that a higher target is right.
        self.target += if self.is_clipped { by.min(0.0) } else { by };
        self.enter(State::Tracking, seen.now);
        self.verdict(reason::TRACKING)
    }

    /// Admits as many requests as the target, or more on the way down to it.
    pub(crate) fn admit_down_to(&self, admitted: f64, reason: &'static str) -> Verdict {
        (Allowance::Waiting(admitted.max(self.target)), reason)
    }

    /// Returns how long the queue may be where so many requests are at work.
    pub(crate) fn margin(&self, working: f64) -> f64 {
        (self.slack * self.server.margin(working)).max(1.0)
    }

    /// Returns whether the server completes less than it can: it suffers from the number of requests.
    pub(crate) fn throughput_falls(&self) -> bool {
        self.batch.figures.rate() < FALLS * self.server.best
    }

    pub(crate) fn verdict(&self, reason: &'static str) -> Verdict {
        (Allowance::Waiting(self.target), reason)
    }

    pub(crate) fn enter(&mut self, state: State, now: Instant) {
        self.enter_after(state, now, 0.0);
    }

    /// Enters a state, and evaluates only what is seen from `settle` seconds on.
    pub(crate) fn enter_after(&mut self, state: State, now: Instant, settle: f64) {
        self.state = state;
        self.batch = Batch::from(now + Duration::from_secs_f64(settle));
        self.quiet = Since::default();
        self.queued = Since::default();
    }
}

impl Batch {
    pub(crate) fn from(since: Instant) -> Self {
        Self {
            since: Some(since),
            figures: Figures::default(),
        }
    }

    fn observe(&mut self, seen: &Observation) {
        if self.since.is_none_or(|since| seen.now >= since) {
            self.figures.add(&seen.figures);
        }
    }
}

/// Returns how many requests of the lowest ratio may be in flight so that requests of the next ratio are admitted as before: the others
/// make way for a probe. 0 where all requests have the same ratio.
pub(crate) fn kept(seen: &Observation, ratio: &LowestRatio) -> f64 {
    let headroom = ratio.headroom();
    if headroom <= 1.0 {
        return 0.0;
    }
    let before = seen.waiting + seen.figures.completed;
    (before / headroom).min(seen.waiting - 1.0).floor()
}

/// Returns the next number on the way down: at a quarter of the pace of the server at the least, whichever requests arrive.
pub(crate) fn fewer(admitted: f64, seen: &Observation, ratio: &LowestRatio) -> f64 {
    (admitted - seen.figures.completed / 4.0).min(kept(seen, ratio))
}
