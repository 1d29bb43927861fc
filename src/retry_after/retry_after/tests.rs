use tokio::time::{Instant, advance};

use super::*;
use crate::{support::clock::Now, threshold::criticality::Criticality};

const SECOND: Duration = Duration::from_secs(1);

/// The shortest hint in milliseconds.
const LEAST: Duration = Duration::from_nanos(Unit::Milliseconds.least());

/// A server whose refusals join a schedule.
struct Door {
    schedule: Schedule,
    admitted: usize,
    refused: usize,
}

impl Door {
    fn new() -> Self {
        Self {
            schedule: Schedule::new(),
            admitted: 0,
            refused: 0,
        }
    }

    /// Refuses a request while ten are in flight. Returns its hint.
    fn refuse(&mut self, policy: RetryAfter, class: Criticality, unit: Unit) -> Hint {
        self.refused += 1;
        let refusal = Refusal {
            nth: self.refused as u64,
            class,
            unit,
            units: 1,
            in_flight: 10,
            now: &Now::default(),
        };
        let counts = || Counts {
            completed: self.admitted,
            arrived: self.admitted + self.refused,
        };
        policy.hint(&self.schedule, refusal, counts)
    }

    fn refuse_sheddable(&mut self) -> Hint {
        let adaptive = RetryAfter::adaptive();
        self.refuse(adaptive, Criticality::Sheddable, Unit::Milliseconds)
    }

    /// Serves `count` requests in this time, and refuses none.
    async fn serve(&mut self, count: usize, time: Duration) {
        advance(time).await;
        self.admitted += count;
    }

    /// Serves 100 requests and refuses `refused` requests a second. Returns the times at which refused requests return.
    async fn refuse_for(&mut self, seconds: usize, refused: usize) -> Vec<Instant> {
        let mut back = Vec::new();
        for nth in 0..seconds * refused {
            advance(SECOND / refused as u32).await;
            self.admitted += (nth + 1) * 100 / refused - nth * 100 / refused;
            back.push(Instant::now() + self.refuse_sheddable().wait());
        }
        back
    }
}

/// Counts the instants in each second from now on.
fn by_second(moments: &[Instant]) -> Vec<usize> {
    let mut counts = vec![0; 61];
    let ahead = |moment: &Instant| moment.checked_duration_since(Instant::now());
    for ahead in moments.iter().filter_map(ahead) {
        counts[ahead.as_secs() as usize] += 1;
    }
    counts
}

#[tokio::test(start_paused = true)]
async fn the_first_refused_request_gets_the_shortest_hint_of_its_protocol() {
    let mut door = Door::new();
    let mut first = |unit| door.refuse(RetryAfter::adaptive(), Criticality::Sheddable, unit);
    let http = first(Unit::Seconds);
    assert_eq!((http.wait(), http.seconds()), (SECOND, Some(1)));
    let mut door = Door::new();
    let grpc = door.refuse_sheddable();
    assert_eq!(grpc.milliseconds(), Some(10));
}

#[tokio::test(start_paused = true)]
async fn p20_refused_callers_return_at_the_rate_of_the_free_capacity() {
    let mut door = Door::new();
    door.serve(60 * 60, 60 * SECOND).await;
    // The capacity is 100 a second and the normal fresh load 60. For two seconds 200 a second are refused.
    let back = door.refuse_for(2, 200).await;
    let flow = by_second(&back);
    assert!(flow.iter().all(|&count| count <= 50), "{flow:?}");
    // The schedule is as long as the excess needs to drain: 400 at less than 40 a second.
    let last = flow.iter().rposition(|&count| count > 0).unwrap();
    assert!((10..=16).contains(&last), "{flow:?}");
}

#[tokio::test(start_paused = true)]
async fn p20_where_fresh_load_takes_all_a_tenth_of_the_capacity_comes_back() {
    let mut door = Door::new();
    door.serve(60 * 100, 60 * SECOND).await;
    let back = door.refuse_for(4, 125).await;
    let flow = by_second(&back);
    assert!(flow.iter().all(|&count| count <= 11), "{flow:?}");
    assert!(flow[..40].iter().all(|&count| count >= 9), "{flow:?}");
}

#[tokio::test(start_paused = true)]
async fn free_capacity_grows_when_expected_callers_do_not_return() {
    let mut door = Door::new();
    door.serve(60 * 50, 60 * SECOND).await;
    door.refuse_for(2, 200).await;
    let tail = |door: &mut Door| door.refuse_sheddable().wait();
    let before = tail(&mut door);
    // No caller returns. The load is 50 a second, and the capacity meant for returning requests is free.
    door.serve(10 * 50, 10 * SECOND).await;
    assert!(tail(&mut door) < before.saturating_sub(8 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_short_burst_does_not_use_the_free_capacity_of_the_time_after_it() {
    let mut door = Door::new();
    door.serve(0, 60 * SECOND).await;
    // Every five seconds, five times the capacity arrives for half a second: half of the time is free.
    for burst in 0..12 {
        let mut longest = Duration::ZERO;
        for nth in 0..200 {
            advance(SECOND / 400).await;
            door.admitted += usize::from(nth % 4 == 0);
            longest = longest.max(door.refuse_sheddable().wait());
        }
        // The 200 requests return and are served.
        door.serve(200, 9 * SECOND / 2).await;
        // In the first burst the rates are unknown.
        assert!(burst == 0 || longest < 6 * SECOND, "{burst}: {longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_schedule_is_spread_evenly_over_the_whole_time() {
    let mut door = Door::new();
    let hints: Vec<_> = (0..10_000)
        .map(|_| door.refuse_sheddable().wait())
        .collect();
    let most = Duration::from_nanos(RetryAfter::adaptive().max);
    assert!(hints.iter().all(|hint| *hint <= most));
    // The schedule is 60 s long at 10 requests a second.
    for at in 0..60 {
        let there = hints[600..].iter().filter(|hint| hint.as_secs() == at);
        let there = there.count();
        assert!((150..=165).contains(&there), "{there} in second {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn lower_classes_get_longer_hints_and_higher_classes_do_not_wait_for_them() {
    use Criticality::{Critical, CriticalPlus, Sheddable, SheddablePlus};
    let classes = [Sheddable, SheddablePlus, Critical, CriticalPlus];
    let adaptive = RetryAfter::adaptive();
    let mut door = Door::new();
    for round in 0..2_000 {
        let all = classes.map(|class| door.refuse(adaptive, class, Unit::Milliseconds).wait());
        assert!(
            all.is_sorted_by(|lower, higher| lower >= higher),
            "{round}: {all:?}"
        );
    }
    let mut door = Door::new();
    for _ in 0..100 {
        door.refuse_sheddable();
    }
    let mut wait = |class| door.refuse(adaptive, class, Unit::Milliseconds).wait();
    let first = LEAST;
    assert_eq!(
        wait(Critical),
        first,
        "ten seconds of lower classes do not count"
    );
    assert_eq!(wait(CriticalPlus), first);
    assert_eq!(wait(Critical), first + SECOND / 5, "behind both requests");
    assert_eq!(wait(SheddablePlus), first + 3 * SECOND / 10);
    assert_eq!(
        wait(Sheddable),
        first + 104 * SECOND / 10,
        "all other requests are ahead"
    );
}

#[test]
fn a_fraction_of_a_second_decides_how_many_callers_get_a_second_more() {
    let policy = RetryAfter::adaptive();
    let hint = Duration::from_millis(1_300);
    // For every section of the sequence.
    for cut in 0..100 {
        let whole = (cut * 100..cut * 100 + 100).map(|nth| policy.rounded(nanos(hint), 0, nth));
        let whole: Vec<_> = whole.collect();
        assert!(whole.iter().all(|seconds| (1..=2).contains(seconds)));
        let two = whole.iter().filter(|&&seconds| seconds == 2).count();
        assert!((28..=32).contains(&two), "{two} of 100 wait 2 s");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_measurement_rescales_the_schedule() {
    let mut door = Door::new();
    // The guess is ten a second: 300 take half a minute.
    for _ in 0..300 {
        door.refuse_sheddable();
    }
    assert_eq!(door.refuse_sheddable().wait().as_secs(), 30);
    door.serve(1_000, SECOND / 2).await;
    door.refuse_sheddable();
    // 2,000 a second complete and 2,600 a second arrived. A tenth of the capacity gives 1.5 s for 300.
    let wait = door.refuse_sheddable().wait();
    assert!((1.3..1.5).contains(&wait.as_secs_f64()), "{wait:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rescaled_schedule_is_no_longer_than_the_longest_hint() {
    let mut door = Door::new();
    for _ in 0..300 {
        door.refuse_sheddable();
    }
    // The first completion suggests 4 a second. A tenth of that is free capacity.
    door.serve(1, SECOND / 4).await;
    door.refuse_sheddable();
    // No caller got a hint of more than a minute. After one gap more, the schedule is empty.
    door.serve(63 * 100, 63 * SECOND).await;
    assert_eq!(door.refuse_sheddable().wait(), LEAST);
}

#[tokio::test(start_paused = true)]
async fn a_lull_is_not_taken_for_a_slow_server() {
    let mut door = Door::new();
    door.refuse_for(10, 200).await;
    // One request completed in an hour, as few arrived.
    door.serve(1, 3600 * SECOND).await;
    assert_eq!(door.refuse_sheddable().wait(), LEAST);
    let second = door.refuse_sheddable().wait() - LEAST;
    assert_eq!(
        second.as_millis(),
        10,
        "nearly all of the 100 a second is free capacity"
    );
}

#[tokio::test(start_paused = true)]
async fn a_time_without_completions_gives_long_hints_and_is_then_forgotten() {
    let mut door = Door::new();
    door.refuse_for(10, 100).await;
    for _ in 0..600 {
        advance(SECOND / 2).await;
        let wait = door.refuse_sheddable().wait();
        assert!(wait <= 60 * SECOND, "{wait:?}");
    }
    door.serve(100, SECOND).await;
    let back = door.refuse_for(60, 100).await;
    let wait = *back.last().unwrap() - Instant::now();
    assert!(wait < 61 * SECOND, "{wait:?}");
    door.serve(100 * 60, 120 * SECOND).await;
    assert!(door.refuse_sheddable().wait() < SECOND);
}

#[test]
fn jitter_makes_hints_longer_evenly_up_to_the_longest() {
    let schedule = Schedule::new();
    let waits = |policy: RetryAfter| {
        let now = Now::default();
        let refusal = |nth| Refusal {
            nth,
            class: Criticality::Sheddable,
            unit: Unit::Seconds,
            units: 1,
            in_flight: 1,
            now: &now,
        };
        let counts = || unreachable!("a fixed hint needs no counts");
        let hints = (0..1_000).map(|nth| policy.hint(&schedule, refusal(nth), counts));
        hints.collect::<Vec<_>>()
    };
    let fixed = RetryAfter::fixed(10 * SECOND);
    assert!(
        waits(fixed)
            .iter()
            .all(|hint| hint.wait() == 10 * SECOND && hint.whole == 10)
    );
    for hint in waits(fixed.jitter(0.5)) {
        assert!(
            (10 * SECOND..15 * SECOND).contains(&hint.wait()),
            "{hint:?}"
        );
        assert!((10..=15).contains(&hint.whole), "{hint:?}");
    }
    let longer = waits(fixed.jitter(1.0));
    for tenth in 0..10 {
        let from = (10 + tenth) * SECOND;
        let there = longer
            .iter()
            .filter(|hint| (from..from + SECOND).contains(&hint.wait()));
        assert!(
            (96..=104).contains(&there.count()),
            "a tenth of the hints is in second {tenth}"
        );
    }
    let bounded = fixed.jitter(1.0).max(12 * SECOND);
    assert!(
        waits(bounded)
            .iter()
            .all(|hint| hint.wait() <= 12 * SECOND && hint.whole <= 12)
    );
}

#[test]
fn headers_carry_the_configured_hints() {
    let said = |policy: RetryAfter| {
        let hint = policy.told(2_500_500_000, 3);
        (
            hint.seconds(),
            hint.milliseconds(),
            hint.milliseconds_beside(),
        )
    };
    let adaptive = RetryAfter::adaptive();
    assert_eq!(said(adaptive), (Some(3), Some(2_501), None));
    let beside = adaptive.milliseconds(true);
    assert_eq!(said(beside), (Some(3), Some(2_501), Some(2_501)));
    assert_eq!(said(beside.milliseconds(false)), said(adaptive));
    for none in [RetryAfter::none(), RetryAfter::none().milliseconds(true)] {
        assert_eq!(said(none), (None, None, None));
    }
    let least = adaptive.told(1, 0);
    assert_eq!((least.seconds(), least.milliseconds()), (Some(1), Some(1)));
}
