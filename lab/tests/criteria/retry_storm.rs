//! The second wave after a trigger, by what the refused were told.

use std::time::Duration;

use loadshed::{Budget, RetryAfter};
use loadshed_lab::{Oracle, RetryDelay, Size, Storm, Times, Wave};

/// At the layer's ratio of 0.85, a line of a dozen is let in, so that chance leaves no worker idle.
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

/// With a fixed budget and with a learned one.
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
        let best = Oracle::of(&storm.scenario(), seed).scores()[2].good / seconds;
        for wave in waves(&storm, seed) {
            assert!(
                wave.goodput >= 0.95 * best,
                "seed {seed}: {best} or {wave:?}"
            );
        }
    }
}

/// Ten seconds of the capacity were refused; a minute has room for twelve.
#[test]
fn a_constant_retry_hint_and_no_hint_fail_visibly() {
    let seconds = Duration::from_secs;
    for (retry_delay, told) in [
        (RetryDelay::HintSeconds, RetryAfter::fixed(seconds(1))),
        (RetryDelay::HintSeconds, RetryAfter::fixed(seconds(5))),
        (RetryDelay::Doubling, RetryAfter::none()),
        (RetryDelay::Short, RetryAfter::none()),
    ] {
        let storm = storm(Size::Medium, retry_delay, told);
        for wave in waves(&storm, 1) {
            assert!(wave.peak > 1.5, "{told:?}: {wave:?}");
            assert!(wave.lost > 2.0, "{told:?}: {wave:?}");
            assert!(wave.goodput < 0.97 * storm.possible(), "{told:?}: {wave:?}");
        }
    }
}

/// Half a minute of three times the capacity leaves sixty seconds of it refused. Brought back within a minute, they alone
/// are the capacity; nothing that is said to them makes it less. In ten minutes there is room.
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
        "0.8 fresh, 1 back: {minute:?}"
    );
    let patient = long(adaptive.max(Duration::from_secs(600))).run(1, || fixed(64));
    assert!(patient.peak <= 1.1, "{patient:?}");
}
