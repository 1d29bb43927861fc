//! Log events through `tracing`, and their number.

mod support;

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use loadshed::{
    Budget, LoadShed, Permit, Threshold,
    control::Learned,
    telemetry::{publish, publish_every},
};
use tokio::time::{advance, sleep};
use tower::Layer;
use tracing::{Level, subscriber::DefaultGuard};

use self::support::{
    Alone, FnController, all, alone, answer, caught, get, holding, is_refused, panic_on_purpose,
};

/// The log of this thread since its creation.
struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: DefaultGuard,
    // Each test has its own clock, and a publication checks all budgets by the clock of its test.
    _alone: Alone,
}

struct Writer(Arc<Mutex<Vec<u8>>>);

impl Write for Writer {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn up_to(level: Level) -> Self {
        let _alone = alone();
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let to = Arc::clone(&text);
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .without_time()
            .with_writer(move || Writer(Arc::clone(&to)))
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        Self {
            text,
            _guard,
            _alone,
        }
    }

    /// Returns the lines about the budget of this name.
    fn of(&self, name: &str) -> Vec<String> {
        let text = String::from_utf8(self.text.lock().unwrap().clone()).unwrap();
        let field = format!("budget=\"{name}\"");
        let lines = text.lines().filter(|line| line.contains(&field));
        lines.map(|line| line.trim().to_owned()).collect()
    }
}

/// Returns a budget without free capacity, and the permit that fills it.
fn full(name: &str) -> (Budget, Permit) {
    let budget = Budget::fixed(1).named(name);
    let held = budget.try_acquire(all()).unwrap();
    (budget, held)
}

fn refuse(budget: &Budget, times: usize) {
    for _ in 0..times {
        assert!(budget.try_acquire(all()).is_err());
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn an_event_reports_the_start_of_shedding_and_another_its_end() {
    let log = Log::up_to(Level::INFO);
    let (budget, held) = full("episode");
    refuse(&budget, 3);
    advance(4 * SECOND).await;
    refuse(&budget, 2);
    assert_eq!(
        log.of("episode"),
        [
            "WARN loadshed: shedding has started budget=\"episode\" limit=1 in_flight=1 refused=1 would_refuse=0 \
             limit_change=\"no change\" advice=\"find the dependency that has become slow; if there is none, add \
             capacity and raise the limit with it\""
        ]
    );
    drop(held);
    advance(10 * SECOND).await;
    drop(budget.try_acquire(all()).unwrap());
    assert_eq!(
        log.of("episode")[1..],
        [
            "INFO loadshed: shedding has stopped budget=\"episode\" seconds=4.0 refused=5 would_refuse=0 limit=1 \
             in_flight=1 limit_change=\"no change\""
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_a_refusal_or_a_publication_finds_that_shedding_has_stopped() {
    let log = Log::up_to(Level::INFO);
    let stops = |name: &str| log.of(name).len() / 2;
    let (budget, held) = full("found");

    refuse(&budget, 1);
    advance(11 * SECOND).await;
    assert_eq!(stops("found"), 0, "there is no timer");
    refuse(&budget, 1);
    assert_eq!(stops("found"), 1);
    assert!(log.of("found")[1].contains("stopped"));
    assert!(log.of("found")[1].contains("seconds=0.0"));

    advance(11 * SECOND).await;
    let mut observe = LoadShed::observe().budget(&budget).layer(holding());
    drop(answer(&mut observe, get("/")));
    assert_eq!(stops("found"), 2);

    refuse(&budget, 1);
    advance(9 * SECOND).await;
    publish();
    assert_eq!(stops("found"), 2, "the quiet period is not over");
    advance(SECOND).await;
    publish();
    assert_eq!(stops("found"), 3);

    refuse(&budget, 1);
    let publishing = tokio::spawn(publish_every(SECOND));
    sleep(12 * SECOND).await;
    publishing.abort();
    assert_eq!(stops("found"), 4);
    drop(held);
    assert_eq!(log.of("found").len(), 8);
}

/// 300 times: 3,334 refusals in a tenth of a second, then a tenth of a second with admissions only.
#[tokio::test(start_paused = true)]
async fn a_million_refusals_in_a_minute_write_2_lines() {
    let log = Log::up_to(Level::TRACE);
    let budget = Budget::fixed(1).named("flood");
    for _ in 0..300 {
        let held = budget.try_acquire(all()).unwrap();
        refuse(&budget, 3_334);
        advance(Duration::from_millis(100)).await;
        drop(held);
        for _ in 0..1_000 {
            drop(budget.try_acquire(all()).unwrap());
        }
        publish();
        advance(Duration::from_millis(100)).await;
    }
    advance(10 * SECOND).await;
    publish();
    let lines = log.of("flood");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(
        lines[1].contains("seconds=59.8 refused=1000200 "),
        "{}",
        lines[1]
    );
}

/// Pauses around the quiet period of 10 s, as these write the most lines.
#[tokio::test(start_paused = true)]
async fn no_pattern_of_refusals_writes_more_than_2_lines_in_10_seconds() {
    for pause in [1, 99, 1_000, 9_999, 10_000, 10_001, 12_000] {
        let log = Log::up_to(Level::TRACE);
        let (budget, _held) = full("pattern");
        let mut refused = 0;
        let mut passed = Duration::ZERO;
        while passed < 60 * SECOND {
            refuse(&budget, 10);
            refused += 10;
            publish();
            advance(Duration::from_millis(pause)).await;
            passed += Duration::from_millis(pause);
        }
        advance(10 * SECOND).await;
        publish();
        let lines = log.of("pattern");
        assert!(
            lines.len() <= 2 * (1 + 6),
            "{pause} ms: {} lines",
            lines.len()
        );

        // Each refusal is reported once.
        let reported = lines.iter().filter(|line| line.contains("stopped"));
        let reported = reported.map(|line| {
            let count = line.split_once(" refused=").unwrap().1;
            count.split_once(' ').unwrap().0.parse::<usize>().unwrap()
        });
        assert_eq!(reported.sum::<usize>(), refused, "{pause} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn p22_a_dry_run_logs_the_requests_that_it_would_have_refused() {
    let log = Log::up_to(Level::INFO);
    let (budget, _held) = full("dry");
    let shed = LoadShed::ratio(1.0).budget(&budget).dry_run(true);
    for _ in 0..3 {
        assert!(!is_refused(&answer(&mut shed.layer(holding()), get("/"))));
    }
    advance(10 * SECOND).await;
    publish();
    let lines = log.of("dry");
    assert!(
        lines[0].contains(" refused=0 would_refuse=1 "),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].contains(" refused=0 would_refuse=3 "),
        "{}",
        lines[1]
    );
}

#[tokio::test(start_paused = true)]
async fn p23_each_change_of_a_limit_is_logged_at_debug_with_its_figures() {
    let log = Log::up_to(Level::DEBUG);
    let controller = FnController::new(1..=9, 4, |window| window.limit + 1);
    let budget = Budget::new(controller).named("learned");
    let permit = budget.try_acquire(all()).unwrap();
    advance(SECOND / 4).await;
    permit.succeeded();
    let mut socket = budget.try_acquire(all()).unwrap();
    socket.responded();
    budget.try_acquire(all()).unwrap().succeeded();
    budget.set_limit(2).unwrap();
    budget.set_limit(100).unwrap_err();
    assert_eq!(
        log.of("learned"),
        [
            "DEBUG loadshed: the limit has changed budget=\"learned\" from=4 to=5 reason=\"test\" elapsed_seconds=0.25 \
             in_flight=0 responded=0 completed=1 refused=0 successes=1 latency_seconds=0.25",
            "DEBUG loadshed: the limit has changed budget=\"learned\" from=5 to=6 reason=\"test\" elapsed_seconds=0.0 \
             in_flight=1 responded=1 completed=1 refused=0 successes=1 latency_seconds=0.0",
            "DEBUG loadshed: the limit has changed budget=\"learned\" from=6 to=7 reason=\"test\" elapsed_seconds=0.0 \
             in_flight=1 responded=1 completed=0 refused=0 successes=1 latency_seconds=0.0",
            "DEBUG loadshed: the limit has changed budget=\"learned\" from=7 to=2 reason=\"set\" elapsed_seconds=0.0 \
             in_flight=0 responded=0 completed=0 refused=0 successes=0 latency_seconds=0.0",
        ]
    );

    let fixed = Budget::fixed(5).named("set");
    fixed.set_limit(6).unwrap();
    assert!(log.of("set")[0].contains("from=5 to=6 reason=\"set\""));
}

#[tokio::test(start_paused = true)]
async fn p23_what_a_controller_has_learned_is_logged_with_each_change_and_each_episode() {
    let log = Log::up_to(Level::DEBUG);
    let controller = FnController::new(1..=9, 1, |_| 2).learned(|| {
        let mut learned = Learned::new("testing");
        learned.service_time = Some(SECOND / 4);
        learned.knee = Some(7);
        (learned.held, learned.expected_held) = (3, 1);
        Some(learned)
    });
    let budget = Budget::new(controller).named("learned");
    let figures = "state=\"testing\" service_time_seconds=0.25 knee=7 held=3 expected_held=1";
    let permits = [(); 2].map(|()| budget.try_acquire(Threshold::NEVER_SHED).unwrap());
    refuse(&budget, 1);
    drop(permits);
    budget.set_limit(1).unwrap();
    let permit = budget.try_acquire(all()).unwrap();
    advance(10 * SECOND).await;
    refuse(&budget, 1);
    drop(permit);
    let lines = log.of("learned");
    let has = |nth: usize, message: &str, end: &str| {
        let line: &String = &lines[nth];
        assert!(line.contains(message) && line.contains(end), "{line}");
    };
    has(
        0,
        "shedding has started",
        &format!("limit_change=\"no change\" {figures} advice="),
    );
    has(
        1,
        "the limit has changed",
        &format!("latency_seconds=0.0 {figures}"),
    );
    has(2, "the limit has changed", "reason=\"set\"");
    assert!(!lines[2].contains("state="), "{}", lines[2]);
    has(
        3,
        "shedding has stopped",
        "state=\"set\" held=0 expected_held=0",
    );
    has(
        4,
        "shedding has started",
        "state=\"set\" held=0 expected_held=0 advice=",
    );
    assert_eq!(lines.len(), 5, "{lines:#?}");
    budget.resume_learning();
    drop(budget.try_acquire(all()).unwrap());
    advance(10 * SECOND).await;
    publish();
    let line = log.of("learned").pop().unwrap();
    assert!(
        line.contains("shedding has stopped") && line.ends_with(figures),
        "{line}"
    );
}

#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn a_budget_without_a_name_is_logged_by_its_published_number() {
    let log = Log::up_to(Level::DEBUG);
    let budget = Budget::fixed(1);
    budget.set_limit(2).unwrap();
    drop(budget.try_acquire(all()).unwrap());
    publish();
    budget.set_limit(3).unwrap();
    assert!(log.of("unnamed")[0].contains("to=2"));
    assert!(log.of("budget-1")[0].contains("to=3"));
}

#[tokio::test(start_paused = true)]
async fn the_start_of_shedding_is_logged_with_the_latest_limit_change() {
    let log = Log::up_to(Level::WARN);
    let budget = Budget::adaptive().named("learned");
    budget.set_limit(4).unwrap();
    advance(2 * SECOND).await;
    let held: Vec<_> = (0..4).map(|_| budget.try_acquire(all()).unwrap()).collect();
    refuse(&budget, 1);
    drop(held);
    let line = &log.of("learned")[0];
    assert!(
        line.contains("limit_change=\"set\" limit_changed_seconds_ago=2.0"),
        "{line}"
    );
    assert!(line.contains("limit=4 in_flight=4 refused=1"), "{line}");
}

/// A subscriber with a bug.
struct Broken;

impl tracing::Subscriber for Broken {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        panic_on_purpose()
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn p25_a_subscriber_that_panics_stops_no_request_and_no_controller() {
    let _alone = alone();
    let _guard = tracing::subscriber::set_default(Broken);
    caught(|| tracing::info!("the subscriber panics"));
    let controller = FnController::new(1..=9, 1, |window| window.limit + 1);
    let budget = Budget::new(controller).named("broken");
    for limit in 2..5 {
        drop(budget.try_acquire(all()).unwrap());
        assert_eq!(budget.limit(), limit);
    }
    let (budget, _held) = full("broken, too");
    refuse(&budget, 2);
    advance(10 * SECOND).await;
    publish();
    refuse(&budget, 2);
    assert_eq!(budget.snapshot().refused, 4);
}
