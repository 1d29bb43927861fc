//! The events of a simulation.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use crate::{
    arrivals::Arrival,
    random::{Draw, nanos},
    scenario::{callers::Callers, scenario::Scenario},
    station::{CallId, Nanos},
};

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    Tick,
    NextPhase,
    /// A station finishes a call.
    Finish {
        instance: usize,
        station: usize,
    },
    Timeout(CallId),
    /// The dependency has responded, and a station takes the call.
    StartService(Work),
    /// The response of a call that needs no worker, or fails; or the end of its body.
    Complete(CallId),
    /// A disturbance of the workers of a kind begins.
    Disturb {
        kind: usize,
    },
    /// The workers of a kind are as many as before again.
    Restore {
        kind: usize,
        phase: usize,
    },
    /// A refused caller retries.
    Retry(Attempt),
    Arrival(Draw),
}

/// A call for a station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Work {
    pub(crate) call: CallId,
    pub(crate) instance: usize,
    pub(crate) station: usize,
    pub(crate) service: Nanos,
}

/// One attempt of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Attempt {
    pub(crate) draw: Draw,
    pub(crate) phase: usize,
    /// The number of retries that are left.
    pub(crate) left: u32,
}

/// The events to come. Events that are in order anyway are kept outside of the heap: one heap for all events takes as long as
/// everything else together.
#[derive(Debug)]
pub(crate) struct EventQueue {
    pub(crate) tick: Nanos,
    pub(crate) end_of_phase: Nanos,
    pub(crate) arrival: Option<Arrival>,
    /// The timeouts of callers, in order, by client timeout. Some calls complete before.
    timeouts: Vec<Timeouts>,
    others: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    added: u64,
}

/// The timeouts of all callers with the same client timeout.
#[derive(Debug)]
struct Timeouts {
    timeout: Nanos,
    ends: VecDeque<(Nanos, CallId)>,
}

impl EventQueue {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let both = |callers: &Callers| {
            let short = callers.short_timeout.map(|(_, timeout)| timeout);
            [Some(callers.timeout), short]
        };
        let timeouts = scenario.kinds.iter().flat_map(|kind| both(&kind.callers));
        let mut timeouts: Vec<Duration> = timeouts.flatten().collect();
        timeouts.sort_unstable();
        timeouts.dedup();
        let queue = |timeout| Timeouts {
            timeout: nanos(timeout),
            ends: VecDeque::new(),
        };
        Self {
            tick: 0,
            end_of_phase: 0,
            arrival: None,
            timeouts: timeouts.into_iter().map(queue).collect(),
            others: BinaryHeap::new(),
            added: 0,
        }
    }

    /// Returns the next event, given the next completion of a station. Of several events at the same time, the order of the
    /// checks below decides. A tick, the end of a phase and a completion stay until they are scheduled anew.
    pub(crate) fn next(
        &mut self,
        finish: Option<(Nanos, Event)>,
        is_waiting: impl Fn(CallId) -> bool,
    ) -> (Nanos, Event) {
        let mut next = match self.tick <= self.end_of_phase {
            true => (self.tick, Event::Tick),
            false => (self.end_of_phase, Event::NextPhase),
        };
        let mut earlier = |at: Nanos, event: Event| {
            if at < next.0 {
                next = (at, event);
            }
        };
        if let Some((at, event)) = finish {
            earlier(at, event);
        }
        for Timeouts { ends, .. } in &mut self.timeouts {
            while let Some(&(at, call)) = ends.front() {
                if is_waiting(call) {
                    earlier(at, Event::Timeout(call));
                    break;
                }
                ends.pop_front();
            }
        }
        let mut is_other = false;
        if let Some(Reverse((at, _, event))) = self.others.peek() {
            is_other = *at < next.0;
            if is_other {
                next = (*at, *event);
            }
        }
        match self.arrival {
            Some(Arrival { at, draw }) if at < next.0 => next = (at, Event::Arrival(draw)),
            _ if is_other => {
                self.others.pop();
            }
            _ => {}
        }
        next
    }

    pub(crate) fn schedule(&mut self, at: Nanos, event: Event) {
        self.added += 1;
        let nth = self.added;
        self.others.push(Reverse((at, nth, event)));
    }

    /// Schedules the timeout of a caller whose call arrives now.
    pub(crate) fn schedule_timeout(&mut self, now: Nanos, call: CallId, timeout: Nanos) {
        let of = |queue: &&mut Timeouts| queue.timeout == timeout;
        let queue = self.timeouts.iter_mut().find(of);
        let queue = queue.expect("the queues have the timeouts of all callers");
        queue.ends.push_back((now.saturating_add(timeout), call));
    }
}
