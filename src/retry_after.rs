//! When a refused caller should come back.
//!
//! Most clients wait exactly as long as they are told. A constant brings all that were refused in one second back in
//! one second, as the next wave. So each refused caller is given a place in a line that nobody stands in: the next
//! moment at which the server will have room for one more. Those moments lie as far apart as completions do,
//!
//! ```text
//! hint = max(line, now + 1 s) + gap − now        line' = now + hint        gap = elapsed ÷ completed
//! ```
//!
//! so that the returning callers arrive as the flow that the server completes, and the last one in the line waits as
//! long as the excess needs to drain. It is a leaky bucket in virtual time (GCRA, ITU-T I.371, annex A) that schedules
//! instead of refusing. The line ends a minute ahead. Whoever finds it full is sent to the second half of that minute,
//! by steps of the golden ratio, which spread any number of callers evenly.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    invalid::{InvalidSetting, expect_valid},
    spread::spread,
};

/// How a refused caller is told when to come back.
///
/// ```
/// use std::time::Duration;
/// use loadshed::{LoadShed, RetryAfter};
///
/// let shed = LoadShed::ratio(0.85).retry_after(RetryAfter::fixed(Duration::from_secs(5)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct RetryAfter(Policy);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Adaptive,
    Fixed(Duration),
}

impl RetryAfter {
    /// The default: how long the excess needs to drain, from 1 second up to a minute, each caller with a moment of its
    /// own.
    ///
    /// The pace is measured while requests are refused. Until it is known, one request is taken to last a second.
    pub fn adaptive() -> Self {
        Self(Policy::Adaptive)
    }

    /// The same for everyone. They will come back together: prefer [`adaptive`](Self::adaptive) where callers retry.
    ///
    /// HTTP knows whole seconds; there the hint is rounded up.
    ///
    /// # Panics
    ///
    /// If `hint` is zero or more than `u32::MAX` seconds. [`try_fixed`](Self::try_fixed) returns an error instead.
    #[track_caller]
    pub fn fixed(hint: Duration) -> Self {
        expect_valid(Self::try_fixed(hint))
    }

    /// [`fixed`](Self::fixed) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `hint` is zero or more than `u32::MAX` seconds.
    pub fn try_fixed(hint: Duration) -> Result<Self, InvalidSetting> {
        if hint.is_zero() || hint > Duration::from_secs(u64::from(u32::MAX)) {
            return Err(InvalidSetting::new(
                "retry after",
                format_args!("{hint:?}"),
                "more than 0 and at most 4294967295 seconds",
            ));
        }
        Ok(Self(Policy::Fixed(hint)))
    }

    /// The hint for one refused caller. How many have `completed` is asked only when the pace is due to be measured.
    pub(crate) fn hint(
        self,
        line: &Line,
        in_flight: u32,
        completed: impl Fn() -> usize,
    ) -> Duration {
        match self.0 {
            Policy::Adaptive => line.join(in_flight, completed),
            Policy::Fixed(hint) => hint,
        }
    }
}

impl Default for RetryAfter {
    fn default() -> Self {
        Self::adaptive()
    }
}

/// The line of those who were told to come back.
///
/// # Memory ordering
///
/// `Relaxed`: every word stands for itself, and what two racing callers can spoil is one estimate, for one beat.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Line {
    epoch: Instant,
    /// Its end, in nanoseconds since `epoch`, as are all moments here.
    end: AtomicU64,
    /// How many found it full.
    beyond: AtomicU64,
    last_joined: AtomicU64,
    /// When the pace was last measured, and how many had completed then.
    measured: AtomicU64,
    completed: AtomicUsize,
    /// Nanoseconds from one completion to the next, or `UNKNOWN`.
    gap: AtomicU64,
}

const SECOND: u64 = 1_000_000_000;

/// HTTP cannot say less.
const SHORTEST: u64 = SECOND;

/// Past a minute a caller has given up or a person has acted, and the estimate is stale.
const LONGEST: u64 = 60 * SECOND;

/// How often the pace is measured: four times while the shortest hint runs.
const BEAT: u64 = SECOND / 4;

/// After as long without a refusal, what has completed since tells how many came, not how many could have.
const LULL: u64 = SECOND;

/// No gap: it has not been measured yet.
const UNKNOWN: u64 = 0;

impl Line {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            end: AtomicU64::new(0),
            beyond: AtomicU64::new(0),
            last_joined: AtomicU64::new(0),
            measured: AtomicU64::new(0),
            completed: AtomicUsize::new(0),
            gap: AtomicU64::new(UNKNOWN),
        }
    }

    fn join(&self, in_flight: u32, completed: impl Fn() -> usize) -> Duration {
        let since_epoch = Instant::now().saturating_duration_since(self.epoch);
        let now = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX / 2);
        let gap = self.gap(now, in_flight, completed);

        let mut end = self.end.load(Ordering::Relaxed);
        loop {
            let turn = end.max(now + SHORTEST).saturating_add(gap);
            if turn > now + LONGEST {
                return Duration::from_nanos(self.beyond());
            }
            match self
                .end
                .compare_exchange_weak(end, turn, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Duration::from_nanos(turn - now),
                Err(moved) => end = moved,
            }
        }
    }

    fn beyond(&self) -> u64 {
        let earlier = self.beyond.fetch_add(1, Ordering::Relaxed);
        let share = u128::from(spread(earlier)) * u128::from(LONGEST / 2);
        LONGEST / 2 + (share >> 64) as u64
    }

    /// Nanoseconds from one completion to the next.
    fn gap(&self, now: u64, in_flight: u32, completed: impl Fn() -> usize) -> u64 {
        let lull = now.saturating_sub(self.last_joined.load(Ordering::Relaxed)) > LULL;
        self.last_joined.store(now, Ordering::Relaxed);

        let measured = self.measured.load(Ordering::Relaxed);
        let elapsed = now.saturating_sub(measured);
        if lull || elapsed >= BEAT {
            let total = completed();
            let since = total.saturating_sub(self.completed.load(Ordering::Relaxed)) as u64;
            // What completed in a lull tells how many came. The pace of an older incident tells no more.
            let gap = match elapsed.checked_div(since) {
                _ if lull => Some(UNKNOWN),
                gap => gap.map(|gap| gap.max(1)),
            };
            if let Some(gap) = gap {
                // One of those who find it due measures.
                let won = self.measured.compare_exchange(
                    measured,
                    now,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
                if won.is_ok() {
                    self.completed.store(total, Ordering::Relaxed);
                    self.gap.store(gap, Ordering::Relaxed);
                }
            }
        }
        match self.gap.load(Ordering::Relaxed) {
            UNKNOWN => SECOND / u64::from(in_flight.max(1)),
            gap => gap,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn callers_return_at_the_pace_at_which_requests_complete() {
        let line = Line::new();
        // 100 a second complete, 200 a second are refused.
        let mut returns = Vec::new();
        for step in 0..2_000 {
            tokio::time::advance(Duration::from_millis(5)).await;
            returns.push(Instant::now() + line.join(10, || step / 2));
        }
        // Past the first beat, they are 10 ms apart.
        let gaps = returns[200..].windows(2).map(|pair| pair[1] - pair[0]);
        for gap in gaps {
            assert!(
                (9..=11).contains(&gap.as_millis()),
                "{gap:?} from one to the next"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hint_is_from_a_second_to_a_minute_and_the_overflow_is_spread() {
        let line = Line::new();
        let hints: Vec<_> = (0..10_000).map(|_| line.join(10, || 0)).collect();
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        assert!(hints.iter().all(|hint| (second..=minute).contains(hint)));
        // The line takes 59 s at 10 a second; of the rest, each second of the latter half a minute gets its share.
        for at in 30..60 {
            let there = hints[600..].iter().filter(|hint| hint.as_secs() == at);
            let there = there.count();
            assert!((300..=330).contains(&there), "{there} in second {at}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lull_is_not_taken_for_a_slow_server() {
        let line = Line::new();
        line.join(10, || 0);
        tokio::time::advance(Duration::from_secs(3600)).await;
        // One completed in an hour: few came. Ten are in flight, so room comes in a tenth of a second.
        let hint = line.join(10, || 1);
        assert_eq!(hint, Duration::from_millis(1_100));
    }

    #[tokio::test(start_paused = true)]
    async fn the_pace_of_an_older_incident_is_forgotten() {
        let line = Line::new();
        for nth in 0..40 {
            tokio::time::advance(Duration::from_millis(500)).await;
            line.join(10, || nth / 16);
        }
        tokio::time::advance(Duration::from_secs(7200)).await;
        assert_eq!(line.join(10, || 5_000), Duration::from_millis(1_100));
    }

    #[test]
    fn a_hint_that_no_header_can_carry_is_refused() {
        let text = |hint| RetryAfter::try_fixed(hint).unwrap_err().to_string();
        let allowed = "allowed is more than 0 and at most 4294967295 seconds";
        assert_eq!(
            text(Duration::ZERO),
            format!("retry after: 0ns was given, {allowed}")
        );
        assert_eq!(
            text(Duration::from_secs(1 << 32)),
            format!("retry after: 4294967296s was given, {allowed}")
        );
    }
}
