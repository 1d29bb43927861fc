//! Callers and servers at one time, and what comes next.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    future::Future,
    hash::{BuildHasherDefault, Hasher},
    pin::pin,
    rc::Rc,
    time::Duration,
};

use loadshed::Budget;

use crate::{
    arrivals::Arrival,
    instance::{Admitted, HandlerLink, Instance, context},
    options::{Lab, Through},
    random::{Chance, Draw, nanos},
    report::Report,
    scenario::{Phase, Scenario, Waits},
    station::{Call, Nanos, Work},
};

pub(crate) struct World<'a> {
    scenario: &'a Scenario,
    now: Nanos,
    instances: Vec<Instance>,
    callers: HashMap<Call, Caller, BuildHasherDefault<ByNumber>>,
    link: Rc<HandlerLink>,
    called: Call,
    patience: Chance,
    phase: usize,
    began: Nanos,
    /// What the calls cost that are inside.
    units: usize,
    /// Whether anybody looks at the clock.
    has_clock: bool,
    agenda: Agenda,
    pub(crate) report: Report,
}

/// What follows the last of the calls that a world is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Then {
    GoesOn,
    Ends,
}

/// What is to come. Each kind has a place of its own where it is in order anyway, as one heap for all of them takes as
/// long as everything else together.
#[derive(Debug)]
struct Agenda {
    tick: Nanos,
    end_of_phase: Nanos,
    arrival: Option<Arrival>,
    /// When the usual and when the impatient callers leave. Some have been answered by then.
    leave: [VecDeque<(Nanos, Call)>; 2],
    others: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    added: u64,
}

/// One who has been admitted and waits.
struct Caller {
    admitted: Admitted,
    try_: Try,
    since: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Tick,
    NextPhase,
    Finish {
        instance: usize,
    },
    GiveUp(Call),
    /// The dependency has answered.
    Begin {
        call: Call,
        instance: usize,
        service: Nanos,
    },
    /// A refused caller tries again.
    Again(Try),
    Arrival(Draw),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Try {
    draw: Draw,
    phase: usize,
    left: u32,
}

/// Calls are numbered, so their numbers are spread well enough by one multiplication.
#[derive(Debug, Default)]
struct ByNumber(u64);

/// How often the limit is looked at.
const TICK: Nanos = 100_000_000;

impl<'a> World<'a> {
    pub(crate) fn new(
        lab: Lab,
        scenario: &'a Scenario,
        budget: &mut dyn FnMut() -> Budget,
    ) -> Self {
        let lab = lab.for_scenario(scenario);
        let link = Rc::default();
        let instances = (0..scenario.instances)
            .map(|_| Instance::new(scenario, budget(), lab, &link))
            .collect();
        let mut world = Self {
            scenario,
            now: 0,
            instances,
            callers: HashMap::default(),
            link,
            called: 0,
            patience: Chance::new(!lab.seed),
            phase: 0,
            began: 0,
            units: 0,
            has_clock: lab.through == Through::Layer,
            agenda: Agenda {
                tick: 0,
                end_of_phase: 0,
                arrival: None,
                leave: Default::default(),
                others: BinaryHeap::new(),
                added: 0,
            },
            report: Report::new(scenario),
        };
        if !scenario.phases.is_empty() {
            world.begin_phase();
        }
        world
    }

    /// Goes on to the last of `arrivals`, or to the end.
    pub(crate) fn run(&mut self, mut arrivals: impl Iterator<Item = Arrival>, then: Then) {
        self.agenda.arrival = arrivals.next();
        while self.phase < self.scenario.phases.len() {
            if self.agenda.arrival.is_none() && then == Then::GoesOn {
                return;
            }
            let (at, event) = self.next();
            self.advance(at);
            self.handle(event);
            if matches!(event, Event::Arrival(_)) {
                self.agenda.arrival = arrivals.next();
            }
        }
    }

    /// What comes next. Of two things at once, the one that is first here.
    fn next(&mut self) -> (Nanos, Event) {
        let Agenda {
            tick, end_of_phase, ..
        } = self.agenda;
        let mut next = match tick <= end_of_phase {
            true => (tick, Event::Tick),
            false => (end_of_phase, Event::NextPhase),
        };
        let mut or = |at: Nanos, event: Event| {
            if at < next.0 {
                next = (at, event);
            }
        };
        for (instance, place) in self.instances.iter().enumerate() {
            if let Some(at) = place.finish {
                or(at, Event::Finish { instance });
            }
        }
        for line in &mut self.agenda.leave {
            while let Some(&(at, call)) = line.front() {
                if self.callers.contains_key(&call) {
                    or(at, Event::GiveUp(call));
                    break;
                }
                line.pop_front();
            }
        }
        if let Some(Reverse((at, _, event))) = self.agenda.others.peek() {
            or(*at, *event);
        }
        if let Some(Arrival { at, draw }) = self.agenda.arrival {
            or(at, Event::Arrival(draw));
        }
        if matches!(next.1, Event::Begin { .. } | Event::Again(_)) {
            self.agenda.others.pop();
        }
        next
    }

    fn schedule(&mut self, at: Nanos, event: Event) {
        self.agenda.added += 1;
        let nth = self.agenda.added;
        self.agenda.others.push(Reverse((at, nth, event)));
    }

    fn advance(&mut self, at: Nanos) {
        let by = Duration::from_nanos(at - self.now);
        self.now = at;
        if self.has_clock && !by.is_zero() {
            // Its first poll moves the clock; what it waits for then is other tasks, and there are none.
            let moved = pin!(tokio::time::advance(by));
            let _ = moved.poll(&mut context());
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Tick => self.tick(),
            Event::NextPhase => {
                self.phase += 1;
                if self.phase < self.scenario.phases.len() {
                    self.begin_phase();
                }
            }
            Event::Finish { instance } => self.finish(instance),
            Event::GiveUp(call) => self.give_up(call),
            Event::Begin {
                call,
                instance,
                service,
            } => self.begin(call, instance, service),
            Event::Again(again) => self.call(again),
            Event::Arrival(draw) => self.arrive(draw),
        }
    }

    fn phase(&self) -> &'a Phase {
        &self.scenario.phases[self.phase]
    }

    fn begin_phase(&mut self) {
        self.began = self.now;
        let phase = self.phase();
        let workers = (self.scenario.server.workers as f64 * phase.workers).round() as usize;
        for instance in 0..self.instances.len() {
            if let Some(work) = &mut self.instances[instance].work {
                work.set_workers(workers.max(1), self.now);
            }
            self.look_at(instance);
        }
        self.agenda.end_of_phase = self.now + nanos(phase.length);
        self.agenda.tick = self.now + TICK;
    }

    fn arrive(&mut self, draw: Draw) {
        self.report.phases[self.phase].offer(&self.scenario.server, &draw);
        self.call(Try {
            draw,
            phase: self.phase,
            left: self.scenario.callers.retries,
        });
    }

    fn call(&mut self, try_: Try) {
        let try_ = Try {
            phase: self.phase,
            ..try_
        };
        self.called += 1;
        let call = self.called;
        let instance = (call % self.instances.len() as u64) as usize;
        self.report.phases[self.phase].calls += 1;
        self.link.entering.set(call);
        let admitted = match self.instances[instance].admit(&try_.draw) {
            Ok(admitted) => admitted,
            Err(hint) => return self.refused(try_, hint),
        };
        self.units += try_.draw.units as usize;
        let phase = &mut self.report.phases[try_.phase];
        phase.admitted += 1;
        phase.peak_units = phase.peak_units.max(self.units);
        let since = self.now;
        let caller = Caller {
            admitted,
            try_,
            since,
        };
        self.callers.insert(call, caller);
        let patience = try_.draw.patience;
        let usual = patience == nanos(self.scenario.callers.deadline);
        self.agenda.leave[usize::from(usual)].push_back((since + patience, call));
        match try_.draw.dependency {
            None => {}
            Some(0) => self.begin(call, instance, try_.draw.service),
            Some(takes) => self.schedule(
                since + takes,
                Event::Begin {
                    call,
                    instance,
                    service: try_.draw.service,
                },
            ),
        }
    }

    fn refused(&mut self, try_: Try, hint: Duration) {
        self.report.phases[self.phase].refuse(self.now - self.began);
        let Some(left) = try_.left.checked_sub(1) else {
            self.report.phases[self.phase].lose(&try_.draw);
            return;
        };
        let callers = &self.scenario.callers;
        let briefly = 0.05 + 0.1 * self.patience.uniform();
        let backoff = match callers.waits {
            Waits::Briefly => Duration::from_secs_f64(briefly),
            Waits::Doubling => Duration::from_secs(1 << (callers.retries - try_.left).min(16)),
            Waits::Seconds | Waits::Milliseconds => hint,
        };
        self.schedule(
            self.now + nanos(backoff),
            Event::Again(Try { left, ..try_ }),
        );
    }

    fn begin(&mut self, call: Call, instance: usize, service: Nanos) {
        match &mut self.instances[instance].work {
            None => self.answer(call),
            Some(work) => {
                work.arrive(call, service, self.now);
                self.look_at(instance);
            }
        }
    }

    /// Finds out what is done next there.
    fn look_at(&mut self, instance: usize) {
        let place = &mut self.instances[instance];
        let next = place.work.as_ref().and_then(Work::next);
        place.finish = next.map(|at| at.max(self.now));
    }

    fn finish(&mut self, instance: usize) {
        let work = self.instances[instance].work.as_mut();
        if let Some(call) = work.and_then(|work| work.finish(self.now)) {
            self.answer(call);
        }
        self.look_at(instance);
    }

    /// The work is done. If the caller is still there, it hears of it.
    fn answer(&mut self, call: Call) {
        let Some(mut caller) = self.callers.remove(&call) else {
            return;
        };
        let draw = caller.try_.draw;
        self.units -= draw.units as usize;
        self.link.completed.set(call);
        if let Admitted::Response(response) = &mut caller.admitted {
            let polled = response.as_mut().poll(&mut context());
            assert!(polled.is_ready(), "a handler that is done answers");
        }
        let arrived_in = &mut self.report.phases[caller.try_.phase];
        arrived_in.wait(&draw, self.now - caller.since);
        if caller.try_.phase == self.phase {
            arrived_in.answer(&draw);
        }
    }

    fn give_up(&mut self, call: Call) {
        if let Some(caller) = self.callers.remove(&call) {
            let draw = caller.try_.draw;
            self.units -= draw.units as usize;
            self.report.phases[caller.try_.phase].leave(&draw, self.now - caller.since);
        }
    }

    fn tick(&mut self) {
        let sum = |of: fn(&Budget) -> usize| self.instances.iter().map(|one| of(&one.budget)).sum();
        let (limit, in_flight) = (sum(Budget::limit), sum(Budget::in_flight));
        self.report.phases[self.phase].look(limit, in_flight);
        self.agenda.tick = self.now + TICK;
    }
}

impl Hasher for ByNumber {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("calls are numbers");
    }

    fn write_u64(&mut self, call: Call) {
        // 2⁶⁴ ÷ the golden ratio.
        self.0 = call.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}
