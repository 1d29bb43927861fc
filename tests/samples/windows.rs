//! When a window is closed, and what it says.

use loadshed::{LoadShed, Threshold};
use tokio::time::advance;
use tower::Layer;

use super::{Figures, Recorded, WINDOW};
use crate::support::{answer, get, holding, is_refused};

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
