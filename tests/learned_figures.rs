//! What a controller shows of its state and of what it has learned, in virtual time and with the real layer in the path.

mod support;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use loadshed::{Budget, LatencyTarget, LoadShed, Permit, Threshold, control::Learned};
use tokio::{
    task::JoinSet,
    time::{Instant, advance, sleep, sleep_until, timeout},
};
use tower::{Layer, Service};

use self::support::{FnController, all, panic_on_purpose, pool, quiet};

/// Ten workers of 100 ms: 100 requests a second. By Little's law, their knee is 10.
const WORKERS: usize = 10;
const WORK: Duration = Duration::from_millis(100);

/// Sends `/` at these rates to the workers, each for so many seconds. Returns the distinct states in their order, as requests saw
/// them.
async fn states(budget: &Budget, load: &[(u32, u32)]) -> Vec<&'static str> {
    let mut service = LoadShed::ratio(0.85)
        .budget(budget)
        .layer(pool(WORKERS, WORK));
    let (mut callers, mut states) = (JoinSet::new(), Vec::new());
    for (rate, seconds) in load {
        let start = Instant::now();
        for nth in 0..rate * seconds {
            sleep_until(start + Duration::from_secs(1) * nth / *rate).await;
            let call = service.call(Request::new(Empty::<Bytes>::new()));
            callers.spawn(timeout(Duration::from_secs(1), call));
            states.extend(budget.snapshot().learned.map(|learned| learned.state));
            states.dedup();
        }
    }
    callers.join_all().await;
    states
}

fn near(found: Option<Duration>, expected: Duration) -> bool {
    let found = found.expect("the service time is known");
    found > expected.mul_f64(0.8) && found < expected.mul_f64(1.2)
}

#[tokio::test(start_paused = true)]
async fn p23_the_state_is_visible_from_the_first_response_through_an_overload_to_its_end() {
    let budget = Budget::adaptive();
    let states = states(&budget, &[(50, 10), (300, 20), (50, 20)]).await;
    assert_eq!(
        states[..4],
        ["learning", "unlimited", "burst guard", "probing"]
    );
    assert!(states.contains(&"tracking"), "{states:?}");
    assert_eq!(states.last(), Some(&"unlimited"), "{states:?}");
}

#[tokio::test(start_paused = true)]
async fn p23_service_time_and_knee_are_those_of_the_server() {
    let budget = Budget::adaptive();
    states(&budget, &[(300, 60)]).await;
    let learned = budget.snapshot().learned.unwrap();
    assert!(near(learned.service_time, WORK), "{learned:?}");
    assert!((8..=13).contains(&learned.knee.unwrap()), "{learned:?}");
    assert_eq!(learned.held, 0, "queued requests are not held");

    // A light load shows the service time. The knee is as far as the throughput: 50 requests a second.
    let budget = Budget::adaptive();
    states(&budget, &[(50, 30)]).await;
    let learned = budget.snapshot().learned.unwrap();
    assert_eq!(learned.state, "unlimited");
    assert!(near(learned.service_time, WORK), "{learned:?}");
    assert!((4..=7).contains(&learned.knee.unwrap()), "{learned:?}");
}

#[tokio::test(start_paused = true)]
async fn p23_each_change_has_the_state_and_the_figures_that_it_is_based_on() {
    let budget = Budget::adaptive();
    states(&budget, &[(50, 10), (300, 30)]).await;
    let changes = budget.changes();
    assert!(changes.len() > 2, "{changes:?}");
    for change in changes {
        let learned = change.learned.unwrap();
        let state = match change.reason {
            "probe complete" | "recovering" => "tracking",
            other => other,
        };
        assert_eq!(learned.state, state, "{change:?}");
        assert!(near(learned.service_time, WORK), "{change:?}");
        assert!(learned.knee.is_some(), "{change:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn p23_a_guess_at_the_service_time_is_shown_too_as_the_controller_acts_on_it() {
    let budget = Budget::adaptive();
    // A flood from the start: what was seen first is no service time that a probe has measured.
    states(&budget, &[(2_000, 1)]).await;
    let changes = budget.changes();
    let first = changes.first().unwrap();
    assert_eq!(first.reason, "burst guard");
    let learned = first.learned.unwrap();
    assert!(learned.service_time.is_some() && learned.knee.is_some());
}

fn acquire(budget: &Budget, count: usize) -> Vec<Permit> {
    let permits = (0..count).map(|_| budget.try_acquire(Threshold::NEVER_SHED).unwrap());
    permits.collect()
}

#[tokio::test(start_paused = true)]
async fn p23_requests_that_later_ones_overtake_are_visible_as_held() {
    let budget = Budget::adaptive();
    let exports = acquire(&budget, 30);
    let quick = async |seconds: u32| {
        for _ in 0..seconds * 50 {
            let permit = budget.try_acquire(all()).unwrap();
            sleep(Duration::from_millis(20)).await;
            permit.succeeded();
        }
        budget.snapshot().learned.unwrap()
    };
    assert_eq!(quick(1).await.held, 0, "none is old enough");
    // An estimate: requests are counted by window.
    let held = quick(4).await.held;
    assert!((28..=30).contains(&held), "{held}");
    drop(exports);
    assert_eq!(quick(4).await.held, 0);

    // One export each 200 ms, for 10 s: some have begun, and are not found yet.
    let mut exports = Vec::new();
    for _ in 0..100 {
        exports.push(acquire(&budget, 1));
        for _ in 0..10 {
            let permit = budget.try_acquire(all()).unwrap();
            sleep(Duration::from_millis(20)).await;
            permit.succeeded();
        }
    }
    let learned = budget.snapshot().learned.unwrap();
    assert!((80..100).contains(&learned.held), "{learned:?}");
    let all_of_them = learned.held + learned.expected_held;
    assert!((95..=110).contains(&all_of_them), "{learned:?}");
}

#[tokio::test(start_paused = true)]
async fn p23_a_controller_that_sees_no_response_says_so_and_shows_no_service_time() {
    let budget = Budget::adaptive();
    assert_eq!(budget.snapshot().learned, None, "before the first window");
    let mut permits = acquire(&budget, 60);
    advance(WORK).await;
    drop(permits.pop());
    let learning = Learned::new("learning");
    assert_eq!(budget.snapshot().learned, Some(learning));
    // Dropped without an outcome: cancelled.
    permits.truncate(20);
    advance(WORK).await;
    drop(permits.pop());
    let learned = budget.snapshot().learned.unwrap();
    assert_eq!(learned, Learned::new("no responses"));
    let change = budget.changes()[0];
    assert_eq!(
        (change.reason, change.learned),
        ("no responses", Some(learned))
    );
}

#[tokio::test(start_paused = true)]
async fn p23_while_a_limit_by_hand_holds_the_state_is_set_and_no_old_figures_are_shown() {
    let budget = Budget::adaptive();
    states(&budget, &[(50, 10)]).await;
    assert!(budget.snapshot().learned.unwrap().knee.is_some());
    budget.set_limit(64).unwrap();
    assert_eq!(budget.snapshot().learned, Some(Learned::new("set")));
    assert_eq!(budget.changes()[0].learned, None);
    assert_eq!(states(&budget, &[(50, 5)]).await, ["set"]);

    budget.resume_learning();
    assert_eq!(
        budget.snapshot().learned,
        None,
        "it has learned nothing yet"
    );
    let states = states(&budget, &[(50, 10)]).await;
    assert_eq!(states, ["learning", "unlimited"]);
}

#[tokio::test(start_paused = true)]
async fn p23_what_was_learned_before_a_limit_by_hand_is_not_shown_after_it() {
    let budget = Arc::new(OnceLock::<Budget>::new());
    let by_hand = Arc::clone(&budget);
    // The limit is set and given back while the controller runs.
    let controller = FnController::new(1..=9, 4, move |window| {
        let budget = by_hand.get().unwrap();
        if budget.limit() == 4 {
            budget.set_limit(5).unwrap();
            budget.resume_learning();
        }
        window.limit
    });
    let controller = controller.learned(|| Some(Learned::new("testing")));
    let budget = budget.get_or_init(|| Budget::new(controller));
    drop(budget.try_acquire(all()).unwrap());
    assert_eq!(budget.snapshot().learned, None);
    drop(budget.try_acquire(all()).unwrap());
    assert_eq!(budget.snapshot().learned, Some(Learned::new("testing")));
}

#[tokio::test(start_paused = true)]
async fn a_fixed_budget_and_a_controller_that_shows_nothing_have_no_figures() {
    let target = LatencyTarget::new(WORK);
    let silent = FnController::new(1..=9, 4, |window| window.limit + 1);
    for budget in [Budget::fixed(9), Budget::new(target), Budget::new(silent)] {
        for _ in 0..3 {
            let permit = budget.try_acquire(all()).unwrap();
            sleep(WORK).await;
            permit.succeeded();
        }
        assert_eq!(budget.snapshot().learned, None);
        assert!(budget.changes().iter().all(|it| it.learned.is_none()));
    }
}

#[test]
fn p25_a_controller_that_panics_over_its_figures_fails_no_request_and_shows_none() {
    quiet();
    let budget = Arc::new(OnceLock::<Budget>::new());
    let own = Arc::clone(&budget);
    let controller = FnController::new(1..=9, 4, |window| window.limit + 1).learned(move || {
        if own.get().unwrap().limit() > 4 {
            panic_on_purpose();
        }
        Some(Learned::new("testing"))
    });
    let budget = budget.get_or_init(|| Budget::new(controller));
    drop(budget.try_acquire(all()).unwrap());
    let learned = budget.snapshot().learned;
    assert_eq!(
        (budget.limit(), learned),
        (5, Some(Learned::new("testing")))
    );
    for _ in 0..3 {
        drop(budget.try_acquire(all()).unwrap());
        assert_eq!((budget.limit(), budget.snapshot().learned), (5, None));
    }
}
