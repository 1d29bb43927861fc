//! Shared by several test files: requests, inner services that follow a script, and controllers from closures.
#![allow(
    dead_code,
    reason = "each test file is a crate of its own and uses a part"
)]

pub(crate) mod sockets;

use std::{
    collections::VecDeque,
    convert::Infallible,
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
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use loadshed::{
    Threshold,
    control::{Controller, Decision, Learned, Window},
};
use tokio::{
    runtime::{self, Runtime},
    sync::Semaphore,
    time::sleep,
};
use tower::Service;

pub(crate) type Req = Request<Empty<Bytes>>;

pub(crate) fn get(path: &str) -> Req {
    Request::get(path).body(Empty::new()).unwrap()
}

/// Returns a service with so many workers that take so long for a request each. A cancelled request leaves no work behind.
pub(crate) fn pool(
    workers: usize,
    work: Duration,
) -> impl Service<Req, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send> + Clone {
    let workers = Arc::new(Semaphore::new(workers));
    tower::service_fn(move |_| {
        let workers = Arc::clone(&workers);
        async move {
            let _worker = workers.acquire_owned().await;
            sleep(work).await;
            Ok(Response::new(Full::new(Bytes::new())))
        }
    })
}

/// Held by tests of process-wide state, which run one at a time. It is held across awaits, as each test has its own runtime.
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

/// An inner service whose body has one frame and does not announce its end: the permit is held until the body is dropped.
pub(crate) fn holding() -> Scripted {
    Scripted {
        body: body([Step::Data]),
        ..Scripted::default()
    }
}

/// Calls the service and polls its future once; the response must be ready.
pub(crate) fn answer<S: Service<Req>>(service: &mut S, request: Req) -> S::Response
where
    S::Error: fmt::Debug,
{
    let response = service.call(request).now_or_never();
    response.expect("the response is ready at once").unwrap()
}

/// Polls the future until it is ready, without a runtime.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..100 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
    panic!("the future is not ready after 100 polls");
}

/// The result of a poll of a body: a frame, an error, or its end.
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

/// Suppresses the output of panics that a test causes on purpose.
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

/// Runs a closure that panics on purpose, and catches the panic.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) {
    quiet();
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    let payload = result.err().expect("the closure panics");
    assert!(payload.is::<OnPurpose>(), "the closure panics on purpose");
}

/// One step of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Pending. The waker is called at once.
    Wait,
    Fail,
    Panic,
    /// Only for a body.
    Data,
    /// Only for a body.
    Trailers,
}

/// An inner service that follows a script. At the end of the script it is ready and responds.
#[derive(Clone, Default)]
pub(crate) struct Scripted {
    pub(crate) ready: VecDeque<Step>,
    pub(crate) call_panics: bool,
    pub(crate) poll: VecDeque<Step>,
    /// Whether the drop of the future panics, if the future was created.
    pub(crate) drop_panics: bool,
    pub(crate) body: ScriptedBody,
    /// Whether the drop of the body panics, after the response head.
    pub(crate) body_drop_panics: bool,
}

impl Service<Req> for Scripted {
    type Response = Response<ScriptedBody>;
    type Error = Broken;
    type Future = ScriptedFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        next_step(&mut self.ready, cx, "not ready").map(|done| done.map(|_| ()))
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
        next_step(&mut self.poll, cx, "failed").map(|done| {
            let mut body = self.body.take().expect("the future is not polled again");
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

fn next_step(
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

/// A body that follows a script.
#[derive(Clone, Default)]
pub(crate) struct ScriptedBody {
    pub(crate) steps: VecDeque<Step>,
    /// Whether `is_end_stream` reports the end before a final `None`.
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
        next_step(&mut self.steps, cx, "body failed").map(|done| match done {
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

/// A service that is ready only while its gate is open, and counts polls for readiness and clones.
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

/// A runtime with a paused clock.
pub(crate) fn paused() -> Runtime {
    let mut runtime = runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap()
}

#[derive(PartialEq, Eq)]
enum Asked {
    OnSamples,
    Always,
}

/// A controller from a closure. By default, the closure is called whenever a measured request has finished.
pub(crate) struct FnController {
    limits: RangeInclusive<usize>,
    initial: usize,
    window: Duration,
    asked: Asked,
    update: Box<dyn FnMut(&Window<'_>) -> usize + Send>,
    learned: Box<dyn Fn() -> Option<Learned> + Send>,
}

impl FnController {
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
            learned: Box::new(|| None),
        }
    }

    /// Shows what the closure returns as learned.
    pub(crate) fn learned(
        mut self,
        learned: impl Fn() -> Option<Learned> + Send + 'static,
    ) -> Self {
        self.learned = Box::new(learned);
        self
    }

    /// Calls the closure also when a measured request is admitted, and when a request is refused.
    pub(crate) fn always(mut self) -> Self {
        self.asked = Asked::Always;
        self
    }

    pub(crate) fn every(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }
}

impl fmt::Debug for FnController {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnController").finish_non_exhaustive()
    }
}

impl Controller for FnController {
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
            return Decision::new(window.limit, "no samples");
        }
        Decision::new((self.update)(window), "test")
    }

    fn learned(&self) -> Option<Learned> {
        (self.learned)()
    }
}
