//! Calls that are better not made.
//!
//! A server that refuses works on refusals; past some load on nothing else. So a client that has seen many of them
//! refuses some calls by itself, before they are sent, with the probability
//!
//! ```text
//! p = max(0, (requests − K × accepts − 10) ÷ (requests + 1))
//! ```
//!
//! over the last two minutes (SRE book, chapter 21, "Client-Side Throttling"). `requests` are those that were answered
//! or refused right here, `accepts` the ones that the server took on. With K = 2 as many are refused by the server as it
//! takes, so that it is noticed soon when there is more room.
//!
//! What differs from the book: ten requests in two minutes are sent in any case. A client that calls once a minute does
//! no harm, and should not throw away its second call because the first was refused; and however many are refused, more
//! than the logarithm of them find out whether the server is back. A request still under way is not counted, or a
//! hundred calls that begin at once would refuse each other.

use loadshed::InvalidSetting;
use tokio::time::Instant;

use super::{random::Random, window::Window};

/// Envoy's admission control has such a threshold, too, as a rate (`rps_threshold`).
const ALWAYS_SENT: f64 = 10.0;

#[derive(Debug)]
pub(super) struct Throttle {
    k: f64,
    window: Window,
}

impl Throttle {
    pub(super) fn try_new(k: f64) -> Result<Self, InvalidSetting> {
        if !(k >= 1.0 && k.is_finite()) {
            return Err(InvalidSetting::new("throttle", k, "at least 1"));
        }
        Ok(Self {
            k,
            window: Window::new(),
        })
    }

    /// Whether to refuse the next one here. That counts as a request.
    pub(super) fn refuses(&self, random: &Random) -> bool {
        let now = Instant::now();
        let probability = self.probability(now);
        let refuses = probability > 0.0 && random.unit() < probability;
        if refuses {
            self.window.add(now, 0);
        }
        refuses
    }

    /// A request was sent, and the server has answered.
    pub(super) fn answered(&self, accepted: bool) {
        self.window.add(Instant::now(), u32::from(accepted));
    }

    fn probability(&self, now: Instant) -> f64 {
        let (requests, accepts) = self.window.sums(now);
        let (requests, accepts) = (f64::from(requests), f64::from(accepts));
        ((requests - self.k * accepts - ALWAYS_SENT) / (requests + 1.0)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_probability_is_the_books_past_ten_requests() {
        let throttle = Throttle::try_new(2.0).unwrap();
        let p = || throttle.probability(Instant::now());
        (0..10).for_each(|_| throttle.answered(false));
        assert_eq!(p(), 0.0);
        throttle.answered(false);
        assert_eq!(p(), 1.0 / 12.0);
        (0..89).for_each(|_| throttle.answered(false));
        assert_eq!(p(), 90.0 / 101.0);
        (0..30).for_each(|_| throttle.answered(true));
        assert_eq!(p(), (130.0 - 60.0 - 10.0) / 131.0);
        (0..50).for_each(|_| throttle.answered(true));
        assert_eq!(p(), 10.0 / 181.0);
        (0..10).for_each(|_| throttle.answered(true));
        assert_eq!(p(), 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_two_minutes_old_is_forgotten() {
        let throttle = Throttle::try_new(2.0).unwrap();
        (0..1_000).for_each(|_| throttle.answered(false));
        advance(Duration::from_secs(114)).await;
        assert!(throttle.probability(Instant::now()) > 0.98);
        advance(Duration::from_secs(6)).await;
        assert_eq!(throttle.probability(Instant::now()), 0.0);
    }
}
