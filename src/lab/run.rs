//! One scenario, one law, one seed.

use std::{
    cell::Cell,
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    convert::Infallible,
    future::Future,
    hash::{BuildHasherDefault, DefaultHasher, Hasher},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header::CONTENT_TYPE};
use http_body::Body;
use tokio::runtime::Runtime;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    arrivals::{Arrival, Arrivals},
    random::{Chance, Draw, nanos},
    report::Report,
    scenario::{Phase, Scenario, Station, Waits},
    station::{Call, Nanos, Pool, Shared, Work},
};
use crate::{
    Budget, Criticality, LoadShed, LoadShedService, ResponseFuture, RetryAfter, Shed, Threshold,
    budget::{Claim, Mode, Place, Tenant},
    retry_after::Unit,
};

/// How a scenario is run.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Lab {
    seed: u64,
    ratio: f64,
    through: Through,
    by: By,
}

/// What the layer is told of callers, beside their class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct By {
    /// `LoadShed::cost`, as many units as a call costs.
    pub cost: bool,
    /// `LoadShed::fair_by`, by tenant.
    pub share: bool,
    /// `LoadShed::key`, by tenant.
    pub key: bool,
}

/// Which way calls take into the server. Both decide alike; tests compare them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Through {
    /// As in a program: what a law is judged by.
    Layer,
    /// As the layer does, straight to the budget's decision: no samples and no answers for the refused, at a quarter of
    /// the cost. For fixed limits.
    Budget,
}

impl Lab {
    /// With chance beginning here.
    pub fn seed(seed: u64) -> Self {
        Self {
            seed,
            ratio: 0.85,
            through: Through::Layer,
            by: By::default(),
        }
    }

    /// What the layer goes by. By default, neither costs nor tenants.
    pub fn by(self, by: By) -> Self {
        Self { by, ..self }
    }

    /// The ratio of the layer. By default 0.85.
    pub fn ratio(self, ratio: f64) -> Self {
        Self { ratio, ..self }
    }

    pub(super) fn through(self, through: Through) -> Self {
        Self { through, ..self }
    }

    /// Runs it from the beginning to the end, with a budget from `budget` for each instance.
    ///
    /// # Panics
    ///
    /// Within a tokio runtime: time is virtual here, and of its own.
    #[must_use]
    pub fn run(self, scenario: &Scenario, mut budget: impl FnMut() -> Budget) -> Report {
        let runtime = virtual_time();
        let _guard = runtime.enter();
        let mut world = World::new(self, scenario, &mut budget);
        world.run(Arrivals::new(scenario, self.seed), Then::Ends);
        world.report
    }

    /// Runs it under each of these limits, with the same calls for all of them at the same time.
    pub(super) fn run_fixed(self, scenario: &Scenario, limits: &[usize]) -> Vec<Report> {
        let world = |limit: &usize| {
            let runtime = virtual_time();
            let guard = runtime.enter();
            let world = World::new(self, scenario, &mut || Budget::fixed(*limit));
            drop(guard);
            (world, runtime)
        };
        let mut worlds: Vec<_> = limits.iter().map(world).collect();
        let mut arrivals = Arrivals::new(scenario, self.seed);
        let mut some = Vec::new();
        loop {
            some.clear();
            some.extend(arrivals.by_ref().take(AT_ONCE));
            let then = match some.is_empty() {
                true => Then::Ends,
                false => Then::GoesOn,
            };
            for (world, runtime) in &mut worlds {
                let _guard = runtime.enter();
                world.run(some.iter().copied(), then);
            }
            if then == Then::Ends {
                return worlds.into_iter().map(|(world, _)| world.report).collect();
            }
        }
    }
}

/// A runtime whose clock stands still until it is moved.
fn virtual_time() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without a driver can always be built")
}

/// What follows the last of the calls that a world is given.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    GoesOn,
    Ends,
}

/// As many as fit in a core's cache.
const AT_ONCE: usize = 2_048;

struct World<'a> {
    scenario: &'a Scenario,
    now: Nanos,
    instances: Vec<Instance>,
    callers: HashMap<Call, Caller, BuildHasherDefault<ByNumber>>,
    wire: Rc<Wire>,
    called: Call,
    patience: Chance,
    phase: usize,
    began: Nanos,
    /// What the calls cost that are inside.
    units: usize,
    /// Whether anybody looks at the clock.
    has_clock: bool,
    agenda: Agenda,
    report: Report,
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

struct Instance {
    budget: Budget,
    door: Door,
    work: Option<Work>,
    /// When its next call is done.
    finish: Option<Nanos>,
}

struct Door {
    through: Through,
    by: By,
    /// In which unit hints are heeded, if they are.
    unit: Option<Unit>,
    retry_after: RetryAfter,
    service: LoadShedService<Handler>,
    sheddable: Threshold,
    critical: Threshold,
}

/// One who has been admitted and waits.
struct Caller {
    inside: Inside,
    try_: Try,
    since: Nanos,
}

enum Inside {
    Reply(Pin<Box<ResponseFuture<Handler, Empty>>>),
    Place { _held: Place },
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

/// Calls are numbered, so their numbers are spread well enough by one multiplication.
#[derive(Debug, Default)]
struct ByNumber(u64);

/// How often the limit is looked at.
const TICK: Nanos = 100_000_000;

impl<'a> World<'a> {
    fn new(lab: Lab, scenario: &'a Scenario, budget: &mut dyn FnMut() -> Budget) -> Self {
        let wire = Rc::default();
        let instances = (0..scenario.instances)
            .map(|_| Instance::new(scenario, budget(), lab, &wire))
            .collect();
        let mut world = Self {
            scenario,
            now: 0,
            instances,
            callers: HashMap::default(),
            wire,
            called: 0,
            patience: Chance::new(!lab.seed),
            phase: 0,
            began: 0,
            units: 0,
            has_clock: lab.through == Through::Layer || scenario.callers.waits.unit().is_some(),
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
    fn run(&mut self, mut arrivals: impl Iterator<Item = Arrival>, then: Then) {
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
        self.wire.calling.set(call);
        let inside = match self.instances[instance].enter(&try_.draw) {
            Ok(inside) => inside,
            Err(hint) => return self.refused(try_, hint),
        };
        self.units += try_.draw.units as usize;
        let phase = &mut self.report.phases[try_.phase];
        phase.admitted += 1;
        phase.peak_units = phase.peak_units.max(self.units);
        let since = self.now;
        let caller = Caller {
            inside,
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
        self.wire.answered.set(call);
        if let Inside::Reply(reply) = &mut caller.inside {
            let polled = reply.as_mut().poll(&mut context());
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

impl Instance {
    fn new(scenario: &Scenario, budget: Budget, lab: Lab, wire: &Rc<Wire>) -> Self {
        let ratio = lab.ratio;
        let sheddable = Threshold::ratio(ratio);
        let critical = Threshold::ratio(ratio + 2.0 * (1.0 - ratio) / 3.0);
        let has_classes = scenario.phases.iter().any(|phase| phase.critical > 0.0);
        let mut layer = LoadShed::ratio(ratio)
            .budget(&budget)
            .retry_after(scenario.retry_after);
        let By { cost, share, key } = lab.by;
        let tenant = |head: &Request<()>| head.extensions().get().map(|draw: &Draw| draw.tenant);
        if cost {
            layer = layer.cost(|head| {
                head.extensions()
                    .get()
                    .map_or(1, |draw: &Draw| draw.units as usize)
            });
        }
        if share {
            // The same one in each process, so that runs are repeatable.
            let hasher = BuildHasherDefault::<DefaultHasher>::default();
            layer = layer.fair_by_tenant(move |head| Tenant::by(&hasher, &tenant(head)));
        }
        if key {
            layer = layer.key(tenant);
        }
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
            door: Door {
                through: lab.through,
                by: lab.by,
                unit: scenario.callers.waits.unit(),
                retry_after: scenario.retry_after,
                service: layer.layer(Handler(Rc::clone(wire))),
                sheddable,
                critical,
            },
            budget,
            work,
            finish: None,
        }
    }

    /// Or when to come back.
    fn enter(&mut self, draw: &Draw) -> Result<Inside, Duration> {
        let door = &mut self.door;
        if door.through == Through::Budget {
            let threshold = match draw.critical {
                true => door.critical,
                false => door.sheddable,
            };
            let claim = Claim::from(threshold);
            let held = self.budget.admit(&claim, Mode::Enforce);
            return match held {
                Ok(held) => Ok(Inside::Place { _held: held }),
                Err(refused) => {
                    self.budget.refused(&refused);
                    // As the layer has it, whose closure tells thresholds and not classes.
                    let class = Criticality::default();
                    let shed = |unit| self.budget.shed(door.retry_after, unit, class, &refused);
                    Err(door
                        .unit
                        .map_or(Duration::ZERO, |unit| wait(&shed(unit), unit)))
                }
            };
        }
        let unit = door.unit.unwrap_or(Unit::Seconds);
        let mut request = request(draw, unit);
        if door.by != By::default() {
            request.extensions_mut().insert(*draw);
        }
        let mut reply = Box::pin(door.service.call(request));
        match reply.as_mut().poll(&mut context()) {
            Poll::Pending => Ok(Inside::Reply(reply)),
            Poll::Ready(response) => {
                let shed = response.map(|response| response.extensions().get::<Shed>().cloned());
                let shed = shed.unwrap_or_else(|never| match never {});
                Err(wait(&shed.expect("a refusal says why"), unit))
            }
        }
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

/// How long a caller waits that is told in this unit.
fn wait(shed: &Shed, unit: Unit) -> Duration {
    match unit {
        Unit::Seconds => Duration::from_secs(shed.retry_after_secs()),
        Unit::Milliseconds => shed.retry_after(),
    }
}

/// CRITICAL calls are told by their method, as the others by theirs; those that are told milliseconds call by gRPC.
fn request(draw: &Draw, unit: Unit) -> Request<Empty> {
    let mut request = Request::new(Empty);
    if unit == Unit::Milliseconds {
        let grpc = HeaderValue::from_static("application/grpc");
        request.headers_mut().insert(CONTENT_TYPE, grpc);
    }
    if !draw.critical {
        *request.method_mut() = Method::POST;
    }
    request
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
