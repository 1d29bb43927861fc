//! One scenario, one law, one seed.

use std::{
    cell::Cell,
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    random::{Chance, Draw, Now, nanos},
    report::Report,
    scenario::{Phase, Scenario, Station},
    station::{Call, Nanos, Pool, Shared, Work},
};
use crate::{Budget, LoadShed, LoadShedService, ResponseFuture, Shed, Threshold};

/// How a scenario is run.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Lab {
    seed: u64,
    ratio: f64,
}

impl Lab {
    /// With chance beginning here.
    pub fn seed(seed: u64) -> Self {
        Self { seed, ratio: 0.85 }
    }

    /// The ratio of the layer. By default 0.85.
    pub fn ratio(self, ratio: f64) -> Self {
        Self { ratio, ..self }
    }

    /// Runs it from the beginning to the end, with a budget from `budget` for each instance.
    ///
    /// # Panics
    ///
    /// Within a tokio runtime: time is virtual here, and of its own.
    #[must_use]
    pub fn run(self, scenario: &Scenario, mut budget: impl FnMut() -> Budget) -> Report {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without a driver can always be built");
        let _guard = runtime.enter();
        World::new(self, scenario, &mut budget).run()
    }
}

struct World<'a> {
    scenario: &'a Scenario,
    now: Nanos,
    events: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    scheduled: u64,
    instances: Vec<Instance>,
    callers: HashMap<Call, Caller>,
    wire: Rc<Wire>,
    called: Call,
    arrivals: Chance,
    patience: Chance,
    phase: usize,
    began: Nanos,
    report: Report,
}

struct Instance {
    budget: Budget,
    service: LoadShedService<Handler>,
    work: Option<Work>,
    /// What was scheduled for an earlier turn is out of date.
    turn: u64,
}

/// One who has been admitted and waits.
struct Caller {
    reply: Pin<Box<ResponseFuture<Handler, Empty>>>,
    try_: Try,
    since: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    /// A refused caller tries again.
    Again(Try),
    /// The dependency has answered.
    Begin {
        call: Call,
        instance: usize,
        service: Nanos,
    },
    Finish {
        instance: usize,
        turn: u64,
    },
    GiveUp(Call),
    Tick,
    NextPhase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Try {
    draw: Draw,
    phase: usize,
    left: u32,
}

/// Between the world and its handlers.
#[derive(Debug, Default)]
struct Wire {
    /// Who calls.
    calling: Cell<Call>,
    /// Whose work is done.
    answered: Cell<Call>,
}

/// The service behind the layer.
#[derive(Clone, Debug)]
struct Handler(Rc<Wire>);

/// The answer to a call, there when the world says so.
#[derive(Debug)]
struct Reply {
    call: Call,
    wire: Rc<Wire>,
}

/// A body without anything in it.
#[derive(Debug, Default)]
struct Empty;

/// How often the limit is looked at.
const TICK: Nanos = 100_000_000;

impl<'a> World<'a> {
    fn new(lab: Lab, scenario: &'a Scenario, budget: &mut dyn FnMut() -> Budget) -> Self {
        let wire = Rc::default();
        let instances = (0..scenario.instances)
            .map(|_| Instance::new(scenario, budget(), lab.ratio, &wire))
            .collect();
        Self {
            scenario,
            now: 0,
            events: BinaryHeap::new(),
            scheduled: 0,
            instances,
            callers: HashMap::new(),
            wire,
            called: 0,
            arrivals: Chance::new(lab.seed),
            patience: Chance::new(!lab.seed),
            phase: 0,
            began: 0,
            report: Report::new(scenario),
        }
    }

    fn run(mut self) -> Report {
        self.begin_phase();
        self.schedule(0, Event::Tick);
        while self.phase < self.scenario.phases.len() {
            let Some(Reverse((at, _, event))) = self.events.pop() else {
                break;
            };
            self.advance(at);
            self.handle(event);
        }
        self.report
    }

    fn schedule(&mut self, at: Nanos, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((at, self.scheduled, event)));
    }

    fn advance(&mut self, at: Nanos) {
        let by = Duration::from_nanos(at - self.now);
        self.now = at;
        if !by.is_zero() {
            // Its first poll moves the clock; what it waits for then is other tasks, and there are none.
            let moved = pin!(tokio::time::advance(by));
            let _ = moved.poll(&mut context());
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrival => self.arrive(),
            Event::Again(again) => self.call(again),
            Event::Begin {
                call,
                instance,
                service,
            } => self.begin(call, instance, service),
            Event::Finish { instance, turn } => self.finish(instance, turn),
            Event::GiveUp(call) => self.give_up(call),
            Event::Tick => self.tick(),
            Event::NextPhase => {
                self.phase += 1;
                if self.phase < self.scenario.phases.len() {
                    self.begin_phase();
                }
            }
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
        self.schedule(self.now + nanos(phase.length), Event::NextPhase);
        self.await_arrival();
    }

    /// The next arrival of this phase, if there is one. Loads that vary are thinned from their peak.
    fn await_arrival(&mut self) {
        let phase = self.phase();
        let load = phase.load.peak() + phase.critical;
        let capacity = self.scenario.server.capacity() * self.instances.len() as f64;
        let gap = self.arrivals.exponential() / (load * capacity);
        let at = self.now + nanos(Duration::from_secs_f64(gap.min(1e9)));
        if at < self.began + nanos(phase.length) {
            self.schedule(at, Event::Arrival);
        }
    }

    fn arrive(&mut self) {
        let phase = self.phase();
        let since = Duration::from_nanos(self.now - self.began);
        let (load, peak) = (phase.load.at(since), phase.load.peak());
        let (from, to) = phase.slowdown;
        let part = since.as_secs_f64() / phase.length.as_secs_f64();
        let now = Now {
            load,
            slowdown: from + (to - from) * part,
        };
        let kept = self.arrivals.uniform() * (peak + phase.critical) < load + phase.critical;
        let (server, callers) = (&self.scenario.server, &self.scenario.callers);
        let draw = self.arrivals.draw(server, callers, phase, now);
        self.await_arrival();
        if kept {
            self.report.phases[self.phase].offer(&draw);
            self.call(Try {
                draw,
                phase: self.phase,
                left: callers.retries,
            });
        }
    }

    fn call(&mut self, try_: Try) {
        let try_ = Try {
            phase: self.phase,
            ..try_
        };
        self.called += 1;
        let call = self.called;
        let instance = (call % self.instances.len() as u64) as usize;
        self.wire.calling.set(call);
        let service = &mut self.instances[instance].service;
        let mut reply = Box::pin(service.call(request(&try_.draw)));
        if let Poll::Ready(Ok(response)) = reply.as_mut().poll(&mut context()) {
            return self.refused(try_, &response);
        }
        self.report.phases[try_.phase].admitted += 1;
        let since = self.now;
        self.callers.insert(call, Caller { reply, try_, since });
        self.schedule(since + try_.draw.patience, Event::GiveUp(call));
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

    fn refused<B>(&mut self, try_: Try, response: &Response<B>) {
        self.report.phases[self.phase].refuse(self.now - self.began);
        let Some(left) = try_.left.checked_sub(1) else {
            return;
        };
        let backoff = 0.05 + 0.1 * self.patience.uniform();
        let backoff = match response.extensions().get::<Shed>() {
            Some(shed) if self.scenario.callers.heeds_hint => shed.retry_after(),
            _ => Duration::from_secs_f64(backoff),
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

    /// Schedules what is done next there.
    fn look_at(&mut self, instance: usize) {
        let place = &mut self.instances[instance];
        place.turn += 1;
        let turn = place.turn;
        if let Some(at) = place.work.as_ref().and_then(Work::next) {
            self.schedule(at.max(self.now), Event::Finish { instance, turn });
        }
    }

    fn finish(&mut self, instance: usize, turn: u64) {
        let place = &mut self.instances[instance];
        if place.turn != turn {
            return;
        }
        if let Some(call) = place.work.as_mut().and_then(|work| work.finish(self.now)) {
            self.answer(call);
        }
        self.look_at(instance);
    }

    /// The work is done. If the caller is still there, it hears of it.
    fn answer(&mut self, call: Call) {
        let Some(mut caller) = self.callers.remove(&call) else {
            return;
        };
        self.wire.answered.set(call);
        let polled = caller.reply.as_mut().poll(&mut context());
        assert!(polled.is_ready(), "a handler that is done answers");
        let arrived_in = &mut self.report.phases[caller.try_.phase];
        arrived_in.wait(self.now - caller.since);
        if caller.try_.phase == self.phase {
            arrived_in.answer(&caller.try_.draw);
        }
    }

    fn give_up(&mut self, call: Call) {
        if let Some(caller) = self.callers.remove(&call) {
            self.report.phases[caller.try_.phase].wait(self.now - caller.since);
        }
    }

    fn tick(&mut self) {
        let sum = |of: fn(&Budget) -> usize| self.instances.iter().map(|one| of(&one.budget)).sum();
        let (limit, in_flight) = (sum(Budget::limit), sum(Budget::in_flight));
        self.report.phases[self.phase].look(limit, in_flight);
        self.schedule(self.now + TICK, Event::Tick);
    }
}

impl Instance {
    fn new(scenario: &Scenario, budget: Budget, ratio: f64, wire: &Rc<Wire>) -> Self {
        let sheddable = Threshold::ratio(ratio);
        let critical = Threshold::ratio(ratio + 2.0 * (1.0 - ratio) / 3.0);
        let has_classes = scenario.phases.iter().any(|phase| phase.critical > 0.0);
        let mut layer = LoadShed::ratio(ratio).budget(&budget);
        if has_classes {
            layer = layer.threshold(move |head| match *head.method() {
                Method::GET => critical,
                _ => sheddable,
            });
        }
        let server = scenario.server;
        let work = match server.station {
            Station::Pool => Some(Work::Pool(Pool::new(server.workers))),
            Station::Shared { thrash } => Some(Work::Shared(Shared::new(server.workers, thrash))),
            Station::None => None,
        };
        Self {
            service: layer.layer(Handler(Rc::clone(wire))),
            budget,
            work,
            turn: 0,
        }
    }
}

impl Service<Request<Empty>> for Handler {
    type Response = Response<Empty>;
    type Error = Infallible;
    type Future = Reply;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Empty>) -> Reply {
        Reply {
            call: self.0.calling.get(),
            wire: Rc::clone(&self.0),
        }
    }
}

impl Future for Reply {
    type Output = Result<Response<Empty>, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        if self.wire.answered.get() == self.call {
            return Poll::Ready(Ok(Response::new(Empty)));
        }
        Poll::Pending
    }
}

impl Body for Empty {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}

/// CRITICAL calls are told by their method, as the others by theirs.
fn request(draw: &Draw) -> Request<Empty> {
    let mut request = Request::new(Empty);
    if !draw.critical {
        *request.method_mut() = Method::POST;
    }
    request
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
