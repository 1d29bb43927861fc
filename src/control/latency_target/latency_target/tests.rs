use tokio::time::Instant;

use super::*;
use crate::control::controller::{Outcome, Sample};

const TARGET: Duration = Duration::from_millis(200);

/// A law and the world that it looks at: windows of 25 ms, in which as many finish as the throughput says.
struct Run {
    law: LatencyTarget,
    now: Instant,
    limit: usize,
}

/// What finishes, in milliseconds and requests.
#[derive(Clone, Copy)]
struct Seen {
    latency_ms: u64,
    outcome: Outcome,
    finished: usize,
    in_flight: usize,
    refused: usize,
}

const QUICK: Seen = Seen {
    latency_ms: 50,
    outcome: Outcome::Success,
    finished: 20,
    in_flight: 100,
    refused: 0,
};

const SLOW: Seen = Seen {
    latency_ms: 250,
    ..QUICK
};

impl Seen {
    fn refusing(self) -> Self {
        Self { refused: 1, ..self }
    }
}

impl Run {
    fn at(limit: usize) -> Self {
        Self {
            law: LatencyTarget::new(TARGET),
            now: Instant::now(),
            limit,
        }
    }

    /// One window in which all of `seen` finishes, each admitted as long ago as it took.
    fn window(&mut self, seen: &[Seen]) -> &'static str {
        self.now += WINDOW;
        let mut samples = Vec::new();
        for &seen in seen {
            let latency = Duration::from_millis(seen.latency_ms);
            for finished in 0..seen.finished {
                let before = WINDOW * (seen.finished - finished) as u32 / seen.finished as u32;
                let mut sample = Sample::new(self.now - before - latency);
                sample.latency = latency;
                sample.in_flight = seen.in_flight;
                sample.outcome = seen.outcome;
                samples.push(sample);
            }
        }
        let mut window = Window::new(self.now, self.limit);
        window.elapsed = WINDOW;
        window.in_flight = seen[0].in_flight;
        window.completed = samples.len();
        window.refused = seen.iter().map(|seen| seen.refused).sum();
        window.samples = &samples;
        let decision = self.law.update(&window);
        self.limit = decision.limit;
        decision.reason
    }

    /// As many such windows as fill `time`, and one to close it.
    fn windows(&mut self, time: Duration, seen: &[Seen]) -> Vec<&'static str> {
        let count = time.as_millis() / WINDOW.as_millis() + 1;
        let mut reasons: Vec<_> = (0..count).map(|_| self.window(seen)).collect();
        reasons.retain(|reason| *reason != "too few samples");
        reasons
    }
}

#[test]
fn too_slow_takes_the_limit_down_by_littles_law() {
    let mut run = Run::at(1_000);
    // 80 ms too slow at 800 a second: 64 of the 100 in flight. Half is the most.
    assert_eq!(run.window(&[SLOW.refusing()]), "latency above target");
    assert_eq!(run.limit, 50);

    let mut run = Run::at(100);
    let in_force = SLOW.refusing();
    let slightly = Seen {
        latency_ms: 210,
        finished: 10,
        ..in_force
    };
    assert_eq!(run.window(&[slightly]), "latency above target");
    // 40 ms too much at 400 a second: 16.
    assert_eq!(run.limit, 84);

    // Where a layer sheds at 0.85, 16 of 85 are 19 % of the limit.
    let mut run = Run::at(100);
    run.window(&[Seen {
        in_flight: 85,
        ..slightly
    }]);
    assert_eq!(run.limit, 81);

    // 16 of 1,000 would be lost in the noise.
    let mut run = Run::at(1_000);
    run.window(&[Seen {
        in_flight: 1_000,
        ..slightly
    }]);
    assert_eq!(run.limit, 950);
}

#[test]
fn what_is_in_doubt_waits_until_the_target_has_passed() {
    let mut run = Run::at(100);
    // Three of 23 are more than one in ten, which is by chance in a single window.
    let some_slow = [
        QUICK,
        Seen {
            finished: 3,
            ..SLOW
        },
    ];
    assert_eq!(run.window(&some_slow), "too few samples");
    assert_eq!(run.windows(TARGET, &some_slow), ["latency above target"]);
}

#[test]
fn one_episode_is_one_decrease() {
    let mut run = Run::at(100);
    assert_eq!(run.window(&[SLOW]), "latency above target");
    let limit = run.limit;
    // These were admitted before the cut: a quarter of a second is ten windows.
    for _ in 0..9 {
        assert_eq!(run.window(&[SLOW]), "too few samples");
    }
    assert_eq!(run.limit, limit);
    assert_eq!(run.windows(TARGET, &[SLOW]), ["latency above target"]);
    assert!(run.limit < limit);
}

#[test]
fn p12_it_grows_only_while_somebody_is_refused() {
    let mut run = Run::at(100);
    assert_eq!(run.windows(TARGET, &[QUICK]), ["within target"]);
    assert_eq!(run.limit, 100);
    assert_eq!(run.windows(TARGET, &[QUICK.refusing()]), ["headroom"]);
    // 120 ms of room at 800 a second: half of 96, and a little more as the first sample opens the span.
    assert!((145..=155).contains(&run.limit), "{}", run.limit);
}

#[test]
fn it_grows_to_twice_of_what_was_really_in_flight_and_also_from_one() {
    let mut run = Run::at(1_000);
    let few = Seen {
        in_flight: 10,
        ..QUICK
    };
    run.windows(TARGET, &[few.refusing()]);
    assert_eq!(run.limit, 1_000);
    let mut run = Run::at(1);
    let one = Seen {
        in_flight: 1,
        finished: 1,
        ..QUICK
    };
    run.windows(TARGET * 2, &[one.refusing()]);
    assert!((2..=4).contains(&run.limit), "{}", run.limit);
}

#[test]
fn a_line_that_grows_faster_than_it_is_worked_off_is_cut_before_it_is_too_slow() {
    let mut run = Run::at(65_536);
    let rising = Seen {
        latency_ms: 100,
        ..QUICK
    };
    assert_eq!(run.window(&[rising]), "too few samples");
    // At 800 a second, 1,000 more in flight will take 1.25 s more.
    let flooded = Seen {
        in_flight: 1_100,
        finished: 0,
        ..QUICK
    };
    assert_eq!(
        run.window(&[flooded, rising]),
        "latency about to exceed target"
    );
    assert!(run.limit < 200, "{}", run.limit);
}

#[test]
fn p14_hanging_calls_do_not_lower_it() {
    let mut run = Run::at(100);
    let hang = Seen {
        latency_ms: 1_000,
        outcome: Outcome::Cancelled,
        ..QUICK
    };
    for _ in 0..100 {
        // One in five hangs, and in the next windows half does.
        run.window(&[
            QUICK,
            Seen {
                finished: 5,
                ..hang
            },
        ]);
        run.window(&[
            QUICK,
            Seen {
                finished: 20,
                ..hang
            },
        ]);
    }
    assert_eq!(run.limit, 100);
}

#[test]
fn where_more_give_up_than_are_answered_it_halves() {
    let mut run = Run::at(100);
    let gave_up = Seen {
        latency_ms: 1_000,
        outcome: Outcome::Cancelled,
        ..QUICK
    };
    assert_eq!(run.window(&[gave_up]), "no responses");
    assert_eq!(run.limit, 50);
    // Ten more, or it may be chance.
    let mut run = Run::at(100);
    let nine_more = [
        Seen {
            finished: 4,
            ..QUICK
        },
        Seen {
            finished: 13,
            ..gave_up
        },
    ];
    assert_eq!(run.window(&nine_more), "too few samples");
    // Callers who leave before the target say nothing.
    let left = Seen {
        latency_ms: 199,
        ..gave_up
    };
    assert_eq!(run.windows(TARGET * 10, &[left]).len(), 0);
}

#[test]
fn p14_errors_are_neither_quick_nor_slow_answers() {
    for outcome in [Outcome::Ignored, Outcome::Overload] {
        let mut run = Run::at(100);
        let failed = Seen { outcome, ..SLOW };
        assert_eq!(run.windows(TARGET * 10, &[failed.refusing()]).len(), 0);
    }
}

#[test]
fn what_is_long_over_is_no_evidence() {
    let mut run = Run::at(100);
    let nine = Seen {
        finished: 9,
        ..SLOW
    };
    run.window(&[nine]);
    run.now += Duration::from_secs(11);
    assert_eq!(run.window(&[nine]), "too few samples");
    assert_eq!(run.window(&[nine]), "latency above target");
}

#[test]
fn the_percentile_is_a_setting() {
    let one_in_eight = [
        QUICK,
        Seen {
            finished: 3,
            ..SLOW
        },
    ];
    let mut run = Run::at(100);
    run.law = LatencyTarget::new(TARGET).percentile(0.5);
    assert_eq!(run.windows(TARGET, &one_in_eight), ["within target"]);
    // The 99th needs 100 samples.
    let mut run = Run::at(100);
    run.law = LatencyTarget::new(TARGET).percentile(0.99);
    run.law.target = WINDOW;
    let ninety_nine = Seen {
        finished: 33,
        ..QUICK
    };
    assert_eq!(run.windows(WINDOW * 2, &[ninety_nine]).len(), 0);
    assert_eq!(run.window(&[ninety_nine]), "latency above target");
}

#[test]
fn p15_settings_are_checked() {
    assert!(LatencyTarget::try_new(Duration::ZERO).is_err());
    for wrong in [0.0, 0.49, 0.991, 1.0, f64::NAN, f64::INFINITY, -0.9] {
        assert!(LatencyTarget::new(TARGET).try_percentile(wrong).is_err());
    }
    let refused = LatencyTarget::new(TARGET).try_percentile(f64::NAN);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "invalid percentile NaN: must be from 0.5 to 0.99"
    );
}

#[test]
fn p15_it_stays_between_floor_and_ceiling() {
    let mut run = Run::at(70);
    run.law = LatencyTarget::new(TARGET).min(60).max(120);
    assert_eq!(run.law.initial_limit(), 120);
    run.window(&[SLOW.refusing()]);
    assert_eq!(run.limit, 60);
    for _ in 0..20 {
        run.windows(TARGET, &[QUICK.refusing()]);
    }
    assert_eq!(run.limit, 120);
}

#[test]
fn p15_a_clock_that_stands_still_changes_nothing() {
    let mut law = LatencyTarget::new(TARGET);
    let now = Instant::now();
    for outcome in [Outcome::Success, Outcome::Cancelled, Outcome::Overload] {
        let mut sample = Sample::new(now);
        sample.outcome = outcome;
        let samples = [sample; 50];
        for _ in 0..50 {
            let mut window = Window::new(now, 100);
            (window.completed, window.refused, window.in_flight) = (50, 50, 100);
            window.samples = &samples;
            assert_eq!(law.update(&window), Decision::new(100, "too few samples"));
        }
    }
    // Nor does a world in which all ends at once.
    let mut law = LatencyTarget::new(TARGET);
    let mut slow = Sample::new(now);
    slow.latency = TARGET * 2;
    let samples = [slow; 50];
    let mut window = Window::new(now + slow.latency, 100);
    (window.completed, window.in_flight) = (50, 100);
    window.samples = &samples;
    assert_eq!(law.update(&window).limit, 100);
}

#[test]
fn p16_the_same_windows_lead_to_the_same_limits() {
    let limits = || -> Vec<usize> {
        let mut run = Run::at(65_536);
        let world = |nth: u64| Seen {
            latency_ms: 20 + nth * 97 % 300,
            ..QUICK.refusing()
        };
        let windows = (0..2_000).map(world);
        windows
            .map(|seen| {
                run.window(&[seen]);
                run.limit
            })
            .collect()
    };
    assert_eq!(limits(), limits());
}

#[test]
fn many_samples_are_kept_as_few_that_say_the_same() {
    let mut law = LatencyTarget::new(Duration::from_secs(60));
    let start = Instant::now();
    let samples: Vec<_> = (0..100_000_u64)
        .map(|nth| {
            let mut sample = Sample::new(start + Duration::from_micros(nth));
            // The first fifth is slow.
            sample.latency = Duration::from_micros(if nth < 20_000 { 90_000 + nth / 2 } else { 1 });
            sample.in_flight = 10;
            sample
        })
        .collect();
    let mut window = Window::new(start + Duration::from_secs(1), 100);
    window.completed = samples.len();
    window.samples = &samples;
    law.update(&window);
    let found = law.evidence.find(window.now, 0.9).unwrap();
    assert!((found.quantile - 0.095).abs() < 0.001, "{}", found.quantile);
    let throughput = found.throughput;
    assert!((100_000.0..112_000.0).contains(&throughput), "{throughput}");
}
