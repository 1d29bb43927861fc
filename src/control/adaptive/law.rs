//! What the law does with what it believes.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    estimates::{BEARABLE, Batch, Crowded, Estimates, Since},
    probe::{BELOW, Question, Why},
    ratio::Ratio,
    seen::Seen,
    start::{Learned, Start},
    surge::Surge,
};
use crate::control::{
    average::seconds, controller::Window, overtaking::Known, reason::adaptive as reason,
};

/// How many may be in flight, and why.
pub(crate) type Verdict = (Room, &'static str);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Room {
    /// As many as come.
    Unlimited,
    /// As long as no more than so many wait for their answer.
    For(f64),
    /// As many as now.
    Unchanged,
}

#[derive(Clone, Debug)]
pub(crate) enum Law {
    Starting(Box<Start>, Ratio),
    Running(Box<Running>),
}

#[derive(Clone, Debug)]
pub(crate) struct Running {
    pub(crate) phase: Phase,
    pub(crate) known: Estimates,
    pub(crate) ratio: Ratio,
    /// How many may wait for their answer, where that is limited.
    pub(crate) target: f64,
    /// Whether the ceiling lets in fewer.
    pub(crate) clipped: bool,
    pub(crate) batch: Batch,
    /// Which part of the margin is used: less, where less in flight has brought more answers.
    pub(crate) slack: f64,
    /// The target that the last answer gave.
    pub(crate) verified: f64,
    pub(crate) asked: Option<Instant>,
    /// How long the last question took, in seconds.
    pub(crate) took: f64,
    pub(crate) crowded: Crowded,
    pub(crate) calm: Since,
    pub(crate) standing: Since,
    pub(crate) refused: Option<Instant>,
    pub(crate) surge: Surge,
    /// The longest queue in a flood that its arrivals told, in seconds; and the longest that callers have waited in one.
    pub(crate) queue: Option<f64>,
    pub(crate) waited_out: f64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    /// Nobody is refused.
    Open,
    /// The line is kept to what callers bear: this may be a burst. So many are let in if that is more, for those who are
    /// refused later than others.
    Guard(f64),
    /// The line is let go, to see how long a request takes without it.
    Ask(Question),
    /// The line is kept short.
    Hold,
}

/// A line that stands for so long, in seconds, is no burst.
const STANDS: f64 = 1.0;

/// The first queue of a flood that its arrivals told, in service times: shorter than callers wait as a rule, and longer than most
/// bursts make it.
const QUEUE: f64 = 15.0;

/// Without a refusal for so long, in seconds, an episode is over: well under a minute, and longer than what comes again
/// and again.
const CALM: f64 = 3.0;

/// The least time between two questions, in seconds, and in times of what the last one took: they cost a fifteenth of a
/// fifth of the throughput, or 1.3 %.
const PAUSE: (f64, f64) = (5.0, 15.0);

impl Law {
    /// Starts, with the client timeout that a setting tells, in seconds.
    pub(crate) fn new(client_timeout: Option<f64>) -> Self {
        Self::Starting(Box::new(Start::new(client_timeout)), Ratio::default())
    }

    pub(crate) fn update(&mut self, window: &Window<'_>) -> Verdict {
        match self {
            Self::Running(running) => running.update(window),
            Self::Starting(start, ratio) => {
                ratio.learn(window.samples, window.now);
                let Some(learned) = start.learn(window) else {
                    return match start.room(window) {
                        Some(room) => (Room::For(room), reason::NO_RESPONSES),
                        None => (Room::Unchanged, reason::LEARNING),
                    };
                };
                let overloaded = learned.overloaded;
                let mut running = Running::new(learned, *ratio, window.now);
                let verdict = match overloaded {
                    true => running.begin_guard(&Seen::of(window, 0.0)),
                    false => (Room::Unlimited, reason::UNLIMITED),
                };
                *self = Self::Running(Box::new(running));
                verdict
            }
        }
    }

    /// No more than that is to be had, where the ceiling says so: what is beyond it is not to be believed in.
    pub(crate) fn keep_within(&mut self, limit: Option<usize>) {
        if let Self::Running(running) = self {
            running.clipped = limit.is_some();
            // Places that are kept after the answer are given back some time.
            let most = limit.map_or(f64::INFINITY, |limit| running.ratio.in_flight(limit));
            running.target = running.target.min(most);
            running.verified = running.verified.min(most);
        }
    }

    /// Returns the service time, where it was measured.
    pub(crate) fn known(&self) -> Known {
        match self {
            Self::Running(running) if !running.known.hasty => {
                Known::ServiceTime(running.known.service)
            }
            _ => Known::Nothing,
        }
    }

    /// The limit under which so many may be in flight.
    pub(crate) fn limit(&self, in_flight: f64) -> f64 {
        self.ratio().limit(in_flight)
    }

    /// The same, or one more: so many may be in flight for sure.
    pub(crate) fn limit_that_admits(&self, in_flight: f64) -> f64 {
        self.ratio().limit_that_admits(in_flight)
    }

    fn ratio(&self) -> &Ratio {
        match self {
            Self::Starting(_, ratio) => ratio,
            Self::Running(running) => &running.ratio,
        }
    }
}

impl Running {
    fn new(learned: Learned, ratio: Ratio, now: Instant) -> Self {
        Self {
            phase: Phase::Open,
            known: learned.known,
            ratio,
            target: 0.0,
            clipped: false,
            batch: Batch::from(now),
            slack: 1.0,
            verified: 0.0,
            asked: None,
            took: 0.0,
            crowded: learned.crowded,
            calm: Since::default(),
            standing: Since::default(),
            refused: None,
            surge: Surge::default(),
            queue: None,
            waited_out: 0.0,
        }
    }

    fn begin_guard(&mut self, seen: &Seen) -> Verdict {
        self.target = self.guarded();
        self.enter(Phase::Guard(self.kept(seen)), seen.now);
        self.down()
    }

    fn update(&mut self, window: &Window<'_>) -> Verdict {
        // In half of a service time no request has waited in a queue. Not where S is provisional: it may be far too long.
        let soon = match self.known.hasty {
            true => 0.0,
            false => self.known.service / 2.0,
        };
        let seen = Seen::of(window, soon);
        self.ratio.learn(window.samples, window.now);
        self.known.take_in(&seen, &mut self.batch);
        self.known.learn_client_timeout(window.samples);
        self.surge.take_in(&seen, &self.known);
        if matches!(self.phase, Phase::Open) {
            self.known.forget_best();
        }
        let knee = self.known.knee();
        let worked = seen.in_flight > 0.5 * self.target.min(knee);
        let stood = self.line_stands(&seen);
        let vanished = worked && self.known.vanish(&seen, stood);
        if self.is_calm(&seen) && !matches!(self.phase, Phase::Open) {
            self.known.expect_the_usual();
            self.queue = None;
            self.enter(Phase::Open, seen.now);
            return (Room::Unlimited, reason::RECOVERED);
        }
        match self.phase {
            Phase::Ask(question) => self.listen(question, &seen),
            Phase::Hold if vanished => {
                // The line was too long.
                self.slack = (self.slack / 2.0).max(0.2);
                self.ask(Why::Vanished, self.known.best, &seen)
            }
            _ if vanished => self.ask(Why::Vanished, self.known.best, &seen),
            Phase::Open => self.watch(stood, &seen),
            Phase::Guard(room) => self.guard(room, stood, &seen),
            Phase::Hold => self.hold(&seen),
        }
    }

    /// Whether nobody was refused for a while, and callers get their answers.
    fn is_calm(&mut self, seen: &Seen) -> bool {
        let known = &self.known;
        let knee = known.knee();
        let short = seen.in_flight <= knee + 2.0 * self.slack * known.margin(knee);
        let responded = known.is_idle(seen) || known.are_answered();
        // Long enough that one who is refused at random now and then is not taken for the last one.
        let long = CALM + 3.0 * known.service + 16.0 / known.best.max(1.0);
        let quiet = !seen.refused && responded && short;
        let since = self.calm.so(quiet, seen.now);
        quiet && since + seen.elapsed > long
    }

    /// For how long a line has been standing although requests were refused, in seconds.
    fn line_stands(&mut self, seen: &Seen) -> f64 {
        if seen.refused {
            self.refused = Some(seen.now);
        }
        let known = &self.known;
        let lately = (16.0 / known.best.max(1.0)).max(known.service).max(0.1);
        let pressed = self
            .refused
            .is_some_and(|at| seconds(at, seen.now) < lately);
        let knee = known.knee();
        let line = seen.in_flight > knee + self.slack * known.margin(knee);
        self.standing.so(line && pressed, seen.now)
    }

    fn watch(&mut self, stood: f64, seen: &Seen) -> Verdict {
        self.known.learn_usual(seen);
        self.guess(seen.now);
        let known = &self.known;
        self.crowded.take_in(seen, known);
        if self.surge.is_flood(seen, known) {
            self.queue = Some(self.longest_queue());
            return self.begin_guard(seen);
        }
        // So long that a flow which the server can carry shows in what it answers: as long as one request takes. Below what
        // is borne, a line may stand at the ceiling.
        if stood < known.service && !known.is_flooded(seen, &self.crowded) {
            return (Room::Unlimited, reason::UNLIMITED);
        }
        self.begin_guard(seen)
    }

    /// What is seen of the service time without a question.
    fn guess(&mut self, now: Instant) {
        let (batch, known) = (self.batch, &mut self.known);
        if batch.elapsed > (2.0 * known.service).max(0.5) && batch.successes >= known.enough() {
            let mean = batch.mean();
            // Down at once, up over 20 s: what is seen under load may be a line.
            let weight = if mean < known.service {
                0.3
            } else {
                (batch.elapsed / 20.0).min(0.3)
            };
            let quick = mean <= 2.0 * known.service;
            known.guess_service(mean, weight);
            if quick {
                known.learn_hung(&batch);
                known.learn_variation(&batch);
            }
            self.batch = Batch::from(now);
        }
    }

    fn guard(&mut self, room: f64, stood: f64, seen: &Seen) -> Verdict {
        let (known, batch) = (&self.known, &self.batch);
        let long = 2.0 * known.service;
        let falls = self.falls() && stood > long && batch.elapsed > long;
        if falls || stood > STANDS.max(3.0 * known.service) {
            return self.ask(Why::Standing, known.peak, seen);
        }
        let pressed = self.refused.is_some_and(|at| seconds(at, seen.now) < CALM);
        if !pressed && self.batch.refused {
            self.batch = Batch::from(seen.now);
        } else if !pressed {
            // What was taken for a line may be a slow server.
            self.guess(seen.now);
        }
        self.follow_queue(seen);
        self.target = self.guarded();
        self.phase = Phase::Guard(self.less(room, seen));
        self.down()
    }

    /// How many may be in flight in the guard.
    fn guarded(&self) -> f64 {
        let known = &self.known;
        let Some(queue) = self.queue else {
            return known.burst();
        };
        let rate = known.peak.max(self.surge.rate());
        let queued = rate * queue + known.hung;
        queued.max(known.by_chance()).min(known.burst())
    }

    /// In a flood that its arrivals told, a queue that callers are seen to wait out may grow by half in the time that it takes.
    fn follow_queue(&mut self, seen: &Seen) {
        let Some(queue) = self.queue else { return };
        let (latency, most) = (seen.mean(), BEARABLE * self.known.client_timeout);
        if seen.has_left() {
            self.waited_out = self.waited_out.min(most);
        } else if latency > 0.6 * queue && seen.refused {
            let longer = queue * (1.0 + 0.5 * seen.elapsed / latency).min(1.5);
            self.waited_out = longer.min(most);
        }
        self.queue = Some(self.longest_queue());
    }

    /// The longest queue in seconds. At first in service times, as nothing says how long callers wait.
    fn longest_queue(&self) -> f64 {
        let least = (QUEUE * self.known.service).max(0.02);
        let most = BEARABLE * self.known.client_timeout;
        self.waited_out.max(least).min(most)
    }

    fn hold(&mut self, seen: &Seen) -> Verdict {
        let (batch, known) = (self.batch, &self.known);
        let service = known.service;
        // Where the server did its best, so many would hang.
        let hung = match batch.hangs(service) {
            true => known.hung.max(known.best * batch.waited_in_vain()),
            false => known.hung,
        };
        let recovers = self.target < 0.7 * (known.best * service + hung);
        if recovers
            && batch.refused
            && batch.elapsed >= service
            && batch.successes >= 8.0
            && batch.mean() < 1.2 * service
        {
            self.target *= 1.25;
            self.verified = self.verified.max(self.target);
            self.enter_after(Phase::Hold, seen.now, service);
            return self.verdict(reason::RECOVERING);
        }
        if batch.elapsed < 2.0 * service || batch.successes < known.enough() {
            return self.verdict(reason::TRACKING);
        }
        if !batch.refused {
            // The limit did not bind: nothing can be said of it.
            self.batch = Batch::from(seen.now);
            return self.verdict(reason::TRACKING);
        }
        self.step(&batch, seen)
    }

    /// Towards a line as long as the margin: TCP Vegas (Brakmo and Peterson, 1994) in one step by Little's law.
    fn step(&mut self, batch: &Batch, seen: &Seen) -> Verdict {
        let (rate, service) = (batch.rate(), self.known.service);
        let line = (rate * (batch.mean() - service)).max(0.0);
        let margin = self.margin(rate * service);
        let by = if line < margin / 4.0 {
            margin.max(self.target / 4.0)
        } else {
            margin - line
        };
        // Half-way, as the figures are noisy.
        let mut to = (self.target + by / 2.0).max(self.target / 2.0);
        if self.clipped {
            // It is not the target that binds.
            to = to.min(self.target);
        }
        let due = |at| seconds(at, seen.now) > PAUSE.0.max(PAUSE.1 * self.took);
        if self.asked.is_none_or(due) {
            let below = BELOW * (self.target - line);
            self.ask(Why::Again, rate, seen);
            self.target = self.target.max(below);
            return self.down();
        }
        if self.target - line + margin < self.verified / 2.0 {
            // A line that long, or slower work: W says the same of both.
            return self.ask(Why::Again, rate, seen);
        }
        let settle = if to > self.target { service } else { 0.0 };
        self.target = to;
        self.enter_after(Phase::Hold, seen.now, settle);
        self.verdict(reason::TRACKING)
    }

    /// Whether the server does less than it could.
    pub(crate) fn falls(&self) -> bool {
        self.batch.rate() < 0.7 * self.known.best
    }

    pub(crate) fn margin(&self, working: f64) -> f64 {
        (self.slack * self.known.margin(working)).max(1.0)
    }

    pub(crate) fn verdict(&self, reason: &'static str) -> Verdict {
        (Room::For(self.target), reason)
    }

    pub(crate) fn enter(&mut self, phase: Phase, now: Instant) {
        self.enter_after(phase, now, 0.0);
    }

    /// Judges only what is seen from `settle` seconds on.
    pub(crate) fn enter_after(&mut self, phase: Phase, now: Instant, settle: f64) {
        self.phase = phase;
        self.batch = Batch::from(now + Duration::from_secs_f64(settle));
        self.crowded = Crowded::default();
        self.calm = Since::default();
        self.standing = Since::default();
    }
}
