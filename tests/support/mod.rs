//! What several test files share: requests, and inner services whose every step a test holds in its hands.
#![allow(
    dead_code,
    reason = "each test file is a crate of its own and uses a part"
)]

pub(crate) mod sockets;

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    ops::RangeInclusive,
    panic::{self, AssertUnwindSafe},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
use loadshed::{
    Threshold,
    control::{Controller, Decision, Window},
};
use tokio::runtime::{self, Runtime};
use tower::Service;

pub(crate) type Req = Request<Empty<Bytes>>;

pub(crate) fn get(path: &str) -> Req {
    Request::get(path).body(Empty::new()).unwrap()
}

/// Held by tests of what the whole process shares: one of them at a time, also while it awaits, as each has a runtime of
/// its own.
pub(crate) struct Alone {
    _guard: MutexGuard<'static, ()>,
}

pub(crate) fn alone() -> Alone {
    static ALONE: Mutex<()> = Mutex::new(());
    let _guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Alone { _guard }
}

pub(crate) fn all() -> Threshold {
    Threshold::ratio(1.0)
}

/// An inner service whose body has one frame and does not tell its end: the place is held until the body is dropped.
pub(crate) fn holding() -> Scripted {
    Scripted {
        body: body([Step::Data]),
        ..Scripted::default()
    }
}

/// Calls the service and polls its future once: for what is answered at once.
pub(crate) fn answer<S: Service<Req>>(service: &mut S, request: Req) -> S::Response
where
    S::Error: fmt::Debug,
{
    let answered = service.call(request).now_or_never();
    answered.expect("it is answered at once").unwrap()
}

/// Polls until it is ready, without a runtime.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..100 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
    panic!("it is not ready after 100 polls");
}

/// What a body has to say next: a frame, an error, or that it is at its end.
pub(crate) type Next<B> = Poll<Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>>;

pub(crate) fn next_frame<B: Body + Unpin>(response: &mut Response<B>) -> Next<B> {
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(response.body_mut()).poll_frame(&mut cx)
}

pub(crate) fn is_refused<B>(response: &Response<B>) -> bool {
    response.status() == StatusCode::TOO_MANY_REQUESTS
}

/// The inner service's own error: neither `Clone` nor a standard one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) &'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Broken {}

struct OnPurpose;

pub(crate) fn panic_on_purpose() -> ! {
    panic::panic_any(OnPurpose)
}

/// Keeps the panics that a test makes on purpose out of its output.
pub(crate) fn quiet() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !info.payload().is::<OnPurpose>() {
                usual(info);
            }
        }));
    });
}

/// Runs what is to panic on purpose.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) {
    quiet();
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    let payload = result.err().expect("it panics");
    assert!(payload.is::<OnPurpose>(), "it panics for another reason");
}

/// What happens at one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Not yet. The waker is called at once.
    Wait,
    Fail,
    Panic,
    /// Only of a body.
    Data,
    /// Only of a body.
    Trailers,
}

/// An inner service that does what its script says, and is ready and answers where the script is at its end.
#[derive(Clone, Default)]
pub(crate) struct Scripted {
    pub(crate) ready: VecDeque<Step>,
    pub(crate) call_panics: bool,
    pub(crate) poll: VecDeque<Step>,
    /// The drop of the future, if it was made.
    pub(crate) drop_panics: bool,
    pub(crate) body: ScriptedBody,
    /// The drop of the body, once the head is out.
    pub(crate) body_drop_panics: bool,
}

impl Service<Req> for Scripted {
    type Response = Response<ScriptedBody>;
    type Error = Broken;
    type Future = ScriptedFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        turn(&mut self.ready, cx, "not ready").map(|done| done.map(|_| ()))
    }

    fn call(&mut self, _: Req) -> ScriptedFuture {
        if self.call_panics {
            panic_on_purpose();
        }
        ScriptedFuture {
            poll: self.poll.clone(),
            body: Some(self.body.clone()),
            drop_panics: self.drop_panics,
            body_drop_panics: self.body_drop_panics,
        }
    }
}

pub(crate) struct ScriptedFuture {
    poll: VecDeque<Step>,
    body: Option<ScriptedBody>,
    drop_panics: bool,
    body_drop_panics: bool,
}

impl Future for ScriptedFuture {
    type Output = Result<Response<ScriptedBody>, Broken>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        turn(&mut self.poll, cx, "failed").map(|done| {
            let mut body = self.body.take().expect("it is not polled again");
            body.drop_panics = self.body_drop_panics && done.is_ok();
            done.map(|_| Response::new(body))
        })
    }
}

impl Drop for ScriptedFuture {
    fn drop(&mut self) {
        if self.drop_panics {
            panic_on_purpose();
        }
    }
}

fn turn(
    script: &mut VecDeque<Step>,
    cx: &mut Context<'_>,
    failure: &'static str,
) -> Poll<Result<Option<Step>, Broken>> {
    match script.pop_front() {
        Some(Step::Wait) => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        Some(Step::Fail) => Poll::Ready(Err(Broken(failure))),
        Some(Step::Panic) => panic_on_purpose(),
        other => Poll::Ready(Ok(other)),
    }
}

/// A body that does what its script says.
#[derive(Clone, Default)]
pub(crate) struct ScriptedBody {
    pub(crate) steps: VecDeque<Step>,
    /// Whether `is_end_stream` says so before a final `None`.
    pub(crate) tells_its_end: bool,
    drop_panics: bool,
}

pub(crate) fn body(steps: impl IntoIterator<Item = Step>) -> ScriptedBody {
    ScriptedBody {
        steps: steps.into_iter().collect(),
        ..ScriptedBody::default()
    }
}

pub(crate) type BoxBody = UnsyncBoxBody<Bytes, Broken>;

pub(crate) fn boxed_body(
    body: impl Body<Data = Bytes, Error = Broken> + Send + 'static,
) -> BoxBody {
    body.boxed_unsync()
}

impl ScriptedBody {
    pub(crate) fn that_tells_its_end(mut self) -> Self {
        self.tells_its_end = true;
        self
    }
}

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        turn(&mut self.steps, cx, "body failed").map(|done| match done {
            Ok(None) => None,
            Ok(Some(Step::Trailers)) => Some(Ok(Frame::trailers(HeaderMap::new()))),
            Ok(Some(_)) => Some(Ok(Frame::data(Bytes::from_static(b"data")))),
            Err(broken) => Some(Err(broken)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.tells_its_end && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(
            4 * self
                .steps
                .iter()
                .filter(|step| **step == Step::Data)
                .count() as u64,
        )
    }
}

impl Drop for ScriptedBody {
    fn drop(&mut self) {
        if self.drop_panics {
            panic_on_purpose();
        }
    }
}

/// Ready only when told so, and counts how often it is asked and cloned.
#[derive(Debug)]
pub(crate) struct Gate<S> {
    inner: S,
    pub(crate) seen: Arc<GateSeen>,
}

#[derive(Debug, Default)]
pub(crate) struct GateSeen {
    pub(crate) open: AtomicBool,
    pub(crate) asked: AtomicUsize,
    pub(crate) cloned: AtomicUsize,
}

impl<S> Gate<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self {
            inner,
            seen: Arc::default(),
        }
    }
}

impl<S: Clone> Clone for Gate<S> {
    fn clone(&self) -> Self {
        self.seen.cloned.fetch_add(1, Ordering::Relaxed);
        Self {
            inner: self.inner.clone(),
            seen: Arc::clone(&self.seen),
        }
    }
}

impl<S: Service<Req>> Service<Req> for Gate<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.seen.asked.fetch_add(1, Ordering::Relaxed);
        if self.seen.open.load(Ordering::Relaxed) {
            return self.inner.poll_ready(cx);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn call(&mut self, request: Req) -> S::Future {
        self.inner.call(request)
    }
}

/// Its clock moves by hand.
pub(crate) fn paused() -> Runtime {
    let mut runtime = runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap()
}

#[derive(PartialEq, Eq)]
enum Asked {
    OnSamples,
    Always,
}

/// A control law from a closure. It is asked whenever a measured request has finished, unless it is told otherwise.
pub(crate) struct Law {
    limits: RangeInclusive<usize>,
    initial: usize,
    window: Duration,
    asked: Asked,
    update: Box<dyn FnMut(&Window<'_>) -> usize + Send>,
}

impl Law {
    pub(crate) fn new(
        limits: RangeInclusive<usize>,
        initial: usize,
        update: impl FnMut(&Window<'_>) -> usize + Send + 'static,
    ) -> Self {
        Self {
            limits,
            initial,
            window: Duration::ZERO,
            asked: Asked::OnSamples,
            update: Box::new(update),
        }
    }

    /// Also when a measured request is admitted, and when one is refused.
    pub(crate) fn always(mut self) -> Self {
        self.asked = Asked::Always;
        self
    }

    pub(crate) fn every(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }
}

impl fmt::Debug for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Law").finish_non_exhaustive()
    }
}

impl Controller for Law {
    fn limits(&self) -> RangeInclusive<usize> {
        self.limits.clone()
    }

    fn initial_limit(&self) -> usize {
        self.initial
    }

    fn window(&self) -> Duration {
        self.window
    }

    fn update(&mut self, window: &Window<'_>) -> Decision {
        if self.asked == Asked::OnSamples && window.samples.is_empty() {
            return Decision::new(window.limit, "nothing has finished");
        }
        Decision::new((self.update)(window), "test")
    }
}
