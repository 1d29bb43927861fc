//! The simulation: callers and servers at one moment, and the events to come.

use std::{
    collections::HashMap, future::Future, hash::BuildHasherDefault, pin::pin, rc::Rc,
    time::Duration,
};

use loadshed::Budget;

use crate::{
    arrivals::Arrival,
    call_hasher::CallHasher,
    events::{Attempt, Event, EventQueue, Work},
    handler::{HandlerLink, context},
    instance::{Admitted, Instance},
    options::{AdmissionPath, Lab},
    random::{Draw, Random, nanos},
    report::Report,
    scenario::{callers::RetryDelay, kind::Counted, phase::Phase, scenario::Scenario},
    station::{CallId, Nanos},
};

/// The state of one run.
pub(crate) struct Simulation<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) now: Nanos,
    pub(crate) instances: Vec<Instance>,
    callers: HashMap<CallId, Caller, BuildHasherDefault<CallHasher>>,
    link: Rc<HandlerLink>,
    last_call: CallId,
    backoff: Random,
    pub(crate) phase: usize,
    began: Nanos,
    /// The cost of the calls in flight.
    units: usize,
    /// The number of the station that serves a kind, by kind; `None` for a kind that needs no worker.
    stations: Vec<Option<usize>>,
    /// Whether time matters to the budget. Without the layer, nothing reads the clock.
    has_clock: bool,
    pub(crate) events: EventQueue,
    pub(crate) report: Report,
}

/// Where a run of the simulation stops.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RunUntil {
    LastArrival,
    EndOfScenario,
}

/// The caller of an admitted attempt.
struct Caller {
    admitted: Admitted,
    attempt: Attempt,
    since: Nanos,
    /// Whether the caller has the head of the response.
    has_head: bool,
}

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
            stations: stations(scenario),
            has_clock: lab.path == AdmissionPath::Layer,
            events: EventQueue::new(scenario),
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

    fn next(&mut self) -> (Nanos, Event) {
        let mut finish: Option<(Nanos, Event)> = None;
        for (instance, server) in self.instances.iter().enumerate() {
            for (station, workplace) in server.stations.iter().enumerate() {
                let is_earlier = |at: &Nanos| finish.is_none_or(|(first, _)| *at < first);
                if let Some(at) = workplace.finish.filter(is_earlier) {
                    finish = Some((at, Event::Finish { instance, station }));
                }
            }
        }
        let callers = &self.callers;
        self.events.next(finish, |call| callers.contains_key(&call))
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
            Event::Finish { instance, station } => self.finish(instance, station),
            Event::Timeout(call) => self.time_out(call),
            Event::StartService(work) => self.start_service(work),
            Event::Complete(call) => self.complete(call),
            Event::Disturb { kind } => self.disturb(kind),
            Event::Restore { kind, phase } => self.restore(kind, phase),
            Event::Retry(attempt) => self.call(attempt),
            Event::Arrival(draw) => self.arrive(draw),
        }
    }

    pub(crate) fn phase(&self) -> &'a Phase {
        &self.scenario.phases[self.phase]
    }

    fn begin_phase(&mut self) {
        self.began = self.now;
        let phase = self.phase();
        let ends = self.now + nanos(phase.length);
        self.begin_disturbances(ends);
        self.events.end_of_phase = ends;
        self.events.tick = self.now + TICK;
    }

    fn arrive(&mut self, draw: Draw) {
        let is_queued = self.stations[draw.kind].is_some();
        self.report.record(self.phase, draw.kind, |phase| {
            phase.record_arrival(is_queued, &draw);
        });
        self.call(Attempt {
            draw,
            phase: self.phase,
            left: self.scenario.kinds[draw.kind].callers.retries,
        });
    }

    fn call(&mut self, attempt: Attempt) {
        let attempt = Attempt {
            phase: self.phase,
            ..attempt
        };
        let draw = attempt.draw;
        self.last_call += 1;
        let call = self.last_call;
        let instance = (call % self.instances.len() as u64) as usize;
        self.link.entering.set(call);
        let admitted = match self.instances[instance].admit(&draw) {
            Ok(admitted) => admitted,
            Err(hint) => return self.refuse(attempt, hint),
        };
        self.units += draw.units as usize;
        let units = self.units;
        self.report.record(attempt.phase, draw.kind, |phase| {
            phase.record_admission(units);
        });
        let since = self.now;
        let caller = Caller {
            admitted,
            attempt,
            since,
            has_head: false,
        };
        self.callers.insert(call, caller);
        self.events.schedule_timeout(since, call, draw.timeout);
        let Some(time) = draw.dependency else {
            return;
        };
        let station = self.stations[draw.kind].filter(|_| !draw.fails);
        let work = station.map(|station| Work {
            call,
            instance,
            station,
            service: draw.service,
        });
        match work {
            Some(work) if time == 0 => self.start_service(work),
            Some(work) => self
                .events
                .schedule(since + time, Event::StartService(work)),
            None => self.events.schedule(since + time, Event::Complete(call)),
        }
    }

    fn refuse(&mut self, attempt: Attempt, hint: Duration) {
        let draw = attempt.draw;
        let into = self.now - self.began;
        self.report
            .record(self.phase, draw.kind, |phase| phase.record_refusal(into));
        let Some(left) = attempt.left.checked_sub(1) else {
            self.report
                .record(self.phase, draw.kind, |phase| phase.record_loss(&draw));
            return;
        };
        let callers = &self.scenario.kinds[draw.kind].callers;
        let short = 0.05 + 0.1 * self.backoff.uniform();
        let backoff = match callers.retry_delay {
            RetryDelay::Short => Duration::from_secs_f64(short),
            RetryDelay::Doubling => {
                Duration::from_secs(1 << (callers.retries - attempt.left).min(16))
            }
            RetryDelay::HintSeconds | RetryDelay::HintMilliseconds => hint,
        };
        let retry = Event::Retry(Attempt { left, ..attempt });
        self.events.schedule(self.now + nanos(backoff), retry);
    }

    /// A station takes a call, whose caller may have timed out: the server goes on.
    fn start_service(&mut self, work: Work) {
        let station = &mut self.instances[work.instance].stations[work.station];
        station.state.arrive(work.call, work.service, self.now);
        station.schedule_finish(self.now);
    }

    fn finish(&mut self, instance: usize, station: usize) {
        let station = &mut self.instances[instance].stations[station];
        let done = station.state.finish(self.now);
        station.schedule_finish(self.now);
        if let Some(call) = done {
            self.complete(call);
        }
    }

    /// Completes a call whose work is done, unless the caller has timed out.
    fn complete(&mut self, call: CallId) {
        let Some(mut caller) = self.callers.remove(&call) else {
            return;
        };
        let Attempt { draw, phase, .. } = caller.attempt;
        let kind = &self.scenario.kinds[draw.kind];
        let response = match draw.fails {
            true => kind.failure.response,
            false => kind.response,
        };
        self.link.response.set(Some(response));
        self.link.completed.set(call);
        let is_stream = draw.body > 0 && !draw.fails;
        self.link.is_stream.set(is_stream);
        if is_stream && !caller.has_head {
            (caller.admitted, caller.has_head) = (caller.admitted.take_head(), true);
            self.callers.insert(call, caller);
            let ends = self.now + draw.body;
            return self.events.schedule(ends, Event::Complete(call));
        }
        self.units -= draw.units as usize;
        caller.admitted.complete();
        let is_counted = phase == self.phase || kind.counted == Counted::Whenever;
        let took = self.now - caller.since;
        self.report.record(phase, draw.kind, |arrived_in| {
            arrived_in.record_latency(&draw, took);
            if is_counted && !draw.fails {
                arrived_in.record_response(&draw);
            }
        });
    }

    fn time_out(&mut self, call: CallId) {
        if let Some(caller) = self.callers.remove(&call) {
            let Attempt { draw, phase, .. } = caller.attempt;
            self.units -= draw.units as usize;
            let took = self.now - caller.since;
            self.report.record(phase, draw.kind, |arrived_in| {
                arrived_in.record_timeout(&draw, took);
            });
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
        self.report.record_tick(self.phase, limit, in_flight);
        self.events.tick = self.now + TICK;
    }
}

/// Returns the number of the station of each kind, in the order in which an instance has them.
fn stations(scenario: &Scenario) -> Vec<Option<usize>> {
    let kinds = 0..scenario.kinds.len();
    let owners: Vec<_> = kinds
        .clone()
        .filter(|&kind| scenario.owner(kind) == kind && scenario.is_queued(kind))
        .collect();
    let station = |kind| {
        let owner = scenario.owner(kind);
        owners.iter().position(|&other| other == owner)
    };
    kinds.map(station).collect()
}
