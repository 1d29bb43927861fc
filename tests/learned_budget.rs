//! The learned budget, in virtual time and with the real layer in the path.

mod support;

use std::{cell::Cell, convert::Infallible, ops::RangeInclusive, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use loadshed::{
    Budget, LoadShed, Threshold,
    control::{Controller, Decision, Window},
};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tower::{Layer, Service};

use self::support::pool;

/// Ten workers of 100 ms: 100 requests a second.
const WORKERS: usize = 10;
const WORK: Duration = Duration::from_millis(100);
/// The client timeout. Work that is queued for a caller goes on afterwards.
const DEADLINE: Duration = Duration::from_secs(1);

/// Runs `seconds` at this rate. Returns the number of responses within the deadline over the last ten seconds, and the budget.
async fn run(rate: u32, seconds: u32) -> (usize, Budget) {
    run_with_bodies(rate, seconds, Duration::ZERO).await
}

/// The same, with bodies that take `sending` to be sent. No worker is busy meanwhile.
async fn run_with_bodies(rate: u32, seconds: u32, sending: Duration) -> (usize, Budget) {
    let workers = Arc::new(Semaphore::new(WORKERS));
    let inner = tower::service_fn(move |_: Request<Empty<Bytes>>| {
        let workers = Arc::clone(&workers);
        let work = tokio::spawn(async move {
            let _worker = workers.acquire_owned().await;
            sleep(WORK).await;
        });
        async move {
            let _ = work.await;
            let body = stream::once(async move {
                sleep(sending).await;
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"the response")))
            });
            Ok::<_, Infallible>(Response::new(StreamBody::new(body)))
        }
    });
    let budget = Budget::adaptive();
    let mut service = LoadShed::ratio(0.85).budget(&budget).layer(inner);

    let (start, gap) = (Instant::now(), Duration::from_secs(1) / rate);
    let counted_from = start + Duration::from_secs(u64::from(seconds) - 10);
    let mut callers = JoinSet::new();
    for nth in 0..rate * seconds {
        sleep_until(start + gap * nth).await;
        let call = service.call(Request::new(Empty::<Bytes>::new()));
        callers.spawn(async move {
            let Ok(Ok(answer)) = timeout(DEADLINE, call).await else {
                return false;
            };
            let served = answer.status().is_success() && Instant::now() >= counted_from;
            let _ = answer.collect().await;
            served
        });
    }
    let mut good = 0;
    while let Some(served) = callers.join_next().await {
        good += usize::from(served.unwrap());
    }
    (good, budget)
}

/// A controller that returns other limits after the first call.
#[derive(Debug)]
struct Fickle(Cell<bool>);

impl Controller for Fickle {
    fn limits(&self) -> RangeInclusive<usize> {
        if self.0.replace(true) {
            7..=usize::MAX
        } else {
            1..=10
        }
    }

    fn initial_limit(&self) -> usize {
        5
    }

    fn update(&mut self, _: &Window<'_>) -> Decision {
        Decision::new(1 << 31, "fickle")
    }
}

#[tokio::test(start_paused = true)]
async fn p25_a_controller_is_held_to_the_limits_that_it_was_checked_with() {
    let budget = Budget::new(Fickle(Cell::new(false)));
    for _ in 0..3 {
        let permit = budget.try_acquire(Threshold::NEVER_SHED);
        sleep(WORK).await;
        drop(permit);
    }
    assert_eq!((budget.limit(), budget.in_flight()), (10, 0));
}

#[tokio::test(start_paused = true)]
async fn p25_a_handler_that_panics_does_not_count_as_a_cancelled_request() {
    let budget = Budget::adaptive();
    let inner = tower::service_fn(|_: Request<Empty<Bytes>>| async {
        sleep(DEADLINE).await;
        panic!("a bug in a handler, and no overload");
        #[expect(unreachable_code, reason = "it gives the type")]
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
    });
    let mut service = LoadShed::ratio(0.85).budget(&budget).layer(inner);
    std::panic::set_hook(Box::new(|_| {}));
    for _ in 0..30 {
        let call = service.call(Request::new(Empty::new()));
        assert!(tokio::spawn(call).await.is_err());
    }
    let _ = std::panic::take_hook();
    assert_eq!((budget.limit(), budget.in_flight()), (1 << 16, 0));
}

#[tokio::test(start_paused = true)]
async fn p11_nothing_is_refused_below_capacity() {
    let (good, budget) = run(80, 60).await;
    let budget = budget.snapshot();
    assert_eq!((budget.refused, budget.in_flight), (0, 0));
    assert!(good >= 800, "{good} of 800 served");
}

#[tokio::test(start_paused = true)]
async fn p11_bodies_that_take_long_to_be_sent_do_not_count_as_a_queue() {
    for seconds in [1, 3, 30] {
        let (good, budget) = run_with_bodies(80, 120, Duration::from_secs(seconds)).await;
        let budget = budget.snapshot();
        assert_eq!((budget.refused, budget.in_flight), (0, 0), "{seconds} s");
        assert!(good >= 800, "{good} of 800 served, {seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn p12_while_long_bodies_are_sent_an_overloaded_server_goes_on_serving() {
    for seconds in [1, 3, 9] {
        let (good, budget) = run_with_bodies(300, 120, Duration::from_secs(seconds)).await;
        assert_eq!(budget.in_flight(), 0);
        assert!(good >= 930, "{good} of 1000, {seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn p12_bodies_that_are_sent_under_overload_are_1_024_beside_the_limit_at_most() {
    let (_, budget) = run_with_bodies(300, 120, Duration::from_secs(120)).await;
    let peak = budget.snapshot().peak_in_flight;
    assert!((1_024..1_300).contains(&peak), "{peak}");
}

#[tokio::test(start_paused = true)]
async fn p11_permits_that_are_held_after_the_response_do_not_count_as_a_queue() {
    let budget = Budget::adaptive();
    let mut sockets = Vec::new();
    for _ in 0..2_000 {
        let mut socket = budget.try_acquire(Threshold::ratio(0.85)).unwrap();
        sleep(Duration::from_millis(20)).await;
        socket.responded();
        sockets.push(socket);
        drop(budget.try_acquire(Threshold::ratio(0.85)).unwrap());
    }
    assert_eq!(budget.in_flight(), 2_000);
    drop(sockets);
    assert_eq!((budget.in_flight(), budget.snapshot().refused), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_never_shed_do_not_keep_a_probe_from_ending() {
    let shed = LoadShed::ratio(0.85).budget(Budget::adaptive());
    let shed = shed.threshold(|head| match head.uri().path() {
        "/never" => Threshold::NEVER_SHED,
        _ => Threshold::ratio(0.85),
    });
    let mut service = shed.layer(pool(WORKERS, WORK));
    // 90 requests a second are never shed, and 200 may be: of these, the server has capacity for 10.
    let mut served = JoinSet::new();
    let start = Instant::now();
    for nth in 0..120 * 290 {
        sleep_until(start + Duration::from_secs(1) * nth / 290).await;
        let never = nth % 29 < 9;
        let uri = if never { "/never" } else { "/" };
        let request = Request::builder().uri(uri).body(Empty::new()).unwrap();
        let call = service.call(request);
        served.spawn(async move {
            let is_served = call.await.is_ok_and(|answer| answer.status().is_success());
            is_served && !never && nth >= 60 * 290
        });
    }
    let mut good = 0;
    while let Some(is_served) = served.join_next().await {
        good += usize::from(is_served.unwrap());
    }
    assert!(good >= 500, "{good} of the 600 within capacity");
}

#[tokio::test(start_paused = true)]
async fn p13_where_a_dependency_gets_slow_a_probe_ends_above_the_requests_that_are_never_shed() {
    let workers = Arc::new(Semaphore::new(WORKERS));
    let start = Instant::now();
    let after = move |secs| Instant::now() >= start + Duration::from_secs(secs);
    let inner = tower::service_fn(move |_: Request<Empty<Bytes>>| {
        let workers = Arc::clone(&workers);
        async move {
            let worker = workers.acquire_owned().await;
            sleep(WORK).await;
            drop(worker);
            // The slow part holds no worker. From then on, 30 requests that are never shed are in flight, on 10 workers.
            sleep(Duration::from_millis(if after(30) { 500 } else { 0 })).await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
        }
    });
    let budget = Budget::adaptive();
    let shed = LoadShed::ratio(0.85).budget(&budget).except(["/never"]);
    let mut service = shed.layer(inner);
    let mut calls = JoinSet::new();
    // 50 requests a second are never shed. 20 a second may be shed, and 200 for ten seconds.
    let mut refused_before = 0;
    for step in 0..120 * 10 {
        let at = start + Duration::from_millis(100) * step;
        let rest = if (200..300).contains(&step) { 20 } else { 2 };
        if step == 900 {
            refused_before = budget.snapshot().refused;
        }
        for nth in 0..5 + rest {
            sleep_until(at + Duration::from_millis(100) * nth / (5 + rest)).await;
            let uri = if nth < 5 { "/never" } else { "/" };
            let request = Request::builder().uri(uri).body(Empty::new()).unwrap();
            calls.spawn(service.call(request));
        }
    }
    let refused = budget.snapshot().refused - refused_before;
    assert!(
        refused_before > 1_000,
        "there was no overload: {refused_before}"
    );
    assert!(refused < 60, "{refused} of 600 in the last 30 s");
}

#[tokio::test(start_paused = true)]
async fn p12_an_overloaded_server_goes_on_serving() {
    // Without shedding the queue would grow without end, and no response would be in time.
    let (good, budget) = run(300, 120).await;
    assert_eq!(budget.in_flight(), 0);
    let limit = budget.limit();
    // Ten workers and a margin, at 85 %. Or eight during a probe.
    assert!((10..30).contains(&limit), "the limit is {limit}");
    assert!(good >= 950, "{good} of 1000 that could have been served");
}

#[tokio::test(start_paused = true)]
async fn p23_every_change_of_the_limit_has_its_reason_and_its_figures() {
    let (_, budget) = run(300, 30).await;
    let changes = budget.changes();
    assert!((3..=32).contains(&changes.len()), "{changes:?}");
    assert_eq!(changes.last().unwrap().to, budget.limit());
    for pair in changes.windows(2) {
        assert!(pair[0].at <= pair[1].at && pair[0].to == pair[1].from);
    }
    for change in &changes {
        assert!(!change.reason.is_empty() && change.from != change.to);
        assert!(change.elapsed >= Duration::from_millis(10), "{change:?}");
        assert!(change.in_flight + change.completed > 0, "{change:?}");
    }
    let probes = changes.iter().filter(|change| change.reason == "probing");
    assert!(probes.count() > 0, "{changes:?}");
}

#[tokio::test(start_paused = true)]
async fn p23_a_manual_override_of_the_limit_has_the_reason_set() {
    let budget = Budget::adaptive();
    budget.set_limit(100).unwrap();
    let changes = budget.changes();
    let told = changes
        .iter()
        .map(|change| (change.from, change.to, change.reason));
    assert_eq!(told.collect::<Vec<_>>(), [(1 << 16, 100, "set")]);
    assert_eq!(Budget::fixed(3).changes(), []);
}

/// Sends this rate for 90 s to ten workers of 100 ms. The limit is set by hand in the second 20, and given back in the second 40.
/// Returns the budget's limits in the middle of each second, and the responses within the deadline over the last 40 s.
async fn with_limit_by_hand(rate: u32, by_hand: usize) -> (Vec<usize>, usize) {
    let budget = Budget::adaptive();
    let mut service = LoadShed::ratio(0.85)
        .budget(&budget)
        .layer(pool(WORKERS, WORK));
    let (start, gap) = (Instant::now(), Duration::from_secs(1) / rate);
    let (mut callers, mut limits) = (JoinSet::new(), Vec::new());
    for nth in 0..rate * 90 {
        sleep_until(start + gap * nth).await;
        let second = nth / rate;
        if nth % rate == 0 && second == 20 {
            budget.set_limit(by_hand).unwrap();
        } else if nth % rate == 0 && second == 40 {
            budget.resume_learning();
        } else if nth % rate == rate / 2 {
            limits.push(budget.limit());
        }
        let call = service.call(Request::new(Empty::<Bytes>::new()));
        callers.spawn(async move {
            let answer = timeout(DEADLINE, call).await;
            second >= 50
                && answer.is_ok_and(|answer| answer.is_ok_and(|it| it.status().is_success()))
        });
    }
    let served = callers.join_all().await;
    (limits, served.into_iter().filter(|served| *served).count())
}

#[tokio::test(start_paused = true)]
async fn p15_a_limit_that_is_set_by_hand_holds_until_it_is_given_back() {
    // Overloaded: 20 and 400 where some 15 are right. Lightly loaded: 10.
    for (rate, by_hand) in [(300, 20), (300, 400), (50, 10)] {
        let (limits, _) = with_limit_by_hand(rate, by_hand).await;
        assert!(
            limits[20..40].iter().all(|limit| *limit == by_hand),
            "{limits:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn p12_a_wrong_limit_is_left_within_seconds_once_it_is_given_back() {
    for by_hand in [1, 3, 400] {
        let (limits, served) = with_limit_by_hand(300, by_hand).await;
        assert!(
            limits[50..].iter().all(|limit| (10..40).contains(limit)),
            "{limits:?}"
        );
        assert!(served >= 3_800, "{served} of 4,000 after {by_hand}");
    }
    let (limits, served) = with_limit_by_hand(50, 3).await;
    assert!(
        limits[45..].iter().all(|limit| *limit == 1 << 16),
        "{limits:?}"
    );
    assert_eq!(served, 2_000);
}

#[tokio::test(start_paused = true)]
async fn p23_to_set_the_limit_that_it_has_is_no_change_and_holds_it() {
    let budget = Budget::adaptive();
    budget.set_limit(1 << 16).unwrap();
    assert_eq!(
        (budget.changes().len(), budget.snapshot().is_set_by_hand),
        (0, true)
    );
    budget.resume_learning();
    assert!(!budget.snapshot().is_set_by_hand);
}

#[tokio::test(start_paused = true)]
async fn p11_a_burst_long_after_the_first_request_is_served() {
    let inner = tower::service_fn(async |_: Request<Empty<Bytes>>| {
        sleep(Duration::from_millis(20)).await;
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let budget = Budget::adaptive();
    let service = LoadShed::ratio(0.85).budget(&budget).layer(inner);
    let call = async |mut service: loadshed::LoadShedService<_>| {
        let answer = service.call(Request::new(Empty::<Bytes>::new())).await;
        assert!(answer.is_ok());
    };
    call(service.clone()).await;
    sleep(Duration::from_secs(3)).await;
    let mut callers = JoinSet::new();
    for _ in 0..300 {
        let service = service.clone();
        callers.spawn(async move {
            for _ in 0..7 {
                call(service.clone()).await;
            }
        });
    }
    callers.join_all().await;
    assert_eq!(budget.snapshot().refused, 0, "{:?}", budget.changes());
}

/// Callers with a client timeout, and the `grpc-timeout` that their requests have.
#[derive(Clone, Copy)]
struct Callers {
    timeout: Duration,
    grpc_timeout: Option<&'static str>,
}

impl Callers {
    fn request(self) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        if let Some(stated) = self.grpc_timeout {
            let stated = HeaderValue::from_static(stated);
            request.headers_mut().insert("grpc-timeout", stated);
        }
        request
    }
}

/// Sends 0.6 times the capacity of 50 workers of 20 ms for 5 s, and then `times` the capacity for `flood`. Work that is queued for a
/// caller goes on afterwards. Returns the share of the requests of the flood that got a response in time, and its goodput in
/// capacities.
async fn flooded(callers: Callers, times: f64, flood: Duration) -> (f64, f64) {
    const CAPACITY: f64 = 2_500.0;
    let workers = Arc::new(Semaphore::new(50));
    let inner = tower::service_fn(move |_: Request<Empty<Bytes>>| {
        let workers = Arc::clone(&workers);
        let work = tokio::spawn(async move {
            let _worker = workers.acquire_owned().await;
            sleep(Duration::from_millis(20)).await;
        });
        async move {
            let _ = work.await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
        }
    });
    let mut service = LoadShed::ratio(0.85).layer(inner);
    let mut calls = JoinSet::new();
    let (mut at, begins) = (Instant::now(), Instant::now() + Duration::from_secs(5));
    while at < begins + flood {
        sleep_until(at).await;
        let call = service.call(callers.request());
        let is_counted = at >= begins;
        calls.spawn(async move {
            let answer = timeout(callers.timeout, call).await;
            let is_good = answer.is_ok_and(|it| it.is_ok_and(|it| it.status().is_success()));
            (is_counted, is_good)
        });
        let rate = CAPACITY * if is_counted { times } else { 0.6 };
        at += Duration::from_secs_f64(1.0 / rate);
    }
    let done = calls.join_all().await;
    let (sent, good) = done
        .iter()
        .filter(|(is_counted, _)| *is_counted)
        .fold((0.0, 0.0), |(sent, good), (_, is_good)| {
            (sent + 1.0, good + f64::from(u8::from(*is_good)))
        });
    (good / sent, good / CAPACITY / flood.as_secs_f64())
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_stopped_before_its_callers_time_out_where_their_requests_state_the_timeout() {
    let callers = |grpc_timeout| Callers {
        timeout: Duration::from_millis(100),
        grpc_timeout,
    };
    for times in [1.5, 2.0, 3.0] {
        // Without it the queue is longer than callers wait, up to 0.7 s, until enough of them have cancelled.
        let goodput = async |stated| flooded(callers(stated), times, DEADLINE).await.1;
        let (stated, unknown) = (goodput(Some("100m")).await, goodput(None).await);
        assert!(stated > 0.95, "{stated} of the capacity at {times} ×");
        assert!(stated > 1.2 * unknown, "{stated}, {unknown} at {times} ×");
    }
}

#[tokio::test(start_paused = true)]
async fn more_of_a_burst_is_served_to_callers_that_state_a_longer_timeout_than_a_second() {
    let callers = |grpc_timeout| Callers {
        timeout: Duration::from_secs(2),
        grpc_timeout,
    };
    let served = async |stated| flooded(callers(stated), 2.0, DEADLINE).await.0;
    assert!(served(None).await < 0.9);
    for stated in ["2S", "1H"] {
        let share = served(Some(stated)).await;
        assert!(share > 0.99, "{share} with {stated}");
    }
}
