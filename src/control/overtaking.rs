//! Requests that later ones have overtaken.
//!
//! No request passes another in a queue. So a request in flight that was overtaken many times, and is many times as old as the
//! requests that overtook it, is in no queue: it is slow by design (a long poll, an export), it never completes, or it waits for its
//! client. It is *held*: it takes no capacity from the others, and the limit is to be higher by it.
//!
//! Requests are not told apart one by one. Past moments are marked, and a mark knows how many requests that were admitted until
//! then are still in flight, and how many were admitted after it and have succeeded.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::{
    average::{gain, seconds},
    controller::{Outcome, Sample, Window},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Overtaking {
    /// Oldest first. Old marks are further apart: some 40 of them reach back for two minutes.
    marks: VecDeque<Mark>,
    /// Requests that have completed and are in no sample yet: only a part of them is measured.
    owed: f64,
    /// The youngest mark that was ever overtaken. A request that is held once is held to its end.
    held: Option<Mark>,
    /// The requests in flight that have not responded, and the held ones of them, as of the latest window.
    waiting: f64,
    in_flight: f64,
    /// Requests found to be held, per second.
    inflow: f64,
    /// The mean latency of the last 16 or so successes that were not held, in seconds.
    recent: f64,
    /// The samples of a window by the mark that they were admitted after: kept for its memory.
    ended: Vec<Ended>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Instant,
    /// The requests that were admitted until then and are in flight.
    in_flight: f64,
    /// The requests that were admitted later and have succeeded.
    later: Successes,
}

#[derive(Clone, Copy, Debug, Default)]
struct Successes {
    count: f64,
    /// The sum, in seconds.
    latency: f64,
}

/// Requests that were admitted between two marks and have ended in a window.
#[derive(Clone, Copy, Debug, Default)]
struct Ended {
    count: f64,
    successes: Successes,
}

/// The held requests, as far as a window shows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    /// Held requests in flight.
    pub(crate) in_flight: f64,
    /// Requests that will be found to be held, and are not yet: as many as arrive in the time that it takes.
    pub(crate) expected: f64,
    /// Held requests that have ended in the window.
    pub(crate) completed: f64,
    /// Requests admitted in the window.
    pub(crate) admitted: f64,
    /// Requests that were admitted until then are held.
    until: Option<Instant>,
}

impl Held {
    pub(crate) fn is_held(&self, sample: &Sample) -> bool {
        is_held(sample, self.until)
    }
}

fn is_held(sample: &Sample, until: Option<Instant>) -> bool {
    until.is_some_and(|until| sample.admitted_at <= until)
}

/// The later successes that overtake: 16 are no chance. Where they were as quick as without a queue, 4 are none.
const OVERTAKERS: f64 = 16.0;
const QUICK_OVERTAKERS: f64 = 4.0;

/// Overtakers are quick below this mean latency, in service times.
const QUICK: f64 = 2.0;

/// The age of a held request, in service times above the latency of the others: a queue makes its requests older by as much as
/// the requests behind them. Where the service time is unknown, in latencies of the others.
const OLD: f64 = 8.0;

/// The least age of a held request, in latencies of the others. On a shared processor large requests are overtaken by small ones,
/// and take capacity all the same.
const LONGER: f64 = 2.5;

/// The weight of a success is 1 in so many.
const RECENT: f64 = 16.0;

/// Each mark is at least so many times as old as the next but one.
const APART: f64 = 1.3;

/// The least time between two marks, in seconds: no request that is held for less matters.
const NEXT: f64 = 0.02;

/// The age at which a mark is dropped, in seconds. A request of that age was found to be held long before.
const OLDEST: f64 = 120.0;

/// The longest time over which the inflow is averaged, in seconds.
const INFLOW_OVER: f64 = 10.0;

impl Overtaking {
    /// Takes a window in. `service` is the service time in seconds, where it was measured. No request is held that is younger than
    /// `fence` seconds.
    pub(crate) fn observe(
        &mut self,
        window: &Window<'_>,
        service: Option<f64>,
        fence: f64,
    ) -> Held {
        let waiting = window.waiting() as f64;
        let until = self.held.map(|mark| mark.at);
        let admitted = waiting - self.waiting + window.completed as f64;
        self.waiting = waiting;
        let completed = self.take_samples(window, waiting, admitted > 0.0);
        let overtaken = |mark: &&Mark| self.is_overtaken(mark, window.now, service, fence);
        let youngest = self.marks.iter().rev().find(overtaken).copied();
        if let Some(mark) = youngest
            && self.held.is_none_or(|held| held.at <= mark.at)
        {
            self.held = Some(mark);
        }
        let (in_flight, age) = self.held.map_or((0.0, 0.0), |mark| {
            let age = seconds(mark.at, window.now);
            (mark.in_flight.clamp(0.0, waiting), age.min(INFLOW_OVER))
        });
        let elapsed = window.elapsed.as_secs_f64();
        if elapsed > 0.0 {
            // A negative figure makes up for chance in the windows before.
            let found = in_flight - self.in_flight + completed;
            self.inflow += gain(elapsed, age.max(1.0)) * (found / elapsed - self.inflow);
        }
        self.in_flight = in_flight;
        self.mark(window.now, waiting);
        // Little's law, and a standard deviation. Never all: some of the others may be in a queue.
        let expected = (self.inflow * age).max(0.0);
        let expected = (expected + expected.sqrt()).min(0.9 * (waiting - in_flight));
        Held {
            in_flight,
            expected,
            completed,
            admitted,
            until,
        }
    }

    /// Returns how many of the requests in flight are at least `age` seconds old, or fewer than that.
    pub(crate) fn older(&self, now: Instant, age: f64) -> f64 {
        let mut marks = self.marks.iter().rev();
        let mark = marks.find(|mark| seconds(mark.at, now) >= age);
        mark.map_or(0.0, |mark| mark.in_flight)
    }

    fn is_overtaken(&self, mark: &Mark, now: Instant, service: Option<f64>, fence: f64) -> bool {
        let mean = mark.later.latency / mark.later.count.max(1.0);
        let others = mean.max(self.recent);
        let (overtakers, age) = match service {
            Some(service) => {
                let is_quick = mean < QUICK * service;
                let age = others + (OLD - 1.0) * service;
                let overtakers = if is_quick {
                    QUICK_OVERTAKERS
                } else {
                    OVERTAKERS
                };
                (overtakers, age.max(LONGER * self.recent))
            }
            None => (OVERTAKERS, OLD * others),
        };
        mark.later.count >= overtakers && seconds(mark.at, now) > age.max(fence)
    }

    /// Takes the samples of a window in. Returns how many of the requests that have completed were held.
    ///
    /// While none is admitted, only the slow requests are left to end: they say nothing about the latency of the others.
    fn take_samples(&mut self, window: &Window<'_>, waiting: f64, is_admitting: bool) -> f64 {
        self.owed += window.completed as f64;
        if window.samples.is_empty() {
            return 0.0;
        }
        let each = std::mem::take(&mut self.owed) / window.samples.len() as f64;
        let until = self.held.map(|mark| mark.at);
        let mut held = 0.0;
        self.ended.clear();
        self.ended.resize(self.marks.len() + 1, Ended::default());
        for sample in window.samples {
            let after = self
                .marks
                .partition_point(|mark| mark.at < sample.admitted_at);
            let ended = &mut self.ended[after];
            ended.count += each;
            let was_held = is_held(sample, until);
            if was_held {
                held += each;
            }
            if sample.outcome == Outcome::Success {
                let latency = sample.latency.as_secs_f64();
                ended.successes.count += each;
                ended.successes.latency += each * latency;
                if !was_held && is_admitting {
                    let is_first = self.recent == 0.0;
                    let weight = if is_first {
                        1.0
                    } else {
                        (each / RECENT).min(0.5)
                    };
                    self.recent += weight * (latency - self.recent);
                }
            }
        }
        if let Some(mark) = &mut self.held {
            mark.in_flight -= held;
        }
        let mut earlier = 0.0;
        for (mark, ended) in self.marks.iter_mut().zip(&self.ended) {
            earlier += ended.count;
            mark.in_flight -= earlier;
        }
        // From the youngest mark back: no mark has more in flight than the next one. An error of the estimate counts for a queue.
        let (mut most, mut later) = (waiting, Successes::default());
        for (mark, ended) in self.marks.iter_mut().zip(&self.ended[1..]).rev() {
            later.count += ended.successes.count;
            later.latency += ended.successes.latency;
            mark.later.count += later.count;
            mark.later.latency += later.latency;
            most = mark.in_flight.clamp(0.0, most);
            mark.in_flight = most;
        }
        held
    }

    fn mark(&mut self, now: Instant, in_flight: f64) {
        let age = |mark: &Mark| seconds(mark.at, now);
        if self.marks.back().is_some_and(|mark| age(mark) < NEXT) {
            return;
        }
        if self.marks.front().is_some_and(|mark| age(mark) > OLDEST) {
            self.marks.pop_front();
        }
        // As a mark comes, a mark goes that is close to both of its neighbours.
        let last = self.marks.len().saturating_sub(1);
        let is_close = |&nth: &usize| age(&self.marks[nth - 1]) < APART * age(&self.marks[nth + 1]);
        if let Some(nth) = (1..last).rev().find(is_close) {
            self.marks.remove(nth);
        }
        self.marks.push_back(Mark {
            at: now,
            in_flight,
            later: Successes::default(),
        });
    }
}
