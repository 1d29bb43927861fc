//! What the law believes of the server.

use tokio::time::Instant;

use super::seen::{Seen, has_left};

use crate::control::{
    average::gain,
    controller::{Outcome, Sample},
};

/// How the server is doing, by what has been seen of it. Times in seconds, rates per second.
#[derive(Clone, Debug)]
pub(crate) struct Estimates {
    /// S: how long a success takes when nobody stands in line.
    pub(crate) service: f64,
    /// How many successes that rests on which were asked for.
    rests_on: f64,
    /// The squared coefficient of variation of that: 0 if all take as long, 1 if exponential.
    pub(crate) variation: f64,
    /// Whether S is what a first look has told, in the midst of a flood or where requests were refused, and was not measured since.
    pub(crate) hasty: bool,
    /// X: successes, lately.
    pub(crate) rate: f64,
    /// The most of that, as long as the server is not seen to do less although it is busy.
    pub(crate) peak: f64,
    /// The most since the last calm.
    pub(crate) best: f64,
    /// How many callers have left whose work may still stand in line.
    pub(crate) left_behind: f64,
    /// How many in flight are usually not worked on at all: those that hang until the caller leaves.
    pub(crate) hung: f64,
    /// Which share of the callers got an answer, of the last 16 or so.
    responded: f64,
    /// Which share of all was no error, likewise.
    told: f64,
    /// How long the last 16 or so answers took, and since when there has been none.
    latency: f64,
    silent: Since,
    /// Which share usually does.
    usual: f64,
    /// How long callers wait: as a setting tells, or as long as they are seen to, at most 1.
    pub(crate) client_timeout: f64,
    is_timeout_told: bool,
    busy: Since,
}

/// The figures of several windows, from a moment on at which what was changed has had its effect.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) since: Option<Instant>,
    pub(crate) elapsed: f64,
    pub(crate) refused: bool,
    pub(crate) successes: f64,
    pub(crate) left: f64,
    pub(crate) completed: f64,
    /// How long all of them have waited together, in seconds.
    waited: f64,
    good: f64,
    latency: f64,
    left_latency: f64,
    squares: f64,
}

/// Since when something has been so, without a break.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Since(Option<Instant>);

/// What has gone on since more are inside than chance brings together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Crowded {
    since: Since,
    /// How long all of them have waited together, in seconds, and how many have ended: lately.
    waited: f64,
    ended: f64,
}

/// How long a line may be for a while, as a part of what callers bear: they should get their answer still.
pub(crate) const BEARABLE: f64 = 0.7;

/// Of service times: a server that is slow by itself is given as much more.
const SLOW: f64 = 3.0;

/// Of service times: who has stood in no line to speak of.
const QUICK: f64 = 1.5;

/// Requests in a line, in standard deviations of the number at work (its square root where times are exponential): with
/// 2, a worker idles for want of requests one time in 40.
const MARGIN: f64 = 2.0;

/// A mean of 16 is within a quarter of the true one two times in three, and of twice as many where times are exponential.
const ENOUGH: f64 = 16.0;

/// Of as many batches of [`enough`](Estimates::enough) a service time is the mean: what chance does to one of them is more than
/// halved.
const REMEMBERED: f64 = 5.0;

/// Of service times, where they are exponential one in 3,000 is longer.
const HANGS: f64 = 8.0;

/// So many answers are missing where none came in a time in which the server has given as many at its best.
const SILENT: f64 = 4.0;

/// So many who hang are not there by chance.
const SOME: f64 = 8.0;

/// Of those who leave sooner it is not the server that they have lost patience with.
const LEFT_SOON: f64 = 3.0;

impl Estimates {
    /// Of what was seen first: a service time, and a rate.
    pub(crate) fn new(service: f64, rate: f64) -> Self {
        Self {
            service,
            rests_on: 0.0,
            // Nothing is known of it: as if exponential.
            variation: 1.0,
            hasty: false,
            rate,
            peak: rate,
            best: rate,
            left_behind: 0.0,
            hung: 0.0,
            responded: 1.0,
            told: 1.0,
            latency: service,
            silent: Since::default(),
            usual: 1.0,
            client_timeout: 1.0,
            is_timeout_told: false,
            busy: Since::default(),
        }
    }

    /// Takes the client timeout from a setting, if there is one.
    pub(crate) fn with_client_timeout(mut self, told: Option<f64>) -> Self {
        if let Some(told) = told {
            (self.client_timeout, self.is_timeout_told) = (told, true);
        }
        self
    }

    pub(crate) fn take_in(&mut self, seen: &Seen, batch: &mut Batch) {
        let ended = seen.successes + seen.left;
        if ended > 0.0 {
            self.responded += gain(ended, ENOUGH) * (seen.successes / ended - self.responded);
        }
        if seen.successes > 0.0 {
            self.latency += gain(seen.successes, ENOUGH) * (seen.mean() - self.latency);
        }
        self.silent.so(seen.successes == 0.0, seen.now);
        if self.is_idle(seen) {
            self.responded = self.usual;
            self.silent = Since::default();
            return;
        }
        let all = ended + seen.errors;
        if all > 0.0 {
            self.told += gain(all, ENOUGH) * (ended / all - self.told);
        }
        let good = seen.completed * self.responded * self.told;
        if seen.elapsed > 0.0 {
            let rate = good / seen.elapsed;
            // Over three service times, as completions come in waves of that length, and over at least 24 of them.
            let most = self.rate.max(rate).max(f64::MIN_POSITIVE);
            let over = (3.0 * self.service).max(24.0 / most).clamp(0.1, 2.0);
            self.rate += gain(seen.elapsed, over) * (rate - self.rate);
        }
        if batch.since.is_none_or(|since| seen.now >= since) {
            batch.take_in(seen, good);
        }
        self.follow_peak(seen);
        self.follow_left_behind(seen);
    }

    /// What callers leave behind is worked off by what the server does beyond what it answers. Who is answered has not stood
    /// behind more than the server does in that time (Little's law); and who is answered quickly, behind nothing: then there
    /// is nothing, or it goes away with the caller.
    fn follow_left_behind(&mut self, seen: &Seen) {
        let ended = seen.successes + seen.left;
        if ended > 0.0 {
            self.left_behind += seen.completed * seen.left / ended;
        }
        if seen.successes > 0.0 {
            let before = match seen.mean() < QUICK * self.service {
                true => 0.0,
                false => self.best * seen.mean(),
            };
            self.left_behind = self.left_behind.min(before);
        }
        let responded = seen.completed * seen.successes / ended.max(1.0);
        let done = (self.best * seen.elapsed - responded).max(0.0);
        self.left_behind = (self.left_behind - done).max(0.0);
    }

    /// Those who left after a long wait tell how long callers wait, where most do, and those who were answered after a longer one. A few
    /// who leave are never made up for by others where all answers are quick.
    pub(crate) fn learn_client_timeout(&mut self, samples: &[Sample]) {
        if self.is_timeout_told {
            return;
        }
        let many = !self.are_answered();
        for sample in samples {
            let waited = sample.latency.as_secs_f64();
            let tells = match sample.outcome {
                Outcome::Success => waited > self.client_timeout,
                _ => many && has_left(sample) && waited > LEFT_SOON * self.service,
            };
            if tells {
                self.client_timeout += 0.05 * (waited.min(1.0) - self.client_timeout);
            }
        }
    }

    /// A peak is forgotten only when the server is busy and does less, for longer than it takes to notice.
    fn follow_peak(&mut self, seen: &Seen) {
        self.peak = self.peak.max(self.rate);
        let notice = (6.0 * self.service)
            .max(32.0 / self.peak.max(1.0))
            .clamp(0.2, 2.0);
        let is_busy = seen.in_flight > self.knee();
        if self.busy.so(is_busy, seen.now) > notice {
            self.peak += gain(seen.elapsed, self.bearable()) * (self.rate - self.peak).min(0.0);
        }
        self.best = self.best.max(self.peak);
    }

    pub(crate) fn forget_best(&mut self) {
        self.best = self.peak;
    }

    /// What is seen of the service time without a question.
    pub(crate) fn guess_service(&mut self, mean: f64, weight: f64) {
        self.service += weight * (mean - self.service);
        self.rests_on = 0.0;
        self.hasty = false;
    }

    /// What a question's answer says of the service time: as long as they agree, it is the mean of the last few.
    pub(crate) fn learn_service(&mut self, batch: &Batch, agrees: bool) {
        let before = if agrees { self.rests_on } else { 0.0 };
        self.rests_on = (before + batch.successes).min(REMEMBERED * self.enough());
        let weight = (batch.successes / self.rests_on).min(1.0);
        self.service += weight * (batch.mean() - self.service);
        self.hasty = false;
    }

    /// What a batch without a line says, each figure by so much.
    pub(crate) fn learn_variation(&mut self, batch: &Batch) {
        self.variation += 0.3 * (batch.variation() - self.variation);
    }

    pub(crate) fn learn_hung(&mut self, batch: &Batch) {
        self.hung += 0.3 * (batch.hung() - self.hung);
    }

    pub(crate) fn learn_usual(&mut self, seen: &Seen) {
        // Over 10 s: longer than any episode that is still without a name.
        self.usual += gain(seen.elapsed, 10.0) * (self.responded - self.usual);
    }

    /// What was unusual is over, or will be judged anew.
    pub(crate) fn expect_the_usual(&mut self) {
        self.responded = self.responded.max(self.usual);
    }

    /// How many are in flight when the server is just busy: Little's law.
    pub(crate) fn knee(&self) -> f64 {
        self.peak * self.service + self.hung
    }

    /// How long a request may take in all, for a while.
    pub(crate) fn bearable(&self) -> f64 {
        (BEARABLE * self.client_timeout).max(SLOW * self.service)
    }

    /// How many may be in flight for a while: what is answered in time, or what chance brings together at the least.
    pub(crate) fn burst(&self) -> f64 {
        (self.peak * self.bearable() + self.hung).max(self.by_chance())
    }

    /// How many chance brings together at the most.
    pub(crate) fn by_chance(&self) -> f64 {
        let working = self.peak * self.service;
        working + 4.0 * working.sqrt() + 4.0 + self.hung
    }

    /// Whether more are inside than can be answered soon. The server has had the time of a request to show what it can do, and
    /// answers a few only.
    pub(crate) fn is_flooded(&self, seen: &Seen, crowded: &Crowded) -> bool {
        let few = |waited, ended| waited > SLOW * self.service * (ended + 1.0);
        seen.in_flight > self.burst()
            && few(seen.in_flight * seen.elapsed, seen.completed)
            && few(crowded.waited, crowded.ended)
            && crowded.since.lasts(seen.now) > self.service + seen.elapsed / 2.0
    }

    /// How many may stand in line for good where so many are at work.
    pub(crate) fn margin(&self, working: f64) -> f64 {
        MARGIN * (working * (1.0 + self.variation) / 2.0).sqrt()
    }

    /// Successes whose mean can be relied upon.
    pub(crate) fn enough(&self) -> f64 {
        ENOUGH * (1.0 + self.variation)
    }

    /// Whether hardly anything was asked for.
    pub(crate) fn is_idle(&self, seen: &Seen) -> bool {
        seen.elapsed > 1.0 + 3.0 * self.service
    }

    /// Whether callers get answers as usual.
    pub(crate) fn are_answered(&self) -> bool {
        self.responded > 0.6 * self.usual
    }

    /// Whether answers fail to come, and those that do are late and few. Where S is hasty and a line has `stood` for some time, that they
    /// fail to come is enough: the midst of a flood may make S many times too long, and by that nothing is late.
    pub(crate) fn vanish(&self, seen: &Seen, stood: f64) -> bool {
        let silent = self.silent.lasts(seen.now) * self.best > SILENT;
        let late = silent || self.latency > 2.0 * self.service;
        let late_and_few = late && self.rate < 0.5 * self.best;
        !self.is_idle(seen)
            && self.responded < 0.4 * self.usual
            && (late_and_few || self.hasty && stood > 0.0)
    }
}

impl Batch {
    pub(crate) fn from(since: Instant) -> Self {
        Self {
            since: Some(since),
            ..Self::default()
        }
    }

    fn take_in(&mut self, seen: &Seen, good: f64) {
        self.elapsed += seen.elapsed;
        self.completed += seen.completed;
        self.waited += seen.in_flight * seen.elapsed;
        self.good += good;
        self.refused |= seen.refused;
        self.successes += seen.successes;
        self.latency += seen.latency;
        self.squares += seen.squares;
        self.left += seen.left;
        self.left_latency += seen.left_latency;
    }

    /// Successes a second.
    pub(crate) fn rate(&self) -> f64 {
        if self.elapsed > 0.0 {
            self.good / self.elapsed
        } else {
            0.0
        }
    }

    /// W: how long a success took.
    pub(crate) fn mean(&self) -> f64 {
        self.latency / self.successes.max(1.0)
    }

    /// Which part of what all have waited is of those who ended: nearly 1 where nothing changes, less where a line has grown.
    pub(crate) fn seen(&self) -> f64 {
        let ended = (self.successes + self.left).max(1.0);
        let each = (self.latency + self.left_latency) / ended;
        self.completed * each / self.waited.max(f64::MIN_POSITIVE)
    }

    fn variation(&self) -> f64 {
        let (mean, count) = (self.mean(), self.successes.max(1.0));
        if mean > 0.0 {
            (self.squares / count / (mean * mean) - 1.0).clamp(0.0, 15.0)
        } else {
            0.0
        }
    }

    /// How many were in flight of those who left: Little's law.
    pub(crate) fn hung(&self) -> f64 {
        let ended = self.successes + self.left;
        if self.elapsed > 0.0 && ended > 0.0 {
            self.completed / self.elapsed * self.left_latency / ended
        } else {
            0.0
        }
    }

    /// Whether those who left waited for what nobody was at work on.
    pub(crate) fn hangs(&self, service: f64) -> bool {
        self.left_latency > HANGS * service * self.left
    }

    /// Whether those are more than a few.
    pub(crate) fn many_hang(&self, service: f64) -> bool {
        self.left >= SOME && self.hangs(service)
    }

    /// After how long those left who did.
    pub(crate) fn waits(&self) -> f64 {
        self.left_latency / self.left.max(1.0)
    }

    /// How long those waited who left, for each one who ended.
    pub(crate) fn waited_in_vain(&self) -> f64 {
        self.left_latency / (self.successes + self.left).max(1.0)
    }

    /// The same for each one who was answered, as Little's law has it; but where those who left may be few that stood in a line
    /// before, so much is not made of them, and never more than if half of all hung.
    pub(crate) fn hung_for_each(&self, service: f64) -> f64 {
        if self.many_hang(service) {
            self.left_latency / self.successes.max(self.left)
        } else {
            self.waited_in_vain()
        }
    }
}

impl Crowded {
    pub(crate) fn take_in(&mut self, seen: &Seen, known: &Estimates) {
        if seen.in_flight <= known.by_chance() {
            *self = Self::default();
        } else if self.since.so(true, seen.now) > 0.0 {
            // What ends in the time of two requests is enough to tell from chance.
            let kept = 1.0 - gain(seen.elapsed, 2.0 * known.service);
            self.waited = kept * self.waited + seen.in_flight * seen.elapsed;
            self.ended = kept * self.ended + seen.completed;
        }
    }
}

impl Since {
    /// Whether it is `so` now. For how long, in seconds.
    pub(crate) fn so(&mut self, so: bool, now: Instant) -> f64 {
        if !so {
            self.0 = None;
            return 0.0;
        }
        self.0.get_or_insert(now);
        self.lasts(now)
    }

    /// For how long it has been so, in seconds.
    fn lasts(&self, now: Instant) -> f64 {
        let since = self.0.unwrap_or(now);
        now.saturating_duration_since(since).as_secs_f64()
    }
}
