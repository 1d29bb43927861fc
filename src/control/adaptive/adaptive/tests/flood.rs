use std::time::Duration;

use tokio::time::Instant;

use super::{TICK, cap, samples, window};
use crate::control::{
    adaptive::adaptive::Adaptive,
    controller::{Controller, Outcome, Sample},
};

const HALF_A_SECOND: Duration = Duration::from_millis(500);

/// A processor that is shared by more and more: by the first look into it a request takes many times too long.
struct Flood {
    law: Adaptive,
    began: Instant,
    nth: u32,
    limit: usize,
}

impl Flood {
    /// Up to the guard. The first who are done took so long, but one of them less.
    fn of(first: Duration) -> Self {
        let law = Adaptive::default();
        let (began, limit) = (Instant::now(), law.initial_limit());
        let mut flood = Self {
            law,
            began,
            nth: 0,
            limit,
        };
        for nth in 1..=24 {
            flood.step(200 * nth, &[]);
        }
        let mut ended = samples(6, began, first, limit);
        ended[0].latency = first / 25;
        assert_eq!(flood.step(5_000, &ended), "burst guard");
        flood
    }

    fn step(&mut self, in_flight: usize, ended: &[Sample]) -> &'static str {
        self.nth += 1;
        let mut window = window(self.began + self.nth * TICK, self.limit, in_flight, ended);
        window.refused = if cap(self.limit) <= in_flight { 50 } else { 0 };
        let decision = self.law.update(&window);
        self.limit = decision.limit;
        decision.reason
    }

    /// After how long it asks, where those who are let in leave after 120 ms, all but one in ten.
    fn asks(&mut self) -> Duration {
        let patience = Duration::from_millis(120);
        let mut ended = samples(20, self.began, patience, self.limit);
        for sample in &mut ended[2..] {
            sample.outcome = Outcome::Cancelled;
        }
        let steps = (1..=100).find(|_| self.step(cap(self.limit), &ended) == "probing");
        steps.expect("it asks some time") * TICK
    }
}

#[test]
fn p12_a_line_is_not_borne_for_long_by_a_hasty_guess_while_hardly_anybody_is_answered() {
    let took = Flood::of(HALF_A_SECOND).asks();
    assert!(took <= Duration::from_millis(300), "{took:?}");
}

#[test]
fn p12_a_hasty_guess_is_not_agreed_with_where_fewer_bring_more_answers() {
    let mut flood = Flood::of(Duration::from_millis(40));
    let few = samples(2, flood.began, Duration::from_millis(100), flood.limit);
    assert!((0..100).any(|_| flood.step(cap(flood.limit), &few) == "probing"));
    // Eight processors, each of which takes 16 ms for one.
    let mut reasons = Vec::new();
    for _ in 0..50 {
        let room = cap(flood.limit);
        let took = Duration::from_millis(2) * room.max(8) as u32;
        let ended = samples(10 * room.min(8) / 8, flood.began, took, flood.limit);
        reasons.push(flood.step(room, &ended));
    }
    assert!(reasons.contains(&"probe complete"), "{reasons:?}");
    assert!((8..16).contains(&cap(flood.limit)), "{}", cap(flood.limit));
}
