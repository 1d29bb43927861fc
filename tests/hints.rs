//! Retry hints, and the load of the callers that follow them.

use std::{cell::RefCell, convert::Infallible, error::Error, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header::CONTENT_TYPE};
use http_body_util::Empty;
use loadshed::{Budget, InvalidSetting, LoadShed, RetryAfter, Shed, Threshold};
use tokio::{
    task::{JoinSet, LocalSet},
    time::{Instant, advance, sleep, sleep_until},
};
use tower::{Layer, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// The capacity of the server in requests a second: ten at once, a tenth of a second each.
const CAPACITY: usize = 100;

type Req = Request<Empty<Bytes>>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Protocol {
    Http,
    Grpc,
}

impl Protocol {
    fn request(self) -> Req {
        let mut request = Request::new(Empty::new());
        if self == Self::Grpc {
            let grpc = "application/grpc".parse().unwrap();
            request.headers_mut().insert(CONTENT_TYPE, grpc);
        }
        request
    }

    /// Returns the hint as clients of this protocol read it.
    fn hint(self, headers: &HeaderMap) -> Option<Duration> {
        let number = |name| Some(headers.get(name)?.to_str().unwrap().parse().unwrap());
        match self {
            Self::Http => number("retry-after").map(Duration::from_secs),
            Self::Grpc => number("grpc-retry-pushback-ms").map(Duration::from_millis),
        }
    }
}

/// The result of a retry storm: a minute of usual load, five seconds of three times the capacity, and the usual load again.
#[derive(Debug)]
struct Storm {
    /// The calls in each second after the trigger, with retries.
    calls: Vec<usize>,
    /// The callers that were refused four times.
    lost: usize,
}

impl Storm {
    async fn run(policy: RetryAfter, protocol: Protocol, usual: usize) -> Self {
        let shed = LoadShed::ratio(1.0)
            .budget(Budget::fixed(CAPACITY / 10))
            .retry_after(policy);
        let work = |_: Req| async {
            sleep(SECOND / 10).await;
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        };
        let service = shed.layer(service_fn(work));
        let calls = Rc::new(RefCell::new(Vec::new()));
        let trigger = Instant::now() + MINUTE;
        let after = trigger + 5 * SECOND;

        let caller = || {
            let (service, calls) = (service.clone(), Rc::clone(&calls));
            async move {
                for _ in 0..4 {
                    calls.borrow_mut().push(Instant::now());
                    let answer = service.clone().oneshot(protocol.request()).await.unwrap();
                    if answer.extensions().get::<Shed>().is_none() {
                        return 0;
                    }
                    let hint = protocol.hint(answer.headers());
                    sleep(hint.unwrap_or(SECOND / 10)).await;
                }
                1
            }
        };
        let mut callers = JoinSet::new();
        let mut next = Instant::now();
        while next < after + MINUTE {
            sleep_until(next).await;
            callers.spawn_local(caller());
            let in_trigger = (trigger..after).contains(&next);
            next += SECOND / if in_trigger { 3 * CAPACITY } else { usual } as u32;
        }
        let lost = callers.join_all().await.into_iter().sum();
        let mut seconds = vec![0; 60];
        for call in calls.borrow().iter().filter(|&&call| call >= after) {
            let second = (*call - after).as_secs() as usize;
            if let Some(calls) = seconds.get_mut(second) {
                *calls += 1;
            }
        }
        Self {
            calls: seconds,
            lost,
        }
    }

    async fn of(policy: RetryAfter, protocol: Protocol, usual: usize) -> Self {
        LocalSet::new()
            .run_until(Self::run(policy, protocol, usual))
            .await
    }

    fn peak(&self) -> usize {
        self.calls.iter().copied().max().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn p20_refused_callers_return_at_a_rate_within_the_free_capacity() {
    for protocol in [Protocol::Http, Protocol::Grpc] {
        for usual in [1, 30, 60, 80] {
            let storm = Storm::of(RetryAfter::adaptive(), protocol, usual).await;
            let peak = storm.peak();
            let most = CAPACITY + CAPACITY / 10;
            assert!(
                peak <= most,
                "{protocol:?}, {usual} a second: {peak} in one of {storm:?}"
            );
            // Of more than a thousand callers.
            let lost = storm.lost;
            assert!(lost < 10, "{protocol:?}, {usual} a second: {lost} gave up");
        }
    }
}

/// Shows that the test above can fail.
#[tokio::test(start_paused = true)]
async fn after_a_constant_hint_callers_return_together_and_most_give_up() {
    for seconds in [1, 5] {
        let fixed = RetryAfter::fixed(seconds * SECOND);
        let storm = Storm::of(fixed, Protocol::Http, 60).await;
        assert!(storm.peak() > 2 * CAPACITY, "{storm:?}");
        assert!(storm.lost > 200, "{storm:?}");
    }
    let none = Storm::of(RetryAfter::none(), Protocol::Http, 60).await;
    assert!(none.lost > 800, "{none:?}");
}

/// A layer of a budget with a limit of 1 that is full.
fn full() -> (LoadShed, Box<dyn std::any::Any>) {
    let budget = Budget::fixed(1);
    let held = budget.try_acquire(Threshold::NEVER_SHED).unwrap();
    (LoadShed::ratio(1.0).budget(budget), Box::new(held))
}

/// Returns the response of a refused call. The handler never runs.
async fn refusal(shed: &LoadShed, protocol: Protocol) -> Response<()> {
    let never = |_: Req| async { unreachable!("the call is refused") };
    let inner = service_fn(never);
    let answer = shed.layer(inner).oneshot(protocol.request()).await;
    let answer: Result<Response<loadshed::ResponseBody<Empty<Bytes>>>, Infallible> = answer;
    answer.unwrap().map(|_| ())
}

#[tokio::test(start_paused = true)]
async fn p20_hints_of_callers_refused_in_one_instant_are_spread_evenly_over_the_seconds() {
    let (shed, _held) = full();
    let mut by_second = [0; 61];
    for _ in 0..6_000 {
        let answer = refusal(&shed, Protocol::Http).await;
        let hint = Protocol::Http.hint(answer.headers()).unwrap();
        by_second[hint.as_secs() as usize] += 1;
    }
    assert_eq!(by_second[0], 0);
    // On average 100 a second. Rounding makes the first and the last second differ.
    assert!(
        by_second[1..]
            .iter()
            .all(|there| (40..=120).contains(there)),
        "{by_second:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn p16_the_same_seed_gives_the_same_hints_and_another_seed_gives_others() {
    async fn hints(policy: RetryAfter) -> Vec<Duration> {
        hints_of(|shed| shed.retry_after(policy)).await
    }
    async fn hints_of(set: impl FnOnce(LoadShed) -> LoadShed) -> Vec<Duration> {
        let (shed, _held) = full();
        let shed = set(shed);
        let mut hints = Vec::new();
        for _ in 0..200 {
            advance(SECOND / 100).await;
            let answer = refusal(&shed, Protocol::Http).await;
            hints.push(Protocol::Http.hint(answer.headers()).unwrap());
        }
        hints
    }
    for policy in [
        RetryAfter::adaptive(),
        RetryAfter::fixed(SECOND).jitter(1.0),
    ] {
        assert_eq!(hints(policy.seed(7)).await, hints(policy.seed(7)).await);
        assert_ne!(hints(policy.seed(7)).await, hints(policy.seed(8)).await);
        assert_eq!(hints(policy.seed(0)).await, hints(policy).await);
        // The seed of the layer applies to policies without a seed.
        let seeded = hints_of(|shed| shed.seed(7).retry_after(policy)).await;
        assert_eq!(seeded, hints(policy.seed(7)).await);
        let own = hints_of(|shed| shed.retry_after(policy.seed(8)).seed(7)).await;
        assert_eq!(own, hints(policy.seed(8)).await);
    }
}

#[tokio::test(start_paused = true)]
async fn the_policy_none_sends_no_header_and_still_computes_a_hint() {
    let (shed, _held) = full();
    let shed = shed.retry_after(RetryAfter::none());
    for protocol in [Protocol::Http, Protocol::Grpc] {
        let answer = refusal(&shed, protocol).await;
        let hints = ["retry-after", "retry-after-ms", "grpc-retry-pushback-ms"];
        assert!(
            hints
                .iter()
                .all(|hint| !answer.headers().contains_key(*hint)),
            "{answer:?}"
        );
        let shed: &Shed = answer.extensions().get().unwrap();
        assert!(!shed.retry_after().is_zero() && shed.retry_after_secs() >= 1);
    }
}

#[tokio::test(start_paused = true)]
async fn milliseconds_are_sent_beside_the_seconds_where_that_is_set() {
    let (shed, _held) = full();
    let hint = RetryAfter::fixed(Duration::from_micros(2_500_500));
    let answer = refusal(&shed.clone().retry_after(hint), Protocol::Http).await;
    assert!(!answer.headers().contains_key("retry-after-ms"));
    let shed = shed.retry_after(hint.milliseconds(true));
    let answer = refusal(&shed, Protocol::Http).await;
    assert_eq!(answer.headers()["retry-after"], "3");
    assert_eq!(answer.headers()["retry-after-ms"], "2501");
    let answer = refusal(&shed, Protocol::Grpc).await;
    assert!(!answer.headers().contains_key("retry-after-ms"));
    assert_eq!(answer.headers()["grpc-retry-pushback-ms"], "2501");
}

#[tokio::test(start_paused = true)]
async fn a_hint_stays_between_the_shortest_and_the_longest() {
    let (shed, _held) = full();
    let policy = RetryAfter::adaptive().max(10 * SECOND).min(3 * SECOND);
    let shed = shed.retry_after(policy);
    for _ in 0..1_000 {
        for protocol in [Protocol::Http, Protocol::Grpc] {
            let hint = protocol
                .hint(refusal(&shed, protocol).await.headers())
                .unwrap();
            assert!(
                (3 * SECOND..=10 * SECOND).contains(&hint),
                "{protocol:?}: {hint:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_custom_response_has_the_same_whole_seconds() {
    let (shed, _held) = full();
    let own = shed.on_shed(|shed| {
        let seconds = shed.retry_after_secs();
        let answer = Response::builder().header("retry-after", seconds);
        answer.body(Bytes::new()).unwrap()
    });
    for _ in 0..500 {
        let answer = refusal(&own, Protocol::Http).await;
        let shed: &Shed = answer.extensions().get().unwrap();
        let told = Protocol::Http.hint(answer.headers()).unwrap();
        assert!(told >= SECOND && told <= MINUTE);
        assert_eq!(told.as_secs(), shed.retry_after_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn work_outside_of_tower_gets_a_hint_in_milliseconds() {
    let budget = Budget::fixed(8);
    let _full: Vec<_> = (0..8)
        .map(|_| budget.try_acquire(Threshold::NEVER_SHED))
        .collect();
    let refused = budget.try_acquire(Threshold::ratio(1.0)).unwrap_err();
    assert_eq!(refused.retry_after(), Duration::from_millis(10));
}

#[test]
fn an_invalid_setting_is_an_error_that_says_what_is_allowed() {
    let adaptive = RetryAfter::adaptive();
    let fixed = RetryAfter::fixed(5 * SECOND);
    let told = |result: Result<RetryAfter, InvalidSetting>| result.unwrap_err().to_string();
    let cases = [
        (
            adaptive.try_jitter(f64::NAN),
            "invalid jitter NaN: must be from 0 to 1",
        ),
        (
            adaptive.try_jitter(-0.1),
            "invalid jitter -0.1: must be from 0 to 1",
        ),
        (
            fixed.try_jitter(1.5),
            "invalid jitter 1.5: must be from 0 to 1",
        ),
        (
            adaptive.try_min(2 * MINUTE),
            "invalid shortest hint 120s: must be at most 60s, the longest",
        ),
        (
            fixed.try_min(6 * SECOND),
            "invalid shortest hint 6s: must be at most 5s, the fixed one",
        ),
        (
            adaptive.try_max(SECOND / 2),
            "invalid longest hint 500ms: must be from 1s to 4294967295s",
        ),
        (
            adaptive.min(20 * SECOND).try_max(10 * SECOND),
            "invalid longest hint 10s: must be from 20s to 4294967295s",
        ),
        (
            fixed.try_max(4 * SECOND),
            "invalid longest hint 4s: must be from 5s to 4294967295s",
        ),
        (
            adaptive.try_max(Duration::MAX),
            "invalid longest hint 18446744073709551615.999999999s: must be from 1s to 4294967295s",
        ),
    ];
    for (result, text) in cases {
        assert_eq!(told(result), text);
    }
}

#[test]
fn settings_at_their_bounds_are_accepted() -> Result<(), Box<dyn Error>> {
    let longest = Duration::from_secs(u64::from(u32::MAX));
    let adaptive = RetryAfter::adaptive();
    let _ = adaptive
        .try_max(longest)?
        .try_min(longest)?
        .try_jitter(1.0)?;
    let _ = adaptive
        .try_min(Duration::ZERO)?
        .try_max(SECOND)?
        .try_jitter(0.0)?;
    let _ = RetryAfter::try_fixed(longest)?
        .try_jitter(1.0)?
        .try_max(longest)?;
    Ok(())
}
