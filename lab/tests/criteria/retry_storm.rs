//! The second wave after a trigger, depending on the retry hint.

use std::time::Duration;

use loadshed::{Budget, RetryAfter};
use loadshed_lab::{Oracle, RetryDelay, Size, Storm, Times, Wave};

/// Returns a budget that, at the ratio of 0.85, admits 13 (4 workers) to 17 calls (64 workers) more than there are workers, so
/// that chance leaves no worker idle.
fn fixed(workers: usize) -> Budget {
    Budget::fixed(workers * 5 / 4 + 16)
}

fn storm(size: Size, retry_delay: RetryDelay, retry_after: RetryAfter) -> Storm {
    Storm {
        retry_delay,
        retry_after,
        ..Storm::new(size.pool(Times::Exponential))
    }
}

/// Returns the waves under a fixed and under a learned budget.
fn waves(storm: &Storm, seed: u64) -> [Wave; 2] {
    let fixed = || fixed(storm.server.workers);
    [storm.run(seed, fixed), storm.run(seed, Budget::adaptive)]
}

#[test]
fn p20_an_adaptive_retry_hint_causes_no_second_wave() {
    for size in [Size::Tiny, Size::Medium] {
        for retry_delay in [RetryDelay::HintSeconds, RetryDelay::HintMilliseconds] {
            let storm = storm(size, retry_delay, RetryAfter::adaptive());
            for wave in waves(&storm, 1) {
                assert!(wave.peak <= 1.1, "{size}, {retry_delay:?}: {wave:?}");
                assert_eq!(
                    wave.recovery,
                    Duration::ZERO,
                    "{size}, {retry_delay:?}: {wave:?}"
                );
                assert!(wave.lost < 0.2, "{size}, {retry_delay:?}: {wave:?}");
                let possible = storm.possible();
                assert!(
                    wave.goodput >= 0.95 * possible,
                    "{size}, {retry_delay:?}: {wave:?}"
                );
            }
        }
    }
}

#[test]
fn p20_goodput_stays_at_the_oracles_while_refused_callers_retry() {
    let storm = storm(Size::Tiny, RetryDelay::HintSeconds, RetryAfter::adaptive());
    let seconds = storm.after.as_secs_f64() * storm.server.capacity();
    for seed in 1..4 {
        let best = Oracle::of(&storm.scenario(), seed).scores[0][2].good / seconds;
        for wave in waves(&storm, seed) {
            assert!(
                wave.goodput >= 0.95 * best,
                "seed {seed}: {best} or {wave:?}"
            );
        }
    }
}

/// The backlog of refused calls is 10 s of the capacity, and each minute has headroom for 12 s.
#[test]
fn a_constant_retry_hint_and_no_hint_fail_visibly() {
    let seconds = Duration::from_secs;
    for (retry_delay, hint) in [
        (RetryDelay::HintSeconds, RetryAfter::fixed(seconds(1))),
        (RetryDelay::HintSeconds, RetryAfter::fixed(seconds(5))),
        (RetryDelay::Doubling, RetryAfter::none()),
        (RetryDelay::Short, RetryAfter::none()),
    ] {
        let storm = storm(Size::Medium, retry_delay, hint);
        for wave in waves(&storm, 1) {
            assert!(wave.peak > 1.5, "{hint:?}: {wave:?}");
            assert!(wave.lost > 2.0, "{hint:?}: {wave:?}");
            assert!(wave.goodput < 0.97 * storm.possible(), "{hint:?}: {wave:?}");
        }
    }
}

/// A trigger of 30 s leaves a backlog of 60 s of the capacity. Retries within the longest default hint of 60 s are a load of 1
/// times the capacity, whatever the hints are. Ten minutes have headroom for the backlog.
#[test]
fn a_backlog_beyond_the_longest_hint_retries_evenly() {
    let long = |retry_after| Storm {
        trigger: Duration::from_secs(30),
        ..storm(Size::Medium, RetryDelay::HintSeconds, retry_after)
    };
    let adaptive = RetryAfter::adaptive();
    let minute = long(adaptive).run(1, || fixed(64));
    assert!(
        (1.7..2.1).contains(&minute.peak),
        "0.8 of new calls and 1 of retries: {minute:?}"
    );
    let ten_minutes = long(adaptive.max(Duration::from_secs(600))).run(1, || fixed(64));
    assert!(ten_minutes.peak <= 1.1, "{ten_minutes:?}");
}
