//! The simulation: callers and servers at one moment, and the events to come.

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
    options::{AdmissionPath, Lab},
    random::{Draw, Random, nanos},
    report::Report,
    scenario::{Phase, RetryDelay, Scenario},
    station::{CallId, Nanos, StationState},
};

/// The state of one run.
pub(crate) struct Simulation<'a> {
    scenario: &'a Scenario,
    now: Nanos,
    instances: Vec<Instance>,
    callers: HashMap<CallId, Caller, BuildHasherDefault<CallHasher>>,
    link: Rc<HandlerLink>,
    last_call: CallId,
    backoff: Random,
    phase: usize,
    began: Nanos,
    /// The cost of the calls in flight.
    units: usize,
    /// Whether time matters to the budget. Without the layer, nothing reads the clock.
    has_clock: bool,
    events: EventQueue,
    pub(crate) report: Report,
}

/// Where a run of the simulation stops.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RunUntil {
    LastArrival,
    EndOfScenario,
}

/// The events to come. Events that are in order anyway are kept outside of the heap: one heap for all events takes as long as
/// everything else together.
#[derive(Debug)]
struct EventQueue {
    tick: Nanos,
    end_of_phase: Nanos,
    arrival: Option<Arrival>,
    /// The timeouts of callers with the short timeout, and of all others, in order. Some calls complete before.
    timeouts: [VecDeque<(Nanos, CallId)>; 2],
    others: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    added: u64,
}

/// The caller of an admitted attempt.
struct Caller {
    admitted: Admitted,
    attempt: Attempt,
    since: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Tick,
    NextPhase,
    Finish {
        instance: usize,
    },
    Timeout(CallId),
    /// The dependency has responded.
    StartService {
        call: CallId,
        instance: usize,
        service: Nanos,
    },
    /// A refused caller retries.
    Retry(Attempt),
    Arrival(Draw),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Attempt {
    draw: Draw,
    phase: usize,
    left: u32,
}

/// A hasher for call numbers, which are consecutive: one multiplication spreads them well enough.
#[derive(Debug, Default)]
struct CallHasher(u64);

/// The interval at which limits are recorded: 100 ms.
const TICK: Nanos = 100_000_000;

impl<'a> Simulation<'a> {
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
        let mut simulation = Self {
            scenario,
            now: 0,
            instances,
            callers: HashMap::default(),
            link,
            last_call: 0,
            backoff: Random::new(!lab.seed),
            phase: 0,
            began: 0,
            units: 0,
            has_clock: lab.path == AdmissionPath::Layer,
            events: EventQueue {
                tick: 0,
                end_of_phase: 0,
                arrival: None,
                timeouts: Default::default(),
                others: BinaryHeap::new(),
                added: 0,
            },
            report: Report::new(scenario),
        };
        if !scenario.phases.is_empty() {
            simulation.begin_phase();
        }
        simulation
    }

    /// Continues to the last of `arrivals`, or to the end of the scenario.
    pub(crate) fn run(&mut self, mut arrivals: impl Iterator<Item = Arrival>, until: RunUntil) {
        self.events.arrival = arrivals.next();
        while self.phase < self.scenario.phases.len() {
            if self.events.arrival.is_none() && until == RunUntil::LastArrival {
                return;
            }
            let (at, event) = self.next();
            self.advance(at);
            self.handle(event);
            if matches!(event, Event::Arrival(_)) {
                self.events.arrival = arrivals.next();
            }
        }
    }

    /// Returns the next event. Of several events at the same time, the order of the checks below decides.
    fn next(&mut self) -> (Nanos, Event) {
        let EventQueue {
            tick, end_of_phase, ..
        } = self.events;
        let mut next = match tick <= end_of_phase {
            true => (tick, Event::Tick),
            false => (end_of_phase, Event::NextPhase),
        };
        let mut earlier = |at: Nanos, event: Event| {
            if at < next.0 {
                next = (at, event);
            }
        };
        for (instance, server) in self.instances.iter().enumerate() {
            if let Some(at) = server.finish {
                earlier(at, Event::Finish { instance });
            }
        }
        for queue in &mut self.events.timeouts {
            while let Some(&(at, call)) = queue.front() {
                if self.callers.contains_key(&call) {
                    earlier(at, Event::Timeout(call));
                    break;
                }
                queue.pop_front();
            }
        }
        if let Some(Reverse((at, _, event))) = self.events.others.peek() {
            earlier(*at, *event);
        }
        if let Some(Arrival { at, draw }) = self.events.arrival {
            earlier(at, Event::Arrival(draw));
        }
        if matches!(next.1, Event::StartService { .. } | Event::Retry(_)) {
            self.events.others.pop();
        }
        next
    }

    fn schedule(&mut self, at: Nanos, event: Event) {
        self.events.added += 1;
        let nth = self.events.added;
        self.events.others.push(Reverse((at, nth, event)));
    }

    fn advance(&mut self, at: Nanos) {
        let by = Duration::from_nanos(at - self.now);
        self.now = at;
        if self.has_clock && !by.is_zero() {
            // The first poll moves the clock. After it, `advance` only yields to other tasks, and there are none.
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
            Event::Timeout(call) => self.time_out(call),
            Event::StartService {
                call,
                instance,
                service,
            } => self.start_service(call, instance, service),
            Event::Retry(attempt) => self.call(attempt),
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
            if let Some(station) = &mut self.instances[instance].station {
                station.set_workers(workers.max(1), self.now);
            }
            self.schedule_finish(instance);
        }
        self.events.end_of_phase = self.now + nanos(phase.length);
        self.events.tick = self.now + TICK;
    }

    fn arrive(&mut self, draw: Draw) {
        self.report.phases[self.phase].record_arrival(&self.scenario.server, &draw);
        self.call(Attempt {
            draw,
            phase: self.phase,
            left: self.scenario.callers.retries,
        });
    }

    fn call(&mut self, attempt: Attempt) {
        let attempt = Attempt {
            phase: self.phase,
            ..attempt
        };
        self.last_call += 1;
        let call = self.last_call;
        let instance = (call % self.instances.len() as u64) as usize;
        self.report.phases[self.phase].attempts += 1;
        self.link.entering.set(call);
        let admitted = match self.instances[instance].admit(&attempt.draw) {
            Ok(admitted) => admitted,
            Err(hint) => return self.refuse(attempt, hint),
        };
        self.units += attempt.draw.units as usize;
        let phase = &mut self.report.phases[attempt.phase];
        phase.admitted += 1;
        phase.peak_units = phase.peak_units.max(self.units);
        let since = self.now;
        let caller = Caller {
            admitted,
            attempt,
            since,
        };
        self.callers.insert(call, caller);
        let timeout = attempt.draw.timeout;
        let usual = timeout == nanos(self.scenario.callers.timeout);
        self.events.timeouts[usize::from(usual)].push_back((since + timeout, call));
        match attempt.draw.dependency {
            None => {}
            Some(0) => self.start_service(call, instance, attempt.draw.service),
            Some(time) => self.schedule(
                since + time,
                Event::StartService {
                    call,
                    instance,
                    service: attempt.draw.service,
                },
            ),
        }
    }

    fn refuse(&mut self, attempt: Attempt, hint: Duration) {
        self.report.phases[self.phase].record_refusal(self.now - self.began);
        let Some(left) = attempt.left.checked_sub(1) else {
            self.report.phases[self.phase].record_loss(&attempt.draw);
            return;
        };
        let callers = &self.scenario.callers;
        let short = 0.05 + 0.1 * self.backoff.uniform();
        let backoff = match callers.retry_delay {
            RetryDelay::Short => Duration::from_secs_f64(short),
            RetryDelay::Doubling => {
                Duration::from_secs(1 << (callers.retries - attempt.left).min(16))
            }
            RetryDelay::HintSeconds | RetryDelay::HintMilliseconds => hint,
        };
        self.schedule(
            self.now + nanos(backoff),
            Event::Retry(Attempt { left, ..attempt }),
        );
    }

    fn start_service(&mut self, call: CallId, instance: usize, service: Nanos) {
        match &mut self.instances[instance].station {
            None => self.complete(call),
            Some(station) => {
                station.arrive(call, service, self.now);
                self.schedule_finish(instance);
            }
        }
    }

    /// Updates when the station of this instance finishes its next call.
    fn schedule_finish(&mut self, instance: usize) {
        let server = &mut self.instances[instance];
        let next = server.station.as_ref().and_then(StationState::next);
        server.finish = next.map(|at| at.max(self.now));
    }

    fn finish(&mut self, instance: usize) {
        let station = self.instances[instance].station.as_mut();
        if let Some(call) = station.and_then(|station| station.finish(self.now)) {
            self.complete(call);
        }
        self.schedule_finish(instance);
    }

    /// Completes a call whose work is done, unless the caller has timed out.
    fn complete(&mut self, call: CallId) {
        let Some(caller) = self.callers.remove(&call) else {
            return;
        };
        let draw = caller.attempt.draw;
        self.units -= draw.units as usize;
        self.link.completed.set(call);
        match caller.admitted {
            Admitted::Response(mut response) => {
                let polled = response.as_mut().poll(&mut context());
                assert!(polled.is_ready(), "a handler whose work is done is ready");
            }
            Admitted::Permit(permit) => permit.succeeded(),
        }
        let arrived_in = &mut self.report.phases[caller.attempt.phase];
        arrived_in.record_latency(&draw, self.now - caller.since);
        if caller.attempt.phase == self.phase {
            arrived_in.record_response(&draw);
        }
    }

    fn time_out(&mut self, call: CallId) {
        if let Some(caller) = self.callers.remove(&call) {
            let draw = caller.attempt.draw;
            self.units -= draw.units as usize;
            self.report.phases[caller.attempt.phase].record_timeout(&draw, self.now - caller.since);
        }
    }

    fn tick(&mut self) {
        let sum = |of: fn(&Budget) -> usize| {
            self.instances
                .iter()
                .map(|instance| of(&instance.budget))
                .sum()
        };
        let (limit, in_flight) = (sum(Budget::limit), sum(Budget::in_flight));
        self.report.phases[self.phase].record_tick(limit, in_flight);
        self.events.tick = self.now + TICK;
    }
}

impl Hasher for CallHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("calls are numbers");
    }

    fn write_u64(&mut self, call: CallId) {
        // 2⁶⁴ ÷ the golden ratio.
        self.0 = call.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}
