//! The layer against a plain model: after any sequence of events, both have the same counts.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::Empty;
use loadshed::{
    Budget, Handle, LoadShed, LoadShedService, Permit, ResponseBody, ResponseFuture, Threshold,
};
use proptest::prelude::*;
use tower::{Layer, Service};

/// The events. An index selects one of the present requests, modulo their number.
#[derive(Clone, Debug)]
enum Op {
    /// A request of this cost.
    Admit(usize),
    PollOnce(usize),
    FinishHead(usize, Script),
    FrameRead(usize),
    BodyEnd(usize),
    BodyError(usize),
    DropFuture(usize),
    DropBody(usize),
    InnerError(usize),
    Panic(usize),
    CallPanics,
    TakePermit(usize),
    DropPermit(usize),
    SetLimit(usize),
    SetRatio(usize),
    CloneService,
}

/// A response body to come.
#[derive(Clone, Copy, Debug)]
struct Script {
    frames: usize,
    /// Whether the body reports its end with the last frame, or has to be polled once more.
    knows_its_end: bool,
}

fn op() -> impl Strategy<Value = Op> {
    let which = any::<usize>;
    let script = (0_usize..4, any::<bool>()).prop_map(|(frames, knows_its_end)| Script {
        frames,
        knows_its_end,
    });
    prop_oneof![
        8 => cost().prop_map(Op::Admit),
        2 => which().prop_map(Op::PollOnce),
        5 => (which(), script).prop_map(|(at, script)| Op::FinishHead(at, script)),
        4 => which().prop_map(Op::FrameRead),
        2 => which().prop_map(Op::BodyEnd),
        1 => which().prop_map(Op::BodyError),
        1 => which().prop_map(Op::DropFuture),
        1 => which().prop_map(Op::DropBody),
        1 => which().prop_map(Op::InnerError),
        1 => which().prop_map(Op::Panic),
        1 => Just(Op::CallPanics),
        1 => cost().prop_map(Op::TakePermit),
        1 => which().prop_map(Op::DropPermit),
        1 => (1_usize..12).prop_map(Op::SetLimit),
        1 => (1_usize..=100).prop_map(Op::SetRatio),
        1 => Just(Op::CloneService),
    ]
}

/// Mostly 1, at times more than the whole budget.
fn cost() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(1_usize), 1 => 1_usize..9]
}

/// The result of the next poll of the inner future.
#[derive(Default)]
enum Next {
    #[default]
    Pend,
    Answer(Script),
    Fail,
    Panic,
}

type Remote = Rc<RefCell<Next>>;

/// Returns futures that a remote controls.
#[derive(Clone, Default)]
struct Inner {
    remotes: Rc<RefCell<Vec<Remote>>>,
    call_panics: Rc<RefCell<bool>>,
}

impl Service<Request<Empty<Bytes>>> for Inner {
    type Response = Response<Frames>;
    type Error = &'static str;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Answer {
        assert!(!self.call_panics.take(), "scripted");
        let remote = Remote::default();
        self.remotes.borrow_mut().push(Rc::clone(&remote));
        Answer(remote)
    }
}

struct Answer(Remote);

impl Future for Answer {
    type Output = Result<Response<Frames>, &'static str>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0.take() {
            Next::Pend => Poll::Pending,
            Next::Answer(script) => Poll::Ready(Ok(Response::new(Frames::new(script)))),
            Next::Fail => Poll::Ready(Err("scripted")),
            Next::Panic => panic!("scripted"),
        }
    }
}

struct Frames {
    left: VecDeque<Bytes>,
    knows_its_end: bool,
    fails: Rc<RefCell<bool>>,
}

thread_local! {
    /// Makes the body that is polled next fail.
    static FAIL: Rc<RefCell<bool>> = Rc::default();
}

impl Frames {
    fn new(script: Script) -> Self {
        Self {
            left: (0..script.frames)
                .map(|_| Bytes::from_static(b"frame"))
                .collect(),
            knows_its_end: script.knows_its_end,
            fails: FAIL.with(Rc::clone),
        }
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        if self.fails.take() {
            return Poll::Ready(Some(Err("scripted")));
        }
        Poll::Ready(self.left.pop_front().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.knows_its_end && self.left.is_empty()
    }
}

/// The plain model: no atomics, no futures.
struct Model {
    limit: usize,
    percent: usize,
    admitted: usize,
    refused: usize,
    peak: usize,
    /// The units that each permit holds.
    permits: Vec<usize>,
    pending: Vec<usize>,
    /// For each body: the frames left, whether it knows its end, and the units that it still holds.
    bodies: Vec<(usize, bool, usize)>,
}

impl Model {
    fn in_flight(&self) -> usize {
        let bodies = self.bodies.iter().map(|(.., held)| held);
        bodies.chain(&self.pending).chain(&self.permits).sum()
    }

    /// Returns the units that a request takes if it is admitted: at most the cap.
    fn admits(&mut self, cost: usize) -> Option<usize> {
        let cap = (self.limit * self.percent / 100).max(1);
        let held = cost.min(cap);
        let in_flight = self.in_flight() + held;
        let admits = in_flight <= cap;
        self.admitted += usize::from(admits);
        self.refused += usize::from(!admits);
        if admits {
            self.peak = self.peak.max(in_flight);
        }
        admits.then_some(held)
    }

    /// Reads one frame of a body.
    fn read(&mut self, at: usize) {
        let (left, knows_its_end, held) = &mut self.bodies[at];
        let was_at_its_end = *left == 0;
        *left = left.saturating_sub(1);
        if was_at_its_end || (*knows_its_end && *left == 0) {
            *held = 0;
        }
    }
}

/// A request without a head yet, and the remote that ends it.
type Pending = (Pin<Box<ResponseFuture<Inner, Empty<Bytes>>>>, Remote);

type Responded = Result<Response<ResponseBody<Frames>>, &'static str>;

struct System {
    budget: Budget,
    handle: Handle,
    inner: Inner,
    services: Vec<LoadShedService<Inner>>,
    pending: Vec<Pending>,
    bodies: Vec<Pin<Box<ResponseBody<Frames>>>>,
    permits: Vec<Permit>,
    model: Model,
}

fn pick<T>(of: &[T], at: usize) -> Option<usize> {
    at.checked_rem(of.len())
}

impl System {
    fn new() -> Self {
        let budget = Budget::fixed(5);
        let layer = LoadShed::ratio(0.8)
            .budget(&budget)
            .cost(|head| head.extensions().get().copied().unwrap_or(1));
        let inner = Inner::default();
        Self {
            handle: layer.handle(),
            services: vec![layer.layer(inner.clone())],
            budget,
            inner,
            pending: Vec::new(),
            bodies: Vec::new(),
            permits: Vec::new(),
            model: Model {
                limit: 5,
                percent: 80,
                admitted: 0,
                refused: 0,
                peak: 0,
                permits: Vec::new(),
                pending: Vec::new(),
                bodies: Vec::new(),
            },
        }
    }

    fn apply(&mut self, op: Op) {
        let mut cx = Context::from_waker(Waker::noop());
        match op {
            Op::Admit(cost) => self.admit(cost),
            Op::CallPanics => self.call_panics(),
            Op::PollOnce(at) => {
                if let Some(at) = pick(&self.pending, at) {
                    assert!(self.pending[at].0.as_mut().poll(&mut cx).is_pending());
                }
            }
            Op::FinishHead(at, script) => {
                if let Some((held, Ok(response))) = self.finish(at, Next::Answer(script)) {
                    self.bodies.push(Box::pin(response.into_body()));
                    let Script {
                        frames,
                        knows_its_end,
                    } = script;
                    let at_its_end = frames == 0 && knows_its_end;
                    let held = if at_its_end { 0 } else { held };
                    self.model.bodies.push((frames, knows_its_end, held));
                }
            }
            Op::InnerError(at) => {
                if let Some((_, result)) = self.finish(at, Next::Fail) {
                    assert_eq!(result.unwrap_err(), "scripted");
                }
            }
            Op::Panic(at) => {
                let finished = catch_unwind(AssertUnwindSafe(|| self.finish(at, Next::Panic)));
                assert!(matches!(finished, Err(_) | Ok(None)));
            }
            Op::DropFuture(at) => {
                if let Some(at) = pick(&self.pending, at) {
                    drop(self.pending.swap_remove(at));
                    self.model.pending.swap_remove(at);
                }
            }
            Op::FrameRead(at) => {
                if let Some(at) = pick(&self.bodies, at) {
                    let _ = self.bodies[at].as_mut().poll_frame(&mut cx);
                    self.model.read(at);
                }
            }
            Op::BodyEnd(at) => {
                if let Some(at) = pick(&self.bodies, at) {
                    let mut body = self.bodies.swap_remove(at);
                    while let Poll::Ready(Some(_)) = body.as_mut().poll_frame(&mut cx) {}
                    self.model.bodies.swap_remove(at);
                    self.invariants();
                }
            }
            Op::BodyError(at) => {
                if let Some(at) = pick(&self.bodies, at) {
                    FAIL.with(|fail| *fail.borrow_mut() = true);
                    let frame = self.bodies[at].as_mut().poll_frame(&mut cx);
                    assert!(matches!(frame, Poll::Ready(Some(Err("scripted")))));
                    self.model.bodies[at].2 = 0;
                }
            }
            Op::DropBody(at) => {
                if let Some(at) = pick(&self.bodies, at) {
                    drop(self.bodies.swap_remove(at));
                    self.model.bodies.swap_remove(at);
                }
            }
            Op::TakePermit(cost) => {
                let threshold = Threshold::ratio(self.model.percent as f64 / 100.0);
                let permit = self.budget.try_acquire_many(cost, threshold);
                let held = self.model.admits(cost);
                assert_eq!(permit.is_ok(), held.is_some());
                if let (Ok(permit), Some(held)) = (permit, held) {
                    self.model.permits.push(held);
                    self.permits.push(permit);
                }
            }
            Op::DropPermit(at) => {
                if let Some(at) = pick(&self.permits, at) {
                    drop(self.permits.swap_remove(at));
                    self.model.permits.swap_remove(at);
                }
            }
            Op::SetLimit(limit) => {
                self.budget.set_limit(limit).unwrap();
                self.model.limit = limit;
            }
            Op::SetRatio(percent) => {
                self.handle.set_ratio(percent as f64 / 100.0).unwrap();
                self.model.percent = percent;
            }
            Op::CloneService => {
                let clone = self.services[0].clone();
                self.services.insert(0, clone);
            }
        }
    }

    fn admit(&mut self, cost: usize) {
        let mut request = Request::new(Empty::<Bytes>::new());
        request.extensions_mut().insert(cost);
        let mut future = Box::pin(self.services[0].call(request));
        if let Some(held) = self.model.admits(cost) {
            let remote = self
                .inner
                .remotes
                .borrow_mut()
                .pop()
                .expect("it was called");
            self.pending.push((future, remote));
            self.model.pending.push(held);
            return;
        }
        assert!(
            self.inner.remotes.borrow().is_empty(),
            "a refused request was called"
        );
        let refused = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Ok(response)) = refused else {
            panic!("a refusal is ready at once");
        };
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    }

    fn call_panics(&mut self) {
        *self.inner.call_panics.borrow_mut() = true;
        let service = &mut self.services[0];
        let called = catch_unwind(AssertUnwindSafe(|| {
            drop(service.call(Request::new(Empty::<Bytes>::new())))
        }));
        assert_eq!(called.is_err(), self.model.admits(1).is_some());
        self.inner.call_panics.take();
    }

    /// Polls one pending request to its end, as `next` says. Returns the units that it held, too.
    fn finish(&mut self, at: usize, next: Next) -> Option<(usize, Responded)> {
        let at = pick(&self.pending, at)?;
        let (mut future, remote) = self.pending.swap_remove(at);
        let held = self.model.pending.swap_remove(at);
        *remote.borrow_mut() = next;
        match future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(result) => Some((held, result)),
            Poll::Pending => panic!("the inner future was ready"),
        }
    }

    fn invariants(&self) {
        let (model, snapshot) = (&self.model, self.budget.snapshot());
        assert_eq!(snapshot.limit, model.limit);
        assert_eq!(snapshot.in_flight, model.in_flight());
        assert_eq!(snapshot.peak_in_flight, model.peak);
        assert_eq!(snapshot.admitted, model.admitted);
        assert_eq!(snapshot.refused, model.refused);
        assert_eq!((snapshot.would_refuse, snapshot.exempt), (0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_layer_and_a_plain_model_agree_after_every_step(
        ops in prop::collection::vec(op(), 1..80),
    ) {
        // The scripted panics are not printed.
        std::panic::set_hook(Box::new(|_| {}));
        let mut system = System::new();
        let run = catch_unwind(AssertUnwindSafe(|| {
            for op in ops {
                system.apply(op);
                system.invariants();
            }
            let budget = system.budget.clone();
            drop(system);
            assert_eq!(budget.in_flight(), 0, "all is released");
        }));
        let _ = std::panic::take_hook();
        if let Err(failed) = run {
            let text = failed.downcast_ref::<String>().cloned();
            let text = text.or_else(|| failed.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            return Err(TestCaseError::fail(text.unwrap_or_default()));
        }
    }
}
