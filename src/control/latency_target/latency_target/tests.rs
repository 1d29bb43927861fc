use tokio::time::Instant;

use super::*;
use crate::control::controller::{Outcome, Sample};

const TARGET: Duration = Duration::from_millis(200);

/// A controller and its windows of 25 ms.
struct Run {
    controller: LatencyTarget,
    now: Instant,
    limit: usize,
}

/// Requests that finish in a window, all with one latency and one outcome.
#[derive(Clone, Copy)]
struct Requests {
    latency_ms: u64,
    outcome: Outcome,
    finished: usize,
    in_flight: usize,
    refused: usize,
}

const QUICK: Requests = Requests {
    latency_ms: 50,
    outcome: Outcome::Success,
    finished: 20,
    in_flight: 100,
    refused: 0,
};

const SLOW: Requests = Requests {
    latency_ms: 250,
    ..QUICK
};

impl Requests {
    fn refusing(self) -> Self {
        Self { refused: 1, ..self }
    }
}

impl Run {
    fn at(limit: usize) -> Self {
        Self {
            controller: LatencyTarget::new(TARGET),
            now: Instant::now(),
            limit,
        }
    }

    /// Runs one window in which all of `groups` finish.
    fn window(&mut self, groups: &[Requests]) -> &'static str {
        self.now += WINDOW;
        let mut samples = Vec::new();
        for &group in groups {
            let latency = Duration::from_millis(group.latency_ms);
            for finished in 0..group.finished {
                let before = WINDOW * (group.finished - finished) as u32 / group.finished as u32;
                let mut sample = Sample::new(self.now - before - latency);
                sample.latency = latency;
                sample.in_flight = group.in_flight;
                sample.outcome = group.outcome;
                samples.push(sample);
            }
        }
        let mut window = Window::new(self.now, self.limit);
        window.elapsed = WINDOW;
        window.in_flight = groups[0].in_flight;
        window.completed = samples.len();
        window.refused = groups.iter().map(|group| group.refused).sum();
        window.samples = &samples;
        let decision = self.controller.update(&window);
        self.limit = decision.limit;
        decision.reason
    }

    /// Runs as many such windows as fill `time`, and another that closes it. Returns the reasons of the decisions.
    fn windows(&mut self, time: Duration, groups: &[Requests]) -> Vec<&'static str> {
        let count = time.as_millis() / WINDOW.as_millis() + 1;
        let mut reasons: Vec<_> = (0..count).map(|_| self.window(groups)).collect();
        reasons.retain(|reason| *reason != "too few samples");
        reasons
    }
}

#[test]
fn latency_above_the_target_lowers_the_limit_by_littles_law() {
    let mut run = Run::at(1_000);
    // 80 ms above the aim at 800 requests a second: 64 of the 100 in flight. The largest decrease is half.
    assert_eq!(run.window(&[SLOW.refusing()]), "latency above target");
    assert_eq!(run.limit, 50);

    let mut run = Run::at(100);
    let binding = SLOW.refusing();
    let slightly = Requests {
        latency_ms: 210,
        finished: 10,
        ..binding
    };
    assert_eq!(run.window(&[slightly]), "latency above target");
    // 40 ms above the aim at 400 requests a second: 16.
    assert_eq!(run.limit, 84);

    // Where a layer sheds at 0.85, 16 of 85 are 19 % of the limit.
    let mut run = Run::at(100);
    run.window(&[Requests {
        in_flight: 85,
        ..slightly
    }]);
    assert_eq!(run.limit, 81);

    // 16 of 1,000 would be lost in the noise: 5 % is the smallest decrease.
    let mut run = Run::at(1_000);
    run.window(&[Requests {
        in_flight: 1_000,
        ..slightly
    }]);
    assert_eq!(run.limit, 950);
}

#[test]
fn a_latency_that_chance_may_explain_lowers_the_limit_after_a_target_only() {
    let mut run = Run::at(100);
    // Three of 23 are more than one in ten: in a single window chance may explain it.
    let some_slow = [
        QUICK,
        Requests {
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
    // These requests were admitted before the decrease: 250 ms are ten windows.
    for _ in 0..9 {
        assert_eq!(run.window(&[SLOW]), "too few samples");
    }
    assert_eq!(run.limit, limit);
    assert_eq!(run.windows(TARGET, &[SLOW]), ["latency above target"]);
    assert!(run.limit < limit);
}

#[test]
fn p12_the_limit_grows_only_while_requests_are_refused() {
    let mut run = Run::at(100);
    let steady = Requests {
        latency_ms: 100,
        finished: 25,
        ..QUICK
    };
    assert_eq!(run.windows(TARGET, &[steady]), ["within target"]);
    assert_eq!(run.limit, 100);
    assert_eq!(run.windows(TARGET, &[steady.refusing()]), ["headroom"]);
    // 70 ms below the aim at 1,000 requests a second: half of 70, and a little more as the first sample begins the span.
    assert!((133..=140).contains(&run.limit), "{}", run.limit);
}

#[test]
fn the_limit_grows_to_twice_the_requests_in_flight_at_most_and_also_from_1() {
    let mut run = Run::at(1_000);
    let few = Requests {
        in_flight: 10,
        ..QUICK
    };
    run.windows(TARGET, &[few.refusing()]);
    assert_eq!(run.limit, 1_000);
    let mut run = Run::at(1);
    let one = Requests {
        in_flight: 1,
        finished: 1,
        ..QUICK
    };
    run.windows(TARGET * 2, &[one.refusing()]);
    assert!((2..=4).contains(&run.limit), "{}", run.limit);
}

#[test]
fn a_growing_queue_lowers_the_limit_before_its_latency_exceeds_the_target() {
    let mut run = Run::at(65_536);
    let rising = Requests {
        latency_ms: 100,
        ..QUICK
    };
    assert_eq!(run.window(&[rising]), "too few samples");
    // At 800 requests a second, 1,000 more in flight add 1.25 s of latency.
    let flooded = Requests {
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
fn p14_hanging_requests_do_not_lower_the_limit() {
    let mut run = Run::at(100);
    let hanging = Requests {
        latency_ms: 1_000,
        outcome: Outcome::Cancelled,
        ..QUICK
    };
    for _ in 0..100 {
        // One request in five never completes, and every second request in the next window.
        run.window(&[
            QUICK,
            Requests {
                finished: 5,
                ..hanging
            },
        ]);
        run.window(&[
            QUICK,
            Requests {
                finished: 20,
                ..hanging
            },
        ]);
    }
    assert_eq!(run.limit, 100);
}

#[test]
fn the_limit_is_halved_where_more_requests_are_cancelled_than_succeed() {
    let mut run = Run::at(100);
    let cancelled = Requests {
        latency_ms: 1_000,
        outcome: Outcome::Cancelled,
        ..QUICK
    };
    assert_eq!(run.window(&[cancelled]), "no responses");
    assert_eq!(run.limit, 50);
    // Fewer than ten more may be chance.
    let mut run = Run::at(100);
    let nine_more = [
        Requests {
            finished: 4,
            ..QUICK
        },
        Requests {
            finished: 13,
            ..cancelled
        },
    ];
    assert_eq!(run.window(&nine_more), "too few samples");
    // Requests cancelled before the target say nothing.
    let sooner = Requests {
        latency_ms: 199,
        ..cancelled
    };
    assert_eq!(run.windows(TARGET * 10, &[sooner]).len(), 0);
}

#[test]
fn p14_errors_are_neither_quick_nor_slow_responses() {
    for outcome in [Outcome::Ignored, Outcome::Overload] {
        let mut run = Run::at(100);
        let failed = Requests { outcome, ..SLOW };
        assert_eq!(run.windows(TARGET * 10, &[failed.refusing()]).len(), 0);
    }
}

#[test]
fn requests_that_ended_long_ago_do_not_count() {
    let mut run = Run::at(100);
    let nine = Requests {
        finished: 9,
        in_flight: 9,
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
        Requests {
            in_flight: 70,
            ..QUICK
        },
        Requests {
            finished: 3,
            ..SLOW
        },
    ];
    let mut run = Run::at(100);
    run.controller = LatencyTarget::new(TARGET).percentile(0.5);
    assert_eq!(run.windows(TARGET, &one_in_eight), ["within target"]);
    // The 99th needs 100 samples.
    let mut run = Run::at(100);
    run.controller = LatencyTarget::new(TARGET).percentile(0.99);
    run.controller.target = Duration::from_millis(60);
    let ninety_nine = Requests {
        finished: 33,
        in_flight: 66,
        ..QUICK
    };
    assert_eq!(run.windows(WINDOW * 2, &[ninety_nine]).len(), 0);
    assert_eq!(run.window(&[ninety_nine]), "within target");
}

#[test]
fn p15_settings_are_checked() {
    assert!(LatencyTarget::try_new(Duration::ZERO).is_err());
    for wrong in [0.0, 0.49, 0.991, 1.0, f64::NAN, f64::INFINITY, -0.9] {
        assert!(LatencyTarget::new(TARGET).try_percentile(wrong).is_err());
    }
    let invalid = LatencyTarget::new(TARGET).try_percentile(f64::NAN);
    assert_eq!(
        invalid.unwrap_err().to_string(),
        "invalid percentile NaN: must be from 0.5 to 0.99"
    );
}

#[test]
fn p15_the_limit_stays_between_min_and_max() {
    let mut run = Run::at(70);
    run.controller = LatencyTarget::new(TARGET).min(60).max(120);
    assert_eq!(run.controller.initial_limit(), 120);
    run.window(&[SLOW.refusing()]);
    assert_eq!(run.limit, 60);
    for _ in 0..20 {
        run.windows(TARGET, &[QUICK.refusing()]);
    }
    assert_eq!(run.limit, 120);
}

#[test]
fn p15_a_clock_that_stands_still_changes_nothing() {
    let mut controller = LatencyTarget::new(TARGET);
    let now = Instant::now();
    for outcome in [Outcome::Success, Outcome::Cancelled, Outcome::Overload] {
        let mut sample = Sample::new(now);
        sample.outcome = outcome;
        let samples = [sample; 50];
        for _ in 0..50 {
            let mut window = Window::new(now, 100);
            (window.completed, window.refused, window.in_flight) = (50, 50, 100);
            window.samples = &samples;
            assert_eq!(
                controller.update(&window),
                Decision::new(100, "too few samples")
            );
        }
    }
    // Nor do requests that all end at one moment.
    let mut controller = LatencyTarget::new(TARGET);
    let mut slow = Sample::new(now);
    slow.latency = TARGET * 2;
    let samples = [slow; 50];
    let mut window = Window::new(now + slow.latency, 100);
    (window.completed, window.in_flight) = (50, 100);
    window.samples = &samples;
    assert_eq!(controller.update(&window).limit, 100);
}

#[test]
fn p16_the_same_windows_lead_to_the_same_limits() {
    let limits = || -> Vec<usize> {
        let mut run = Run::at(65_536);
        let requests = |nth: u64| Requests {
            latency_ms: 20 + nth * 97 % 300,
            ..QUICK.refusing()
        };
        let windows = (0..2_000).map(requests);
        windows
            .map(|requests| {
                run.window(&[requests]);
                run.limit
            })
            .collect()
    };
    assert_eq!(limits(), limits());
}

#[test]
fn many_samples_are_thinned_out_without_a_change_of_the_percentile() {
    let mut controller = LatencyTarget::new(Duration::from_secs(60));
    let start = Instant::now();
    let samples: Vec<_> = (0..100_000_u64)
        .map(|nth| {
            let mut sample = Sample::new(start + Duration::from_micros(nth));
            // The first fifth of the requests is slow.
            sample.latency = Duration::from_micros(if nth < 20_000 { 90_000 + nth / 2 } else { 1 });
            sample.in_flight = 10;
            sample
        })
        .collect();
    let mut window = Window::new(start + Duration::from_secs(1), 100);
    window.completed = samples.len();
    window.samples = &samples;
    controller.update(&window);
    let found = controller.evidence.find(window.now, 0.9).unwrap();
    assert!((found.quantile - 0.095).abs() < 0.001, "{}", found.quantile);
    let throughput = found.throughput;
    assert!((100_000.0..112_000.0).contains(&throughput), "{throughput}");
}

/// Calls that hang: nothing ends any more.
#[test]
fn p12_where_no_request_ends_the_limit_is_halved_by_the_age_of_those_in_flight() {
    let mut run = Run::at(1 << 16);
    let steady = Requests {
        finished: 15,
        in_flight: 30,
        ..QUICK
    };
    run.windows(TARGET, &[steady]);
    let mut reasons = Vec::new();
    for more in 1..=12 {
        let stalled = Requests {
            finished: 0,
            in_flight: 30 + 15 * more,
            ..QUICK
        };
        reasons.push(run.window(&[stalled]));
    }
    let decided = reasons
        .iter()
        .position(|reason| *reason == "requests older than target");
    // The first of them is 200 ms old after eight windows.
    assert!(
        decided.is_some_and(|nth| (7..=9).contains(&nth)),
        "{reasons:?}"
    );
    assert!(run.limit < 100, "{}", run.limit);
}
