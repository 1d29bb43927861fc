//! A table of retry storms, by retry hint.

use std::time::Duration;

use loadshed::{Budget, RetryAfter};
use loadshed_lab::{Oracle, RetryDelay, Size, Storm, Times};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// Returns the retry delay of the callers and the hint of the server, by name.
fn hints() -> Vec<(&'static str, RetryDelay, RetryAfter)> {
    let fixed = |seconds| RetryAfter::fixed(SECONDS(seconds));
    vec![
        ("adaptive", RetryDelay::HintSeconds, RetryAfter::adaptive()),
        (
            "adaptive, in ms",
            RetryDelay::HintMilliseconds,
            RetryAfter::adaptive(),
        ),
        (
            "adaptive, at most 10 min",
            RetryDelay::HintSeconds,
            RetryAfter::adaptive().max(SECONDS(600)),
        ),
        ("1 s", RetryDelay::HintSeconds, fixed(1)),
        ("5 s", RetryDelay::HintSeconds, fixed(5)),
        ("5 to 10 s", RetryDelay::HintSeconds, fixed(5).jitter(1.0)),
        ("none: 50 to 150 ms", RetryDelay::Short, RetryAfter::none()),
        ("none: 1, 2, 4 s", RetryDelay::Doubling, RetryAfter::none()),
    ]
}

/// Prints a table with the worst value of the seeds for each metric.
pub(crate) fn print(sizes: &[Size], seeds: std::ops::Range<u64>) {
    println!(
        "| size | budget | trigger, s | hint | peak | area, s | recovered in, s | lost, s | goodput | ÷ oracle | ÷ possible |"
    );
    println!("|---|---|--:|---|--:|--:|--:|--:|--:|--:|--:|");
    for &size in sizes {
        for trigger in [5, 30] {
            for (name, retry_delay, retry_after) in hints() {
                let storm = Storm {
                    trigger: SECONDS(trigger),
                    retry_delay,
                    retry_after,
                    ..Storm::new(size.pool(Times::Exponential))
                };
                rows(size, name, &storm, seeds.clone());
            }
        }
    }
}

fn rows(size: Size, hint: &str, storm: &Storm, seeds: std::ops::Range<u64>) {
    let oracle = |seed| Oracle::of(&storm.scenario(), seed).scores.remove(0);
    let scores: Vec<_> = seeds.clone().map(oracle).collect();
    let limit = scores[0][2].limit;
    let trigger = storm.trigger.as_secs();
    type MakeBudget = Box<dyn Fn() -> Budget>;
    // The layer's ratio is 0.85.
    let fixed = (limit as f64 / 0.85).ceil() as usize;
    let budgets: [(&str, MakeBudget); 2] = [
        ("fixed", Box::new(move || Budget::fixed(fixed))),
        ("learned", Box::new(Budget::adaptive)),
    ];
    for (name, budget) in budgets {
        let waves: Vec<_> = seeds.clone().map(|seed| storm.run(seed, &budget)).collect();
        let worst = |of: fn(&loadshed_lab::Wave) -> f64| waves.iter().map(of).fold(0.0, f64::max);
        let goodput = waves.iter().map(|wave| wave.goodput).fold(9.0, f64::min);
        let after = storm.after.as_secs_f64() * storm.server.capacity();
        let scores = waves.iter().zip(&scores);
        let scores = scores.map(|(wave, scores)| wave.goodput * after / scores[2].good);
        println!(
            "| {size} | {name} | {trigger} | {hint} | {:.2} | {:.1} | {:.0} | {:.1} | {goodput:.2} | {:.3} | {:.2} |",
            worst(|wave| wave.peak),
            worst(|wave| wave.area),
            worst(|wave| wave.recovery.as_secs_f64()),
            worst(|wave| wave.lost),
            scores.fold(9.0, f64::min),
            goodput / storm.possible(),
        );
    }
}
