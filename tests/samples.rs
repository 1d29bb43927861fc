//! Promises 14 and 15: what a control law is shown, and what becomes of what it says.

mod support;

use std::{
    collections::BTreeSet,
    fmt::Debug,
    future::{Ready, ready},
    mem,
    ops::RangeInclusive,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, StreamBody};
use loadshed::{
    Budget, LoadShed, Measure, Threshold,
    control::{Controller, Decision, Outcome, Sample, Window},
};
use tokio::time::{Instant, advance, sleep, timeout};
use tower::{Layer, Service, service_fn};

use support::{
    Broken, Law, Req, Scripted, Step, answer, body, boxed_body, caught, get, holding, is_refused,
    next_frame, panic_on_purpose, quiet, run,
};

/// A law that keeps what it is shown, and leaves the limit where it is.
#[derive(Debug)]
struct Recorder {
    window: Duration,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    samples: Vec<Sample>,
    windows: Vec<Figures>,
}

/// What a window says beside its samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Figures {
    elapsed: Duration,
    in_flight: usize,
    completed: usize,
    refused: usize,
}

const LIMIT: usize = 100;

impl Controller for Recorder {
    fn limits(&self) -> RangeInclusive<usize> {
        1..=1_000
    }

    fn initial_limit(&self) -> usize {
        LIMIT
    }

    fn window(&self) -> Duration {
        self.window
    }

    fn update(&mut self, window: &Window<'_>) -> Decision {
        let mut seen = self.seen.lock().unwrap();
        seen.samples.extend(window.samples);
        seen.windows.push(Figures {
            elapsed: window.elapsed,
            in_flight: window.in_flight,
            completed: window.completed,
            refused: window.refused,
        });
        Decision::new(window.limit, "recorded")
    }
}

struct Recorded {
    budget: Budget,
    seen: Arc<Mutex<Seen>>,
}

impl Recorded {
    /// Whatever happens closes a window.
    fn new() -> Self {
        Self::every(Duration::ZERO)
    }

    fn every(window: Duration) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let law = Recorder {
            window,
            seen: Arc::clone(&seen),
        };
        Self {
            budget: Budget::new(law),
            seen,
        }
    }

    /// What the law was shown since this was asked last.
    fn samples(&self) -> Vec<Sample> {
        mem::take(&mut self.seen.lock().unwrap().samples)
    }

    /// The windows since this was asked last.
    fn windows(&self) -> Vec<Figures> {
        mem::take(&mut self.seen.lock().unwrap().windows)
    }

    fn caps(&self) -> Vec<usize> {
        self.samples().iter().map(|sample| sample.cap).collect()
    }
}

// ---- 14: the cap

#[test]
fn p14_a_sample_tells_up_to_how_many_it_was_admitted() {
    let law = Recorded::new();
    for (threshold, limit, cap) in [
        (Threshold::ratio(0.5), 100, 50),
        (Threshold::ratio(0.85), 100, 85),
        (Threshold::ratio(0.85), 199, 169),
        (Threshold::ratio(1.0), 199, 199),
        (Threshold::ratio(0.001), 10, 1),
        (Threshold::NEVER, 7, 7),
    ] {
        law.budget.set_limit(limit).unwrap();
        let shed = LoadShed::observe().budget(&law.budget);
        let mut service = shed.threshold(move |_| threshold).layer(holding());
        drop(answer(&mut service, get("/")));
        drop(law.budget.try_acquire(threshold).unwrap());
        let samples = law.samples();
        assert_eq!(samples.len(), 2);
        for sample in samples {
            let told = (sample.in_flight, sample.limit, sample.cap);
            assert_eq!(told, (1, limit, cap), "{threshold:?}");
        }
    }
}

#[test]
fn p14_the_lowest_of_the_ratios_that_a_request_has_passed_is_the_one_it_tells() {
    let law = Recorded::new();
    let shed = |ratio| LoadShed::ratio(ratio).budget(&law.budget);
    let observe = LoadShed::observe().budget(&law.budget);
    let exempt = LoadShed::observe()
        .budget(&law.budget)
        .threshold(|_| Threshold::EXEMPT);
    let inner = holding;
    assert_eq!(caps(&law, observe.layer(shed(0.85).layer(inner()))), [85]);
    assert_eq!(caps(&law, shed(0.5).layer(shed(0.85).layer(inner()))), [50]);
    let three = observe.layer(shed(0.9).layer(shed(0.3).layer(inner())));
    assert_eq!(caps(&law, three), [30]);
    assert_eq!(caps(&law, shed(0.5).layer(exempt.layer(inner()))), [50]);

    // Where the inner layer decides later than in `call`.
    let route = shed(0.85).layer(inner());
    let app = service_fn(move |request| {
        let mut route = route.clone();
        async move {
            tokio::task::yield_now().await;
            route.call(request).await
        }
    });
    let mut app = observe.layer(app);
    drop(run(app.call(get("/"))));
    assert_eq!(law.caps(), [85]);
}

fn caps<S: Service<Req, Error: Debug>>(law: &Recorded, mut service: S) -> Vec<usize> {
    drop(answer(&mut service, get("/")));
    law.caps()
}

// ---- windows

const WINDOW: Duration = Duration::from_millis(100);

#[tokio::test(start_paused = true)]
async fn p14_where_everything_hangs_refusals_alone_close_windows() {
    let law = Recorded::every(WINDOW);
    let mut service = LoadShed::ratio(0.03).budget(&law.budget).layer(holding());
    let _hung = [(); 3].map(|()| law.budget.try_acquire(Threshold::NEVER));
    for refused_in_it in [3, 5, 2] {
        for _ in 1..refused_in_it {
            assert!(is_refused(&answer(&mut service, get("/"))));
        }
        assert_eq!(law.windows(), [], "it is not over yet");
        advance(WINDOW).await;
        assert!(is_refused(&answer(&mut service, get("/"))));
        let figures = Figures {
            elapsed: WINDOW,
            in_flight: 3,
            completed: 0,
            refused: refused_in_it,
        };
        assert_eq!(law.windows(), [figures]);
    }
    assert_eq!(law.samples(), [], "a refusal is no sample");
}

#[tokio::test(start_paused = true)]
async fn p14_whoever_is_refused_closes_a_window_that_is_over() {
    let law = Recorded::every(WINDOW);
    let _held = law.budget.try_acquire(Threshold::NEVER).unwrap();
    law.windows();
    let shed = LoadShed::ratio(0.01).budget(&law.budget);
    let one_window = || {
        let windows = law.windows();
        assert_eq!(windows.len(), 1, "{windows:?}");
    };

    advance(WINDOW).await;
    assert!(law.budget.try_acquire(Threshold::ratio(0.01)).is_err());
    one_window();
    advance(WINDOW).await;
    assert!(is_refused(&answer(&mut shed.layer(holding()), get("/"))));
    one_window();
    advance(WINDOW).await;
    let mut dry = shed.dry_run(true).layer(holding());
    assert!(!is_refused(&answer(&mut dry, get("/"))));
    one_window();
}

#[tokio::test(start_paused = true)]
async fn p14_an_admission_closes_a_window_in_which_nothing_has_finished() {
    let law = Recorded::every(WINDOW);
    let mut service = LoadShed::ratio(1.0).budget(&law.budget).layer(holding());
    let mut hung = Vec::new();
    for in_flight in 1..5 {
        advance(WINDOW).await;
        hung.push(law.budget.try_acquire(Threshold::NEVER).unwrap());
        let figures = Figures {
            elapsed: WINDOW,
            in_flight,
            completed: 0,
            refused: 0,
        };
        assert_eq!(law.windows(), [figures]);
    }
    advance(WINDOW).await;
    drop(answer(&mut service, get("/")));
    assert_eq!(law.windows().len(), 1);
}

// ---- 14: what is no sample

fn outcomes(samples: &[Sample]) -> Vec<(Outcome, u128)> {
    let told = |sample: &Sample| (sample.outcome, sample.latency.as_millis());
    samples.iter().map(told).collect()
}

#[tokio::test(start_paused = true)]
async fn p14_refusals_exempt_requests_and_verdicts_of_a_dry_run_are_no_samples() {
    let law = Recorded::new();
    law.budget.set_limit(1).unwrap();
    let shed = LoadShed::ratio(1.0).budget(&law.budget);
    let dry = shed.clone().dry_run(true);
    let by_path = |head: &http::Request<()>| match head.uri().path() {
        "/exempt" => Threshold::EXEMPT,
        _ => Threshold::ratio(1.0),
    };
    for layer in [&shed, &dry] {
        let held = law.budget.try_acquire(Threshold::NEVER).unwrap();
        let mut service = layer.clone().threshold(by_path).layer(holding());
        for path in ["/", "/exempt", "/"] {
            let call = service.call(get(path));
            advance(WINDOW).await;
            drop(run(call));
            // Cancelled before the answer.
            drop(service.call(get(path)));
        }
        assert!(law.budget.try_acquire(Threshold::ratio(1.0)).is_err());
        drop(law.budget.try_acquire(Threshold::EXEMPT));
        held.discard();
        assert_eq!(law.samples(), []);
        // And the same service has one when it serves.
        drop(answer(&mut service, get("/")));
        assert_eq!(outcomes(&law.samples()), [(Outcome::Success, 0)]);
    }
    let figures = law.budget.snapshot();
    assert_eq!((figures.refused, figures.would_refuse), (6, 4));
}

#[tokio::test(start_paused = true)]
async fn p14_a_request_that_is_cut_short_never_reads_as_a_fast_success() {
    let law = Recorded::new();
    let shed = LoadShed::ratio(1.0).budget(&law.budget);
    let patience = Duration::from_millis(30);
    let slow = |_: Req| async {
        sleep(Duration::from_secs(1)).await;
        Ok::<_, Broken>(Response::new(Empty::<Bytes>::new()))
    };

    // The caller goes away, of its own or by a timeout outside.
    let mut service = shed.layer(service_fn(slow));
    assert!(timeout(patience, service.call(get("/"))).await.is_err());
    assert_eq!(outcomes(&law.samples()), [(Outcome::Cancelled, 30)]);

    // A timeout inside is an error of the inner service,
    let mut service = shed.layer(service_fn(move |request| async move {
        let answered = timeout(patience, slow(request)).await;
        answered.unwrap_or(Err(Broken("too slow")))
    }));
    assert!(service.call(get("/")).await.is_err());
    assert_eq!(outcomes(&law.samples()), [(Outcome::Ignored, 30)]);

    // or an answer, as tower-http's and tonic's are.
    for too_slow in [head(408, &[]), head(200, &[GRPC, ("grpc-status", "1")])] {
        let mut service = shed.layer(service_fn(move |_: Req| {
            let too_slow = too_slow.clone();
            async move {
                sleep(patience).await;
                Ok::<_, Broken>(too_slow)
            }
        }));
        drop(service.call(get("/")).await);
        assert_eq!(outcomes(&law.samples()), [(Outcome::Cancelled, 30)]);
    }

    // One that never reaches the inner service.
    let waits = Scripted {
        ready: [Step::Wait].into(),
        ..holding()
    };
    let call = shed.layer(waits).call(get("/"));
    advance(patience).await;
    drop(call);
    assert_eq!(outcomes(&law.samples()), [(Outcome::Cancelled, 30)]);
}

#[tokio::test(start_paused = true)]
async fn p14_what_panics_is_no_sample_wherever_it_does() {
    let law = Recorded::new();
    let shed = LoadShed::ratio(1.0)
        .budget(&law.budget)
        .measure(Measure::Body);
    let in_call = Scripted {
        call_panics: true,
        ..holding()
    };
    caught(|| drop(shed.layer(in_call.clone()).call(get("/"))));
    let in_call_after_a_wait = Scripted {
        ready: [Step::Wait].into(),
        ..in_call
    };
    let in_the_future = Scripted {
        poll: [Step::Wait, Step::Panic].into(),
        ..holding()
    };
    let mut in_the_body = holding();
    in_the_body.body = body([Step::Data, Step::Panic, Step::Data]);
    for inner in [in_call_after_a_wait, in_the_future, in_the_body] {
        // As a task does: the panic is caught around the poll, and the future is dropped after.
        let mut call = Box::pin(shed.layer(inner).call(get("/")));
        caught(|| {
            let mut response = run(call.as_mut()).unwrap();
            let _ = next_frame(&mut response);
            let _ = next_frame(&mut response);
        });
        drop(call);
    }
    assert_eq!(law.samples(), []);
    assert_eq!(law.budget.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn p14_a_sample_tells_the_limit_that_it_was_admitted_under_and_not_a_newer_one() {
    let law = Recorded::new();
    let mut service = LoadShed::ratio(0.85).budget(&law.budget).layer(holding());
    let (before, older) = (Instant::now(), service.call(get("/")));
    advance(WINDOW).await;
    law.budget.set_limit(20).unwrap();
    let (after, newer) = (Instant::now(), service.call(get("/")));
    advance(WINDOW).await;
    drop((run(newer), run(older)));

    let [newer, older] = law.samples().try_into().expect("two");
    assert_eq!((newer.limit, newer.cap, newer.in_flight), (20, 17, 2));
    assert_eq!((newer.admitted_at, newer.latency), (after, WINDOW));
    assert_eq!((older.limit, older.cap, older.in_flight), (100, 85, 1));
    assert_eq!((older.admitted_at, older.latency), (before, 2 * WINDOW));
}

#[test]
fn p14_an_admission_that_has_the_limit_moved_is_told_with_the_one_before() {
    let samples = Arc::<Mutex<Vec<Sample>>>::default();
    let law = {
        let samples = Arc::clone(&samples);
        Law::new(1..=9, 4, move |window| {
            samples.lock().unwrap().extend(window.samples);
            window.limit + 1
        })
    };
    let budget = Budget::new(law.always());
    drop(budget.try_acquire(Threshold::NEVER).unwrap());
    assert_eq!(budget.limit(), 6, "at the admission, and at the end");
    assert_eq!(samples.lock().unwrap()[0].limit, 4);
}

// ---- outcomes

/// Answers as told.
fn answers<B: Body + Clone>(
    response: Response<B>,
) -> impl Service<Req, Response = Response<B>, Error = Broken, Future = Answered<B>> + Clone {
    service_fn(move |_: Req| ready(Ok(response.clone())))
}

type Answered<B> = Ready<Result<Response<B>, Broken>>;

fn head(status: u16, headers: &[(&'static str, &'static str)]) -> Response<Empty<Bytes>> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Empty::new()).unwrap()
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

#[test]
fn p14_a_response_tells_by_its_head_how_it_has_ended() {
    let law = Recorded::new();
    let shed = LoadShed::ratio(1.0).budget(&law.budget);
    for (response, outcome) in [
        (head(200, &[]), Outcome::Success),
        (head(404, &[]), Outcome::Success),
        (head(500, &[]), Outcome::Ignored),
        (head(503, &[]), Outcome::Overload),
        (head(504, &[]), Outcome::Overload),
        (head(200, &[GRPC]), Outcome::Success),
        (head(200, &[GRPC, ("grpc-status", "0")]), Outcome::Success),
        (head(200, &[GRPC, ("grpc-status", "5")]), Outcome::Success),
        (head(200, &[GRPC, ("grpc-status", "13")]), Outcome::Ignored),
        (head(200, &[GRPC, ("grpc-status", "8")]), Outcome::Overload),
        (head(200, &[GRPC, ("grpc-status", "14")]), Outcome::Overload),
        (head(200, &[GRPC, ("grpc-status", "4")]), Outcome::Overload),
    ] {
        let text = format!("{response:?}");
        drop(answer(&mut shed.layer(answers(response)), get("/")));
        assert_eq!(outcomes(&law.samples()), [(outcome, 0)], "{text}");
    }
    let fails = Scripted {
        poll: [Step::Fail].into(),
        ..holding()
    };
    let _ = run(shed.layer(fails).call(get("/")));
    assert_eq!(outcomes(&law.samples()), [(Outcome::Ignored, 0)]);
}

#[test]
fn p14_a_closure_says_how_a_request_has_ended_where_it_knows_better() {
    quiet();
    let law = Recorded::new();
    let shed = LoadShed::ratio(1.0).budget(&law.budget).outcome(|head| {
        match head.headers().get("x-state")?.to_str().ok()? {
            "overload" => Some(Outcome::Overload),
            "ignored" => Some(Outcome::Ignored),
            "fine" => Some(Outcome::Success),
            "panics" => panic_on_purpose(),
            _ => None,
        }
    });
    for (status, state, outcome) in [
        (200, "overload", Outcome::Overload),
        (200, "ignored", Outcome::Ignored),
        (503, "fine", Outcome::Success),
        (503, "unknown", Outcome::Overload),
        (503, "panics", Outcome::Overload),
        (200, "panics", Outcome::Success),
    ] {
        let inner = answers(head(status, &[("x-state", state)]));
        let response = answer(&mut shed.layer(inner), get("/"));
        assert_eq!(outcomes(&law.samples()), [(outcome, 0)], "{status} {state}");
        // The caller gets the whole head.
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["x-state"], state);
    }
}

#[test]
fn p14_a_closure_sees_the_whole_head_and_is_not_asked_about_refusals_and_errors() {
    #[derive(Clone, Debug, PartialEq)]
    struct Mark(u8);

    let law = Recorded::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let shed = {
        let asked = Arc::clone(&asked);
        LoadShed::ratio(1.0)
            .budget(&law.budget)
            .outcome(move |head| {
                asked.fetch_add(1, Ordering::Relaxed);
                assert_eq!(head.status(), 201);
                assert_eq!(head.version(), Version::HTTP_2);
                assert_eq!(head.headers().get_all("x-twice").iter().count(), 2);
                assert_eq!(head.extensions().get(), Some(&Mark(7)));
                Some(Outcome::Ignored)
            })
    };
    let mut response = head(201, &[("x-twice", "a"), ("x-twice", "b")]);
    *response.version_mut() = Version::HTTP_2;
    response.extensions_mut().insert(Mark(7));
    let served = answer(&mut shed.layer(answers(response)), get("/"));
    assert_eq!(outcomes(&law.samples()), [(Outcome::Ignored, 0)]);
    assert_eq!(served.extensions().get(), Some(&Mark(7)));
    assert_eq!(served.version(), Version::HTTP_2);

    let full = Budget::fixed(1);
    let _held = full.try_acquire(Threshold::NEVER);
    let refuses = LoadShed::ratio(1.0).budget(&full).layer(holding());
    assert!(is_refused(&answer(&mut shed.layer(refuses), get("/"))));
    assert_eq!(law.samples(), []);
    let fails = Scripted {
        poll: [Step::Fail].into(),
        ..holding()
    };
    let _ = run(shed.layer(fails).call(get("/")));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[test]
fn p14_the_outermost_layer_of_a_budget_says_how_a_request_has_ended() {
    let law = Recorded::new();
    let saying = |outcome| {
        let shed = LoadShed::ratio(1.0).budget(&law.budget);
        shed.outcome(move |_| Some(outcome))
    };
    let inner = saying(Outcome::Overload).layer(holding());
    drop(answer(&mut saying(Outcome::Success).layer(inner), get("/")));
    assert_eq!(outcomes(&law.samples()), [(Outcome::Success, 0)]);
}

// ---- to the end of the body

const FRAME: Duration = Duration::from_millis(10);

#[derive(Clone, Copy)]
enum Sends {
    Data,
    Failure,
    /// With this gRPC status.
    Trailers(&'static str),
}

use Sends::{Data, Failure, Trailers};

impl Sends {
    async fn frame(self) -> Result<Frame<Bytes>, Broken> {
        sleep(FRAME).await;
        match self {
            Data => Ok(Frame::data(Bytes::from_static(b"data"))),
            Failure => Err(Broken("body failed")),
            Trailers(code) => {
                let status = HeaderName::from_static("grpc-status");
                let code = HeaderValue::from_static(code);
                Ok(Frame::trailers(HeaderMap::from_iter([(status, code)])))
            }
        }
    }
}

/// Serves a head and a body that take as long as [`FRAME`] each and for each frame. The body neither knows its length nor
/// tells its end. Reads as many frames as there are, or as are wanted, and tells how the request is said to have ended.
async fn read<const N: usize>(
    law: &Recorded,
    measure: Measure,
    headers: &'static [(&'static str, &'static str)],
    sends: [Sends; N],
    wanted: usize,
) -> Vec<(Outcome, u128)> {
    let shed = LoadShed::ratio(1.0).budget(&law.budget).measure(measure);
    let mut service = shed.layer(service_fn(move |_: Req| async move {
        sleep(FRAME).await;
        let frames = stream::iter(sends).then(Sends::frame);
        let body = boxed_body(StreamBody::new(frames));
        Ok::<_, Broken>(head(200, headers).map(|_| body))
    }));
    let mut body = service.call(get("/")).await.unwrap().into_body();
    for _ in 0..wanted {
        if !matches!(body.frame().await, Some(Ok(_))) {
            break;
        }
    }
    // A server that has all it has announced asks for no more.
    sleep(FRAME).await;
    drop(body);
    outcomes(&law.samples())
}

const ALL: usize = usize::MAX;

#[tokio::test(start_paused = true)]
async fn p14_a_latency_is_measured_to_the_head_unless_told_otherwise() {
    let law = Recorded::new();
    assert_eq!(Measure::default(), Measure::Head);
    let to_the_head = [(Outcome::Success, 10)];
    for wanted in [0, 1, ALL] {
        let seen = read(&law, Measure::Head, &[], [Data, Data], wanted).await;
        assert_eq!(seen, to_the_head, "{wanted} frames are read");
    }
    let seen = read(&law, Measure::Head, &[], [Data, Failure], ALL).await;
    assert_eq!(seen, to_the_head);
    let seen = read(&law, Measure::Head, &[GRPC], [Data, Trailers("8")], ALL).await;
    assert_eq!(seen, to_the_head, "its status comes too late");
}

#[tokio::test(start_paused = true)]
async fn p14_a_latency_is_measured_to_the_end_of_the_body_if_told_so() {
    let law = Recorded::new();
    let read = async |sends, wanted| read(&law, Measure::Body, &[], sends, wanted).await;
    let seen = read([Data, Data, Data], ALL).await;
    assert_eq!(seen, [(Outcome::Success, 40)]);
    let seen = read([Data, Data, Data], 2).await;
    assert_eq!(seen, [(Outcome::Cancelled, 40)], "it is dropped after two");
    let seen = read([Data, Data, Data], 0).await;
    assert_eq!(seen, [(Outcome::Cancelled, 20)], "it is dropped unread");
    let seen = read([Data, Failure, Data], ALL).await;
    assert_eq!(seen, [(Outcome::Ignored, 30)]);
}

#[tokio::test(start_paused = true)]
async fn p14_a_body_that_is_dropped_at_its_announced_length_is_no_cancellation() {
    let law = Recorded::new();
    const LENGTH_12: &[(&str, &str)] = &[("content-length", "12")];
    let seen = read(&law, Measure::Body, LENGTH_12, [Data; 3], 3).await;
    assert_eq!(seen, [(Outcome::Success, 40)]);
    let seen = read(&law, Measure::Body, LENGTH_12, [Data; 3], 2).await;
    assert_eq!(seen, [(Outcome::Cancelled, 40)]);
    let seen = read(
        &law,
        Measure::Body,
        &[("content-length", "0")],
        [Data; 3],
        0,
    )
    .await;
    assert_eq!(seen, [(Outcome::Success, 10)]);

    // The body's own length, where no header has it.
    let mut service = LoadShed::ratio(1.0)
        .budget(&law.budget)
        .measure(Measure::Body)
        .layer(holding());
    let mut response = answer(&mut service, get("/"));
    assert!(next_frame(&mut response).is_ready());
    assert_eq!(outcomes(&law.samples()), [(Outcome::Success, 0)]);
    drop(response);
    assert_eq!(law.samples(), []);
}

#[tokio::test(start_paused = true)]
async fn p14_a_body_at_its_end_from_the_start_is_measured_to_the_head() {
    let law = Recorded::new();
    let shed = LoadShed::ratio(1.0)
        .budget(&law.budget)
        .measure(Measure::Body);
    let _response = answer(&mut shed.layer(answers(head(200, &[]))), get("/"));
    assert_eq!(outcomes(&law.samples()), [(Outcome::Success, 0)]);
}

#[tokio::test(start_paused = true)]
async fn p14_a_grpc_status_behind_the_body_counts_where_the_body_is_measured() {
    let law = Recorded::new();
    for (code, outcome) in [
        ("0", Outcome::Success),
        ("5", Outcome::Success),
        ("1", Outcome::Cancelled),
        ("13", Outcome::Ignored),
        ("8", Outcome::Overload),
        ("14", Outcome::Overload),
        ("4", Outcome::Overload),
    ] {
        let seen = read(&law, Measure::Body, &[GRPC], [Data, Trailers(code)], ALL).await;
        assert_eq!(seen, [(outcome, 30)], "{code}");
    }
    // The bytes are not the end of it.
    const GRPC_OF_4: &[(&str, &str)] = &[GRPC, ("content-length", "4")];
    let seen = read(&law, Measure::Body, GRPC_OF_4, [Data, Trailers("8")], ALL).await;
    assert_eq!(seen, [(Outcome::Overload, 30)]);
    // A failure in the head is one at once.
    const FAILED: &[(&str, &str)] = &[GRPC, ("grpc-status", "8")];
    let seen = read(&law, Measure::Body, FAILED, [Data], ALL).await;
    assert_eq!(seen, [(Outcome::Overload, 10)]);
}

// ---- 15: the limit stays within its bounds

#[tokio::test(start_paused = true)]
async fn p15_whatever_a_law_decides_the_limit_stays_within_its_limits() {
    let decisions = [
        0,
        usize::MAX,
        1,
        1 << 31,
        2,
        1 << 32,
        8,
        9,
        5,
        usize::MAX,
        0,
    ];
    let mut next = decisions.into_iter().cycle();
    let law = Law::new(3..=8, 5, move |_| next.next().expect("it goes on"));
    let budget = Budget::new(law.always());
    let mut service = LoadShed::ratio(0.5).budget(&budget).layer(holding());
    let mut seen = BTreeSet::new();
    let mut held = Vec::new();
    for step in 0..200 {
        match step % 5 {
            0 | 1 => held.push(budget.try_acquire(Threshold::NEVER).unwrap()),
            2 => drop(held.pop()),
            3 => drop(answer(&mut service, get("/"))),
            _ => drop(service.call(get("/"))),
        }
        held.truncate(6);
        seen.insert(budget.limit());
        assert!((3..=8).contains(&budget.limit()), "{}", budget.limit());
    }
    assert!(seen.contains(&3) && seen.contains(&8), "{seen:?}");
    drop(held);
    assert_eq!(budget.in_flight(), 0);
}

/// The default law and one that is asked at each event, over requests that take no time, while the clock stands still.
#[tokio::test(start_paused = true)]
async fn p15_zero_latencies_and_a_clock_that_stands_still_change_nothing() {
    let law = Recorded::new();
    for budget in [Budget::adaptive(), law.budget.clone()] {
        let limit = budget.limit();
        let shed = LoadShed::ratio(1e-9).budget(&budget);
        for measure in [Measure::Head, Measure::Body] {
            let mut service = shed.clone().measure(measure).layer(holding());
            for _ in 0..2_000 {
                let mut response = answer(&mut service, get("/"));
                assert!(is_refused(&answer(&mut service, get("/"))));
                while let Poll::Ready(Some(_)) = next_frame(&mut response) {}
            }
        }
        assert_eq!((budget.limit(), budget.in_flight()), (limit, 0));
    }
    let samples = law.samples();
    assert!(samples.len() > 100, "{}", samples.len());
    assert!(samples.iter().all(|sample| sample.latency.is_zero()));
    assert!(law.windows().iter().all(|window| window.elapsed.is_zero()));
}

#[tokio::test(start_paused = true)]
async fn p15_a_window_does_not_end_while_the_clock_stands_still() {
    let law = Recorded::every(Duration::from_nanos(1));
    for _ in 0..100 {
        drop(law.budget.try_acquire(Threshold::NEVER));
    }
    assert_eq!(law.windows(), []);
    advance(Duration::from_millis(1)).await;
    drop(law.budget.try_acquire(Threshold::NEVER));
    let [window] = law.windows().try_into().expect("one");
    assert_eq!(window.elapsed, Duration::from_millis(1));
    assert_eq!(law.samples().len(), 100, "all that had finished");
}

/// A law that keeps of how many in flight it was last told that they are answered.
#[derive(Debug)]
struct CountOfAnswered(Arc<AtomicUsize>);

impl Controller for CountOfAnswered {
    fn limits(&self) -> RangeInclusive<usize> {
        1..=1_000
    }

    fn initial_limit(&self) -> usize {
        LIMIT
    }

    fn window(&self) -> Duration {
        Duration::ZERO
    }

    fn update(&mut self, window: &Window<'_>) -> Decision {
        self.0.store(window.answered, Ordering::Relaxed);
        Decision::new(window.limit, "recorded")
    }
}

#[tokio::test(start_paused = true)]
async fn p11_a_body_that_has_ended_and_is_kept_is_no_place_that_was_answered() {
    let answered = Arc::<AtomicUsize>::default();
    let budget = Budget::new(CountOfAnswered(Arc::clone(&answered)));
    let inner = service_fn(|_: Req| {
        let frame = Ok::<_, Broken>(Frame::data(Bytes::from_static(b"text")));
        let body = StreamBody::new(stream::iter([frame]));
        ready(Ok::<_, Broken>(Response::new(body)))
    });
    let mut service = LoadShed::ratio(0.85).budget(&budget).layer(inner);
    let _waiting = budget.try_acquire(Threshold::NEVER).unwrap();
    let told = || {
        drop(budget.try_acquire(Threshold::NEVER));
        (budget.in_flight(), answered.load(Ordering::Relaxed))
    };
    let mut bodies = Vec::new();
    for _ in 0..8 {
        bodies.push(service.call(get("/")).await.unwrap().into_body());
    }
    // Of nine, and a tenth that ends as the law is told.
    assert_eq!(told(), (9, 7));
    for body in &mut bodies {
        assert!(body.frame().await.is_some());
        assert!(body.frame().await.is_none());
    }
    assert_eq!(told(), (1, 0));
}
