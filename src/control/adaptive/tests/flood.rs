use std::time::Duration;

use tokio::time::Instant;

use super::{TICK, samples, window};
use crate::control::{Controller, Outcome, Sample, adaptive::Adaptive};

const HALF: Duration = Duration::from_millis(500);

/// A processor that is shared by more and more: by the first look into it a request takes many times too long.
struct Flood {
    law: Adaptive,
    began: Instant,
    nth: u32,
    limit: usize,
    /// How long those took who were done first, but one.
    first: Duration,
}

impl Flood {
    /// Up to the guard.
    fn of(first: Duration) -> Self {
        let law = Adaptive::default();
        let (began, limit) = (Instant::now(), law.initial_limit());
        let mut flood = Self {
            law,
            began,
            nth: 0,
            limit,
            first,
        };
        for nth in 1..=24 {
            flood.step(200 * nth, &[]);
        }
        // One who came before the others took less.
        let mut ended = samples(6, began, first, limit);
        ended[0].latency = first / 25;
        assert_eq!(flood.step(5_000, &ended), "guard");
        flood
    }

    fn room(&self) -> usize {
        (self.limit * 85 / 100).max(1)
    }

    fn step(&mut self, in_flight: usize, ended: &[Sample]) -> &'static str {
        self.nth += 1;
        let mut window = window(self.began + self.nth * TICK, self.limit, in_flight, ended);
        window.refused = if self.room() <= in_flight { 50 } else { 0 };
        let decision = self.law.update(&window);
        self.limit = decision.limit;
        decision.reason
    }

    /// After how long it asks, where those who are let in leave after 120 ms, all but one in ten.
    fn asks(&mut self) -> Duration {
        let patience = Duration::from_millis(120);
        let mut ended = samples(20, self.began + self.first, patience, self.limit);
        for sample in &mut ended[2..] {
            sample.outcome = Outcome::Cancelled;
        }
        let steps = (1..=100).find(|_| self.step(self.room(), &ended) == "asking");
        steps.expect("it asks some time") * TICK
    }
}

#[test]
fn p12_a_line_is_not_borne_for_long_by_a_hasty_guess_while_hardly_anybody_is_answered() {
    let took = Flood::of(HALF).asks();
    assert!(took <= Duration::from_millis(300), "{took:?}");
}

#[test]
fn a_limit_that_was_set_after_a_hasty_guess_is_not_asked_about_at_once() {
    let mut flood = Flood::of(HALF);
    flood.limit = 200;
    let took = flood.asks();
    assert!(took > Duration::from_millis(300), "{took:?}");
}

#[test]
fn p12_a_hasty_guess_is_not_agreed_with_where_fewer_bring_more_answers() {
    let mut flood = Flood::of(Duration::from_millis(40));
    let few = samples(2, flood.began, Duration::from_millis(100), flood.limit);
    assert!((0..100).any(|_| flood.step(flood.room(), &few) == "asking"));
    // So few all get their answers, one every two milliseconds.
    let each = Duration::from_millis(2);
    let in_a_tick = (TICK.as_millis() / each.as_millis()) as usize;
    for _ in 0..50 {
        let took = each * flood.room() as u32;
        let ended = samples(in_a_tick, flood.began + flood.first, took, flood.limit);
        flood.step(flood.room(), &ended);
    }
    assert!(flood.limit < 8, "{}", flood.limit);
}
