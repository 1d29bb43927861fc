//! When a window is closed, and its counts.

use std::collections::VecDeque;

use loadshed::{LoadShed, Permit, Threshold, control::Sample};
use tokio::time::advance;
use tower::Layer;

use super::{Figures, Recorded, WINDOW};
use crate::support::{answer, get, holding, is_refused};

#[tokio::test(start_paused = true)]
async fn p14_refusals_alone_close_windows_where_all_requests_hang() {
    let controller = Recorded::every(WINDOW);
    let mut service = LoadShed::ratio(0.03)
        .budget(&controller.budget)
        .layer(holding());
    let _hanging = [(); 3].map(|()| controller.budget.try_acquire(Threshold::NEVER_SHED));
    for refused_in_it in [3, 5, 2] {
        for _ in 1..refused_in_it {
            assert!(is_refused(&answer(&mut service, get("/"))));
        }
        assert_eq!(controller.windows(), [], "the window is not over yet");
        advance(WINDOW).await;
        assert!(is_refused(&answer(&mut service, get("/"))));
        let figures = Figures {
            elapsed: WINDOW,
            in_flight: 3,
            completed: 0,
            refused: refused_in_it,
        };
        assert_eq!(controller.windows(), [figures]);
    }
    assert_eq!(controller.samples(), [], "a refusal is no sample");
}

#[tokio::test(start_paused = true)]
async fn p14_each_kind_of_refusal_closes_a_window_that_is_over() {
    let controller = Recorded::every(WINDOW);
    let _held = controller
        .budget
        .try_acquire(Threshold::NEVER_SHED)
        .unwrap();
    controller.windows();
    let shed = LoadShed::ratio(0.01).budget(&controller.budget);
    let one_window = || {
        let windows = controller.windows();
        assert_eq!(windows.len(), 1, "{windows:?}");
    };

    advance(WINDOW).await;
    assert!(
        controller
            .budget
            .try_acquire(Threshold::ratio(0.01))
            .is_err()
    );
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
    let controller = Recorded::every(WINDOW);
    let mut service = LoadShed::ratio(1.0)
        .budget(&controller.budget)
        .layer(holding());
    let mut hanging = Vec::new();
    for in_flight in 1..5 {
        advance(WINDOW).await;
        hanging.push(
            controller
                .budget
                .try_acquire(Threshold::NEVER_SHED)
                .unwrap(),
        );
        let figures = Figures {
            elapsed: WINDOW,
            in_flight,
            completed: 0,
            refused: 0,
        };
        assert_eq!(controller.windows(), [figures]);
    }
    advance(WINDOW).await;
    drop(answer(&mut service, get("/")));
    assert_eq!(controller.windows().len(), 1);
}

/// Requests that arrive, and are in flight for one window or for several.
struct Flow {
    controller: Recorded,
    in_flight: VecDeque<Vec<Permit>>,
    /// One in this number of requests is slow:
    one_in: usize,
    /// it is in flight for this number of windows.
    windows: usize,
}

/// The completions of one window.
struct Finished {
    completed: usize,
    slow: usize,
    samples: usize,
    slow_samples: usize,
}

impl Flow {
    fn new(one_in: usize, windows: usize) -> Self {
        Self {
            controller: Recorded::every(WINDOW),
            in_flight: VecDeque::new(),
            one_in,
            windows,
        }
    }

    async fn window(&mut self, arrive: usize) -> Finished {
        advance(WINDOW).await;
        let quick = self.in_flight.back_mut().map_or(Vec::new(), |last| {
            let slow = last.len() / self.one_in;
            last.split_off(slow)
        });
        let slow = match self.in_flight.len() > self.windows {
            true => self.in_flight.pop_front().unwrap_or_default(),
            false => Vec::new(),
        };
        let (quick, slow) = (quick.len(), slow.len());
        let admit = || {
            self.controller
                .budget
                .try_acquire(Threshold::NEVER_SHED)
                .unwrap()
        };
        self.in_flight
            .push_back((0..arrive).map(|_| admit()).collect());
        let samples = self.controller.samples();
        let is_slow = |sample: &&Sample| sample.latency > 2 * WINDOW;
        Finished {
            completed: quick + slow,
            slow,
            samples: samples.len(),
            slow_samples: samples.iter().filter(is_slow).count(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p14_samples_are_representative_where_fewer_requests_arrive_and_more_of_them_are_measured()
{
    let mut flow = Flow::new(4, 16);
    for _ in 0..40 {
        flow.window(1_024).await;
    }
    let (mut finished, mut samples) = (0.0, 0.0);
    for _ in 0..16 {
        let seen = flow.window(128).await;
        finished += seen.slow as f64 / seen.completed as f64;
        samples += seen.slow_samples as f64 / seen.samples as f64;
    }
    assert!(
        (samples / finished - 1.0).abs() < 0.1,
        "{samples:.2} of 16, where {finished:.2} are slow"
    );
}

#[tokio::test(start_paused = true)]
async fn p14_the_number_of_samples_in_a_window_does_not_depend_on_how_long_requests_take() {
    let mut flow = Flow::new(1, 40);
    for _ in 0..100 {
        flow.window(2_048).await;
    }
    for _ in 0..100 {
        let samples = flow.window(2_048).await.samples;
        assert!((64..=300).contains(&samples), "{samples} of 2,048");
    }
}
