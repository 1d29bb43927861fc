//! How long to wait where the server did not say.
//!
//! Exponential back-off with full jitter: the `n`th retry comes after `random(0, min(most, base × 2ⁿ⁻¹))`. Of the
//! variants that were compared it calls least often and is done soonest (Brooker, *Exponential Backoff And Jitter*, AWS
//! Architecture Blog, 2015); gRPC's retries had the same formula up to 2024 (gRFC A6).

use std::time::Duration;

use loadshed::InvalidSetting;

use super::random::Random;

#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    base: Duration,
    most: Duration,
}

impl Backoff {
    pub(super) fn try_new(base: Duration, most: Duration) -> Result<Self, InvalidSetting> {
        if base.is_zero() || base > most {
            return Err(InvalidSetting::new(
                "backoff",
                format_args!("{base:?} up to {most:?}"),
                "greater than 0, up to no less",
            ));
        }
        Ok(Self { base, most })
    }

    /// Before the `nth` retry, counted from 1.
    pub(super) fn wait(&self, nth: u32, random: &Random) -> Duration {
        let doubled = 2_u32.saturating_pow(nth.saturating_sub(1));
        let ceiling = self.base.saturating_mul(doubled).min(self.most);
        ceiling.mul_f64(random.unit())
    }
}

impl Default for Backoff {
    /// A base of 0.1 s is the one of gRFC A6's examples.
    fn default() -> Self {
        Self {
            base: Duration::from_millis(100),
            most: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_fill_the_whole_range_and_the_range_doubles_up_to_the_most() {
        let backoff = Backoff::default();
        let random = Random::seeded(7);
        for (nth, ceiling) in [(1, 0.1), (2, 0.2), (3, 0.4), (8, 10.0), (u32::MAX, 10.0)] {
            let waits: Vec<_> = (0..1_000)
                .map(|_| backoff.wait(nth, &random).as_secs_f64() / ceiling)
                .collect();
            assert!(waits.iter().all(|wait| (0.0..=1.0).contains(wait)));
            let mean = waits.iter().sum::<f64>() / 1_000.0;
            assert!((0.47..0.53).contains(&mean), "{nth}: {mean}");
            assert!(waits.iter().any(|wait| *wait < 0.01));
            assert!(waits.iter().any(|wait| *wait > 0.99));
        }
    }

    #[test]
    fn the_longest_of_all_durations_is_no_overflow() {
        let backoff = Backoff::try_new(Duration::MAX, Duration::MAX).unwrap();
        let _ = backoff.wait(u32::MAX, &Random::default());
    }
}
