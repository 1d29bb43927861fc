//! How the law asks for the service time: less and less is let in, until there is no line.

use super::{
    estimates::Batch,
    law::{Phase, Room, Running, Verdict},
    probe::{BELOW, Question, Why},
    seen::Seen,
};
use crate::control::reason::adaptive as reason;

/// Where some are let in above the target: half of what is missing to the knee may still be inside.
const DRAINED: f64 = 1.125;

/// Half-way between what that makes of the throughput of a server without a line, and of one with.
const HELD: f64 = 0.9;

/// Times as many have finished as are inside, and these have not become a tenth fewer: others have come, although all that can
/// be refused are.
const CAME: f64 = 8.0;

/// A quarter less throughput is no chance, and not what a line leaves of it. Half as many in flight without a line are half of it, a
/// fifth less are four fifths: that much is for the latency to tell.
const FELL: f64 = 0.75;

impl Running {
    /// Begins a question: the target comes down to where there is no line.
    pub(crate) fn ask(&mut self, why: Why, rate: f64, seen: &Seen) -> Verdict {
        let known = &self.known;
        let busy = rate * known.service + known.hung;
        let guess = self.asked.is_none();
        let borne = known.burst().min(seen.in_flight / 4.0);
        self.target = match why {
            // What was left behind has to be worked off first. Of a guess, no less than what is answered while they wait.
            Why::Vanished if guess => {
                let soon = rate * self.batch.waits() / 4.0;
                (busy / 2.0).max(soon.min(borne))
            }
            Why::Vanished => busy / 2.0,
            _ if guess => (BELOW * busy).max(borne),
            // It may have changed.
            Why::Again => (BELOW * busy).max(seen.in_flight / 2.0),
            Why::Standing => BELOW * busy,
        };
        self.target = self.target.max(1.0);
        // Down to half at once, it is seen at once whether latency goes with it: of a line, no more than half is left. One that has
        // just come is longer than those found who are answered now (Little's law). Where answers have vanished, those who are
        // answered are not those who wait.
        let line = match why {
            Why::Again => seen.in_flight,
            Why::Standing => self.batch.rate() * self.batch.mean(),
            Why::Vanished => 0.0,
        };
        let is_far = self.target.floor() <= line / 2.0;
        let as_slow = if is_far && self.batch.successes >= known.enough() {
            BELOW * self.batch.mean()
        } else {
            f64::INFINITY
        };
        let question = Question {
            why,
            rate,
            took: 0.0,
            // A server that is crowded, or works for nobody, keeps nobody's place.
            room: match why {
                Why::Again => self.kept(seen),
                Why::Standing if !self.falls() => self.kept(seen),
                Why::Standing | Why::Vanished => 0.0,
            },
            filled: false,
            drained: false,
            inside: seen.in_flight,
            finished: 0.0,
            least: false,
            as_slow,
        };
        self.enter(Phase::Ask(question), seen.now);
        self.down()
    }

    /// So many that those who are refused later than others are let in as before, and the others make room for the question.
    /// 0 where all are refused at once.
    pub(crate) fn kept(&self, seen: &Seen) -> f64 {
        let headroom = self.ratio.headroom();
        if headroom <= 1.0 {
            return 0.0;
        }
        let before = seen.in_flight + seen.completed;
        (before / headroom).min(seen.in_flight - 1.0).floor()
    }

    /// As many as the target, or more on the way down to it.
    pub(crate) fn down(&self) -> Verdict {
        let (room, reason) = match self.phase {
            Phase::Guard(room) => (room, reason::BURST_GUARD),
            Phase::Ask(question) => (question.room, reason::PROBING),
            Phase::Open | Phase::Hold => (0.0, reason::PROBING),
        };
        (Room::For(room.max(self.target)), reason)
    }

    /// The next room on the way down: at a quarter of the pace of the server at the least, whoever comes.
    pub(crate) fn less(&self, room: f64, seen: &Seen) -> f64 {
        (room - seen.completed / 4.0).min(self.kept(seen))
    }

    pub(crate) fn listen(&mut self, mut question: Question, seen: &Seen) -> Verdict {
        question.took += seen.elapsed;
        let service = self.known.service;
        if !question.drained {
            return self.drain(question, seen);
        }
        self.phase = Phase::Ask(question);
        let (batch, again) = (self.batch, question.why == Why::Again);
        let latency = batch.mean();
        let long = match question.why {
            Why::Vanished => (2.0 * latency).max(self.known.client_timeout),
            _ => latency,
        };
        let enough = self.known.enough() / if again { 1.0 } else { 2.0 };
        if batch.elapsed < long || batch.successes + batch.left < enough {
            return self.verdict(reason::PROBING);
        }
        let noise = (2.0 / batch.successes.max(1.0).sqrt()).max(0.15);
        // Of those who hang, more may leave than others are answered: they are no sign of a line, if a few answers say so.
        let hang = batch.successes >= 4.0 && batch.hangs(latency);
        let responded = batch.left < batch.successes || hang;
        // A hasty S is nothing to agree with once fewer in flight bring more answers than before, and by more than chance.
        let contradicts = self.known.hasty && batch.rate() > question.rate * (1.0 + noise);
        let agrees =
            !contradicts && latency < service * (1.0 + if again { noise } else { noise.min(0.4) });
        // Half as many in flight, and as slow: that is not a line.
        let lasts = latency > question.as_slow;
        // A line would have kept the workers busy.
        let fell = again && batch.refused && batch.rate() < FELL * question.rate;
        let is_told = agrees || lasts || question.least;
        if responded && (is_told || fell) {
            if !is_told {
                // The server may do less than before. If it does not, it recovers step by step.
                question.rate = batch.rate();
            }
            return self.answer(question, seen);
        }
        // What half as many leave of the latency of those who ended, if it is a line: where these are few of those inside, a longer one
        // than they have seen, and it cannot be told from slow work. Fewer than one cannot be had.
        let least = self.target <= 1.0;
        let half = (0.5 / batch.seen()).max(0.5);
        question.as_slow = match responded && (half < BELOW || least) {
            true => (half + noise / 2.0).min(BELOW) * latency,
            false => f64::INFINITY,
        };
        question.drained = least;
        self.lower(&mut question, seen);
        if question.why != Why::Vanished && !question.drained {
            question.room = self.kept(seen);
        }
        self.enter(Phase::Ask(question), seen.now);
        self.down()
    }

    /// Lets what is inside be worked off, and what callers have left behind.
    fn drain(&mut self, mut question: Question, seen: &Seen) -> Verdict {
        let behind = self.known.left_behind;
        let (batch, most) = (&self.batch, self.target.ceil());
        if question.filled && batch.completed > 2.0 * most && batch.successes < 0.1 * batch.left {
            // Hardly one of these was answered: there is more left behind than was thought, or callers bear less.
            self.lower(&mut question, seen);
            question.filled = false;
        } else if !question.filled && seen.in_flight.max(behind) <= most {
            question.filled = true;
            self.batch = Batch::from(seen.now);
        }
        question.room = self.less(question.room, seen);
        let most = match self.ratio.headroom() > 1.0 {
            true => self.target.ceil().max((DRAINED * self.target).floor()),
            false => self.target.ceil(),
        };
        let responded = self.batch.left < self.batch.successes;
        question.finished += seen.completed;
        if seen.in_flight < 0.9 * question.inside {
            question.inside = seen.in_flight;
            question.finished = 0.0;
        }
        if question.finished > CAME * question.inside {
            question.least = question.inside.min(seen.in_flight) > most;
            question.inside = seen.in_flight;
            question.finished = 0.0;
        }
        question.drained = question.least
            || seen.in_flight + behind <= most
            // Those who leave soon leave ever more behind; but so many who came since were answered.
            || question.filled && responded && self.batch.completed > 4.0 * most;
        if question.drained {
            let settle = 2.0 * self.known.service;
            self.enter_after(Phase::Ask(question), seen.now, settle);
        } else {
            self.phase = Phase::Ask(question);
        }
        if behind > self.target {
            // Some, as their answers would show that nothing was left behind.
            return (Room::For((self.target / 4.0).max(1.0)), reason::PROBING);
        }
        self.down()
    }

    /// To half of the target.
    fn lower(&mut self, question: &mut Question, seen: &Seen) {
        self.target = (self.target / 2.0).max(1.0);
        question.room = 0.0;
        question.inside = seen.in_flight;
        question.finished = 0.0;
    }

    /// The latency seen now is the service time.
    fn answer(&mut self, question: Question, seen: &Seen) -> Verdict {
        let (batch, known) = (self.batch, &mut self.known);
        let (latency, rate, service) = (batch.mean(), batch.rate(), known.service);
        // A flood at the start takes long to drain. That is no measure of the next one.
        let took = match question.why {
            Why::Vanished if known.hasty => 0.0,
            _ => question.took,
        };
        let noise = 2.0 / batch.successes.sqrt();
        known.learn_variation(&batch);
        let again = question.why == Why::Again;
        let agrees = again && (latency / service - 1.0).abs() < noise.max(0.15);
        known.learn_service(&batch, agrees);
        let best = question.rate.max(rate);
        // With a fifth less in flight than it takes, throughput falls by a fifth. Where it did not, there was a line still.
        let held =
            again && batch.refused && rate > HELD * question.rate && latency < HELD * service;
        let shorter = held || latency < service * (1.0 - noise.max(0.1));
        if shorter && self.target > 1.0 && !question.least {
            return self.ask(question.why.or_again(), best, seen);
        }
        if again && rate > question.rate * (1.0 + noise) {
            self.slack = (self.slack / 2.0).max(0.2);
        } else if again && rate < 0.95 * question.rate {
            self.slack = (self.slack * 1.1).min(1.0);
        }
        let rate = match question.why {
            Why::Vanished => rate,
            _ => best,
        };
        known.hung = match again && batch.many_hang(latency) {
            // Those who leave now came before the question, when more were answered; but no more than if half of all hung.
            true => batch.hung().min(rate * batch.waits()),
            false => rate * batch.hung_for_each(latency),
        };
        known.expect_the_usual();
        let working = rate * known.service + known.hung;
        self.target = working + self.margin(working);
        self.verified = self.target;
        self.asked = Some(seen.now);
        self.took = took;
        self.enter_after(Phase::Hold, seen.now, self.known.service);
        self.verdict(reason::PROBE_COMPLETE)
    }
}
