use std::ops::RangeInclusive;

use super::controller::{Controller, Decision, MAX_LIMIT, Window};
use crate::support::invalid::{InvalidSetting, expect_valid};

/// A law that never moves: the limit is what it was set to.
///
/// It stands in where a [`Controller`] is asked for, and beside the others in a comparison.
/// [`Budget::fixed`](crate::Budget::fixed) does the same for less, as it measures nothing.
///
/// ```
/// use loadshed::{Budget, Fixed};
///
/// let budget = Budget::new(Fixed::new(200));
/// assert_eq!(budget.limit(), 200);
/// budget.set_limit(150)?; // people may
/// # Ok::<(), loadshed::InvalidSetting>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Fixed {
    limit: usize,
}

impl Fixed {
    /// A limit of `limit` requests.
    ///
    /// # Panics
    ///
    /// If `limit` is 0 or more than 2,147,483,647. [`try_new`](Self::try_new) returns an error instead.
    #[track_caller]
    pub fn new(limit: usize) -> Self {
        expect_valid(Self::try_new(limit))
    }

    /// [`new`](Self::new) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `limit` is 0 or more than 2,147,483,647.
    pub fn try_new(limit: usize) -> Result<Self, InvalidSetting> {
        if !(1..=MAX_LIMIT).contains(&limit) {
            let allowed = format!("1 to {MAX_LIMIT}");
            return Err(InvalidSetting::new("limit", limit, allowed));
        }
        Ok(Self { limit })
    }
}

impl Controller for Fixed {
    fn limits(&self) -> RangeInclusive<usize> {
        1..=MAX_LIMIT
    }

    fn initial_limit(&self) -> usize {
        self.limit
    }

    fn update(&mut self, window: &Window<'_>) -> Decision {
        Decision::new(window.limit, "fixed")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::control::controller::{Outcome, Sample};

    #[test]
    fn nothing_moves_it_but_people() {
        let (mut law, now) = (Fixed::new(7), Instant::now());
        assert_eq!(law.initial_limit(), 7);
        let mut slow = Sample::new(now);
        slow.latency = Duration::from_secs(60);
        slow.outcome = Outcome::Overload;
        let samples = [slow; 100];
        for limit in [7, 150] {
            let mut window = Window::new(now, limit);
            window.refused = 1_000;
            window.samples = &samples;
            assert_eq!(law.update(&window), Decision::new(limit, "fixed"));
        }
    }

    #[test]
    fn p15_a_limit_is_at_least_1_and_fits_in_31_bits() {
        assert!(Fixed::try_new(0).is_err() && Fixed::try_new(MAX_LIMIT + 1).is_err());
        assert!(Fixed::try_new(1).is_ok() && Fixed::try_new(MAX_LIMIT).is_ok());
    }
}
