use std::time::Duration;

use tokio::time::Instant;

use super::{Learned, Start};
use crate::control::{
    adaptive::adaptive::{
        Adaptive,
        tests::{TICK, samples, window},
    },
    controller::{Controller, Decision, Outcome},
};

#[test]
fn the_first_to_finish_are_the_short_ones_and_do_not_count_alone() {
    let (mut start, began) = (Start::default(), Instant::now());
    let quick = samples(10, began, Duration::from_millis(10), 100);
    let at = |millis| began + Duration::from_millis(millis);
    assert!(start.learn(&window(at(12), 100, 50, &quick)).is_none());
    let rest = samples(50, began, Duration::from_millis(100), 100);
    let learned = start.learn(&window(at(100), 100, 0, &rest)).unwrap();
    assert!((0.08..0.09).contains(&learned.known.service), "{learned:?}");
}

#[test]
fn a_flood_shows_when_twice_as_many_in_flight_bring_no_more_answers() {
    let (mut start, began) = (Start::default(), Instant::now());
    for (step, in_flight) in [(1, 100), (2, 150)] {
        let now = began + TICK * step;
        let answers = samples(25, now - TICK, TICK, 1_000);
        assert!(
            start
                .learn(&window(now, 1_000, in_flight, &answers))
                .is_none()
        );
    }
    let now = began + TICK * 3;
    let answers = samples(25, now - TICK, TICK, 1_000);
    assert!(start.learn(&window(now, 1_000, 250, &answers)).is_some());
}

/// So many who came at that moment have left without an answer, and so many are inside.
fn left(start: &mut Start, came: Instant, count: usize, inside: usize) -> Option<f64> {
    let mut samples = samples(count, came, TICK, 1_000);
    for sample in &mut samples {
        sample.outcome = Outcome::Cancelled;
    }
    let window = window(came + TICK, 1_000, inside, &samples);
    assert!(start.learn(&window).is_none());
    start.room(&window)
}

#[test]
fn p12_where_nobody_is_answered_at_all_a_few_are_let_in_and_then_fewer() {
    let (mut start, began) = (Start::default(), Instant::now());
    let at = |step: u32| began + TICK * step;
    assert_eq!(left(&mut start, at(0), 150, 300), None);
    assert_eq!(left(&mut start, at(1), 140, 300), None);
    assert_eq!(left(&mut start, at(2), 10, 300), Some(16.0));
    // These came before.
    assert_eq!(left(&mut start, at(2), 200, 16), None);
    assert_eq!(left(&mut start, at(3), 15, 16), None);
    assert_eq!(left(&mut start, at(4), 1, 16), Some(8.0));
    assert_eq!(left(&mut start, at(5), 16, 8), Some(4.0));
    let answers = samples(4, at(6), TICK, 4);
    let learned = start.learn(&window(at(8), 4, 4, &answers)).unwrap();
    assert!(
        (0.019..0.021).contains(&learned.known.service),
        "{learned:?}"
    );
    assert!(learned.known.hasty);
}

#[test]
fn p12_one_at_a_time_is_let_in_until_the_answers_of_some_have_come() {
    let (mut start, began) = (Start::default(), Instant::now());
    let mut rooms = Vec::new();
    for step in 0..200 {
        rooms.extend(left(&mut start, began + TICK * step, 16, 16));
        if step % 50 == 49 {
            let one = samples(1, began + TICK * step, TICK, 1_000);
            let known = start.learn(&window(began + TICK * (step + 1), 1_000, 1, &one));
            assert_eq!(known.is_some(), step == 199);
        }
    }
    assert_eq!(rooms, [8.0, 4.0, 2.0, 1.0]);
}

#[test]
fn p12_fewer_is_at_most_half_of_those_inside() {
    let mut start = Start::default();
    assert_eq!(left(&mut start, Instant::now(), 20, 20), Some(10.0));
}

#[test]
fn p11_who_leaves_where_few_are_inside_is_no_reason_to_let_fewer_in() {
    let (mut start, began) = (Start::default(), Instant::now());
    for step in 0..200 {
        assert_eq!(left(&mut start, began + TICK * step, 1, 1), None);
    }
}

#[test]
fn p11_who_leaves_where_others_are_answered_is_no_reason_to_let_fewer_in() {
    let (mut start, now) = (Start::default(), Instant::now());
    let mut samples = samples(40, now, TICK, 1_000);
    for (nth, sample) in samples.iter_mut().enumerate() {
        // Errors tell nothing of the server's speed, but it does answer.
        sample.outcome = [Outcome::Cancelled, Outcome::Ignored][nth % 2];
    }
    for step in 1..50 {
        let window = window(now + TICK * step, 1_000, 20, &samples);
        assert!(start.learn(&window).is_none());
        assert_eq!(start.room(&window), None);
    }
}

/// Of a server that takes 50 ms, and whose limit is 20: what is learned of it in 0.2 s.
fn full(start: &mut Start, began: Instant, outcome: fn(usize) -> Outcome) -> Option<Learned> {
    let mut nth = 0;
    (1..=10).find_map(|step| {
        let now = began + TICK * step;
        let mut ended = samples(
            8,
            now - Duration::from_millis(50),
            Duration::from_millis(50),
            20,
        );
        for sample in &mut ended {
            sample.outcome = outcome(nth);
            nth += 1;
        }
        let mut window = window(now, 20, 20, &ended);
        window.refused = 2;
        start.learn(&window)
    })
}

#[test]
fn p11_a_time_without_requests_is_none_that_anybody_waited() {
    let (mut start, now) = (Start::default(), Instant::now());
    let mut first = window(now, 20, 1, &[]);
    first.elapsed = Duration::from_secs(8 * 3_600);
    assert!(start.learn(&first).is_none());
    let learned = full(&mut start, now, |_| Outcome::Success).unwrap();
    assert!(
        (0.049..0.051).contains(&learned.known.service),
        "{learned:?}"
    );
}

#[test]
fn p11_errors_do_not_keep_a_server_from_being_known() {
    let every = |nth| [Outcome::Success, Outcome::Ignored][nth % 2];
    let learned = full(&mut Start::default(), Instant::now(), every);
    assert!(learned.is_some());
}

#[test]
fn p11_a_few_long_ones_that_are_worth_many_do_not_keep_a_server_from_being_known() {
    let (mut start, began) = (Start::default(), Instant::now());
    let learned = (1..100).find_map(|step| {
        let now = began + TICK * step;
        let ended = samples(4, now - TICK, TICK, 1_000);
        // Of 40 units nearly all are those of one that takes a second, and then another.
        let mut window = window(now, 1_000, 40, &ended);
        window.completed = 8;
        start.learn(&window)
    });
    assert!(learned.is_some());
}

#[test]
fn p11_a_few_quick_ones_among_slow_ones_are_not_all() {
    let (mut start, began) = (Start::default(), Instant::now());
    let quick = Duration::from_millis(5);
    for step in 1..25 {
        // 1,000 a second, and as many as do not take half a second are one in twenty.
        let now = began + TICK * step;
        let ended = samples(1, now - quick, quick, 1 << 16);
        let learned = start.learn(&window(now, 1 << 16, 19 * step as usize, &ended));
        assert!(learned.is_none(), "after {step} windows: {learned:?}");
    }
}

#[test]
fn p11_many_who_come_after_a_few_are_no_flood_before_one_of_them_can_have_ended() {
    let (mut law, began) = (Adaptive::default(), Instant::now());
    let (second, service) = (Duration::from_secs(1), Duration::from_millis(200));
    for nth in 0..4 {
        let came = began + second * nth;
        let mut comes = window(came, 1 << 16, 1, &[]);
        comes.elapsed = second - service;
        law.update(&comes);
        let ended = samples(1, came, service, 1 << 16);
        let mut ends = window(came + service, 1 << 16, 0, &ended);
        ends.elapsed = service;
        law.update(&ends);
    }
    for step in 1..10 {
        // 1,000 a second.
        let now = began + second * 4 + TICK * step;
        let decision = law.update(&window(now, 1 << 16, 20 * step as usize, &[]));
        assert_eq!(
            decision,
            Decision::new(1 << 16, "unlimited"),
            "after {step} windows"
        );
    }
}

#[test]
fn p11_a_wave_is_no_line() {
    let (mut start, began) = (Start::default(), Instant::now());
    // 5,000 at once, of a second each: ten have ended after 10 ms.
    let ended: Vec<_> = (1..=10)
        .flat_map(|nth| samples(1, began, Duration::from_millis(nth), 1 << 16))
        .collect();
    let learned = start.learn(&window(
        began + Duration::from_millis(10),
        1 << 16,
        4_990,
        &ended,
    ));
    assert!(learned.is_none(), "{learned:?}");
}
