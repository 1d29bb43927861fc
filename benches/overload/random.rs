//! Arrivals and service times, the same in every run.

use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Random(fastrand::Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// Draws from an exponential distribution, like the gaps between the arrivals of a Poisson process.
    pub(crate) fn exponential(&mut self, mean: Duration) -> Duration {
        // In (0, 1], so that the logarithm is finite.
        let uniform = 1.0 - self.0.f64();
        mean.mul_f64(-uniform.ln())
    }
}

/// The distribution of service times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Fixed(Duration),
    /// Exponential, with this mean.
    Exponential(Duration),
}

impl Work {
    pub(crate) fn draw(self, random: &mut Random) -> Duration {
        match self {
            Self::Fixed(time) => time,
            Self::Exponential(mean) => random.exponential(mean),
        }
    }
}
