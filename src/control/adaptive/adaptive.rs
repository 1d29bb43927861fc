#[cfg(test)]
pub(crate) mod tests;

use std::{ops::RangeInclusive, time::Duration};

use super::law::{Law, Room};
use crate::control::{
    controller::{Controller, Decision, MAX_LIMIT, Window},
    range::{Range, range_settings},
};

/// The default law of a learned budget. It needs no settings.
///
/// A server has a knee: up to so many requests in flight, more of them bring more answers; past it, they stand in line
/// and bring none. By Little's law (1961) the knee is at `K = X × S`, with `X` the answers a second and `S` the time that
/// a request takes when nobody stands in line. The law keeps those in flight at `K` and a margin, which is as long as
/// chance makes lines (some `√K`). `X` can be seen; `S` cannot, under load. So it is *asked* for:
/// when a line has been standing for a second, the limit comes down to below the knee until the line is gone, and what is
/// admitted then shows `S`. If it is no faster, there was no line: the server is slow, and the limit goes up.
///
/// - **unlimited**: nobody is refused while nothing says that the server is overloaded. It begins so; but where callers leave and hardly
///   one was ever answered, it lets in a few, until some are.
/// - **burst guard**: more are in flight than can be answered in 0.7 s (or 3 × S), or a line stands at the ceiling: that many may be. A
///   burst goes by under it.
/// - **probing**: the line has stood for a second, or answers have vanished because callers leave.
/// - **tracking**: `W`, the latency, tells the line by `X × (W − S)`; the limit moves so that it is as long as the margin.
///   It asks again now and then, at a cost of about 1 % of the throughput.
/// - back to **unlimited**, some 3 s after the last refusal, whether the limit was learned or set by hand: [`max`](Self::max) pins it.
///
/// Places whose answer is out, while its body is sent or its [`Permit`](crate::Permit::responded) kept, are no line: the limit is that many
/// higher. Where sending the body is the work, have it measured: [`Measure::Body`](crate::Measure::Body).
///
/// The project's `docs/adaptive.md` explains it with formulas, figures and pictures, and says where it falls short. It counts a caller who
/// gave up, and an answer that says overload, as one who left; which those are, [`Outcome`](crate::control::controller::Outcome) says.
///
/// ```
/// use loadshed::{Adaptive, Budget};
///
/// let budget = Budget::new(Adaptive::default().initial(64).min(4).max(2_000));
/// assert_eq!(budget.limit(), 64);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Adaptive {
    range: Range,
    law: Law,
    /// What was decided last. If the limit is another now, somebody has set it.
    decided: Option<usize>,
    /// How many are given a place beyond those who wait for their answer, as they have theirs and keep it.
    responded: f64,
    /// That limit, and what it was taken for.
    set: Option<(usize, Room)>,
}

/// More requests than a process has sockets for, by default on Linux.
const CEILING: usize = 1 << 16;

/// How soon a flood is seen: 10 times what a server carries fills a line of 0.1 s meanwhile.
const WINDOW: Duration = Duration::from_millis(10);

impl Default for Adaptive {
    fn default() -> Self {
        Self {
            // One must always run, or nothing would ever be learned again.
            range: Range::new(CEILING, 1, CEILING),
            law: Law::default(),
            decided: None,
            responded: 0.0,
            set: None,
        }
    }
}

impl Adaptive {
    /// Not at every step: each is a change of the limit.
    fn follow_responded(&mut self, responded: f64, waiting: f64) {
        if (responded - self.responded).abs() > (waiting / 16.0).max(1.0) {
            self.responded = responded;
        }
    }

    range_settings!(initial: "the ceiling. It holds until the first answers have come, or enough callers have left without", min: "1", max: "65,536");
}

impl Controller for Adaptive {
    fn limits(&self) -> RangeInclusive<usize> {
        self.range.limits()
    }

    fn initial_limit(&self) -> usize {
        self.range.initial()
    }

    fn window(&self) -> Duration {
        WINDOW
    }

    fn update(&mut self, window: &Window<'_>) -> Decision {
        if self.decided.is_some_and(|decided| decided != window.limit) {
            let room = self.law.set(window);
            self.set = room.map(|room| (window.limit, room));
        }
        let (room, reason) = self.law.update(window);
        let limit = match room {
            // As it was set, and not as rounding would have it.
            room if self.set.is_some_and(|set| set == (window.limit, room)) => window.limit,
            Room::Unchanged => window.limit,
            Room::Unlimited => *self.range.limits().end(),
            // It fits: an `f64` beyond is cut to the largest `usize`.
            Room::For(waiting) => {
                self.follow_responded(window.responded as f64, waiting);
                let wanted = self.law.limit(waiting + self.responded) as usize;
                let limit = self.range.keep(wanted);
                self.law.keep_within((limit < wanted).then_some(limit));
                limit
            }
        };
        self.decided = Some(limit.min(MAX_LIMIT));
        Decision::new(limit, reason)
    }
}
