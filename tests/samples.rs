//! Promises 14 and 15: what a control law is shown, and what becomes of what it says.

mod support;

use std::{
    fmt::Debug,
    mem,
    ops::RangeInclusive,
    sync::{Arc, Mutex},
    time::Duration,
};

use loadshed::{
    Budget, LoadShed, Threshold,
    control::{Controller, Decision, Sample, Window},
};
use tokio::time::advance;
use tower::{Layer, Service, service_fn};

use support::{Req, answer, get, holding, is_refused, run};

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
