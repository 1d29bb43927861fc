use std::time::Duration;

use tokio::time::Instant;

/// Whether those who wait are a burst that will be over, or a line that stands.
///
/// Facebook's variant of CoDel, with its adaptive LIFO (Ben Maurer, "Fail at Scale", ACM Queue 13(8), 2015):
///
/// ```text
/// the line was empty within the last N:  wait up to N, oldest first
/// it was not:                            wait up to M, newest first         N = 100 ms, M = 5 ms
/// ```
///
/// N is the longest wait that the user has set, and M a twentieth of that, as there. CoDel (RFC 8289) has the same
/// proportion between its interval and its target, and the reason: a good queue empties itself within an interval, and one
/// that does not only adds delay to all that pass it.
///
/// There the line is emptied by workers alone. Here those leave it, too, who have waited too long. A line that has become
/// empty by that is no sign of room: only after N without anybody in it does it count as one.
#[derive(Debug, Default)]
pub(crate) struct Delay {
    /// Since when the line has not been empty.
    since: Option<Instant>,
    /// When the last one left it without having been admitted.
    given_up: Option<Instant>,
}

/// N ÷ M.
const SHORTER: u32 = 20;

impl Delay {
    /// Somebody joins the empty line, who may wait for `longest`.
    pub(crate) fn begins(&mut self, now: Instant, longest: Duration) {
        let goes_on = |left| now.saturating_duration_since(left) <= longest;
        if !self.given_up.take().is_some_and(goes_on) {
            self.since = Some(now);
        }
    }

    /// The last one was admitted.
    pub(crate) fn served(&mut self) {
        *self = Self::default();
    }

    /// The last one has left.
    pub(crate) fn given_up(&mut self, now: Instant) {
        self.given_up = Some(now);
    }

    /// For one who may wait for `longest`.
    pub(crate) fn is_standing(&self, now: Instant, longest: Duration) -> bool {
        let stands = |since| now.saturating_duration_since(since) > longest;
        self.since.is_some_and(stands)
    }

    /// How long one may wait who joins now.
    pub(crate) fn bound(&self, now: Instant, longest: Duration) -> Duration {
        if self.is_standing(now, longest) {
            longest / SHORTER
        } else {
            longest
        }
    }
}

#[cfg(all(test, not(loadshed_loom)))]
mod tests {
    use super::*;

    const N: Duration = Duration::from_millis(100);
    const M: Duration = Duration::from_millis(5);

    fn at(millis: u64) -> Instant {
        thread_local!(static EPOCH: Instant = Instant::now());
        EPOCH.with(|epoch| *epoch + Duration::from_millis(millis))
    }

    #[test]
    fn a_line_that_was_not_empty_for_an_interval_is_left_after_a_twentieth_of_it() {
        let mut delay = Delay::default();
        delay.begins(at(0), N);
        assert_eq!(delay.bound(at(100), N), N);
        assert_eq!(delay.bound(at(101), N), M);
        delay.served();
        delay.begins(at(102), N);
        assert_eq!(delay.bound(at(102), N), N);
    }

    #[test]
    fn a_line_that_all_have_given_up_was_not_served() {
        let mut delay = Delay::default();
        delay.begins(at(0), N);
        delay.given_up(at(150));
        delay.begins(at(250), N);
        assert_eq!(delay.bound(at(250), N), M);
        delay.given_up(at(260));
        delay.begins(at(361), N);
        assert_eq!(delay.bound(at(361), N), N, "nobody has waited for longer");
    }
}
