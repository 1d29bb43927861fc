use std::ops::RangeInclusive;

use super::controller::MAX_LIMIT;
use crate::support::invalid::InvalidSetting;

/// The initial, the smallest and the largest limit of a controller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    /// `None` where it was not set.
    initial: Option<usize>,
    /// The initial limit where it was not set.
    default_initial: usize,
    min: usize,
    max: usize,
}

impl Range {
    /// Creates a range with the default settings of a controller. Where min or max are set later, `default_initial` moves into
    /// their range.
    pub(crate) const fn new(default_initial: usize, min: usize, max: usize) -> Self {
        Self {
            initial: None,
            default_initial,
            min,
            max,
        }
    }

    pub(crate) fn limits(&self) -> RangeInclusive<usize> {
        self.min..=self.max
    }

    pub(crate) fn initial(&self) -> usize {
        self.initial
            .unwrap_or_else(|| self.clamp(self.default_initial))
    }

    /// Returns `limit`, or the nearest limit within the range.
    pub(crate) fn clamp(&self, limit: usize) -> usize {
        limit.clamp(self.min, self.max)
    }

    /// Returns the range with the settings of a configuration. `None` is a setting that is absent.
    ///
    /// # Errors
    ///
    /// If a setting is out of bounds, or the settings contradict each other.
    #[cfg(feature = "serde")]
    pub(crate) fn configured(
        self,
        initial: Option<usize>,
        min: Option<usize>,
        max: Option<usize>,
    ) -> Result<Self, InvalidSetting> {
        let range = max.map_or(Ok(self), |max| self.try_max(max))?;
        let range = min.map_or(Ok(range), |min| range.try_min(min))?;
        let range = initial.map_or(Ok(range), |initial| range.try_initial(initial))?;
        checked_limits(range.limits())?;
        checked_initial(range.initial(), range.limits())?;
        Ok(range)
    }

    pub(crate) fn try_initial(self, initial: usize) -> Result<Self, InvalidSetting> {
        let initial = Some(in_bounds("initial limit", initial)?);
        Ok(Self { initial, ..self })
    }

    pub(crate) fn try_min(self, min: usize) -> Result<Self, InvalidSetting> {
        let min = in_bounds("min", min)?;
        Ok(Self { min, ..self })
    }

    pub(crate) fn try_max(self, max: usize) -> Result<Self, InvalidSetting> {
        let max = in_bounds("max", max)?;
        Ok(Self { max, ..self })
    }
}

fn in_bounds(setting: &'static str, limit: usize) -> Result<usize, InvalidSetting> {
    if (1..=MAX_LIMIT).contains(&limit) {
        return Ok(limit);
    }
    let allowed = format!("from 1 to {MAX_LIMIT}");
    Err(InvalidSetting::new(setting, limit, allowed))
}

/// Returns the smallest and the largest limit of a controller.
///
/// # Errors
///
/// If the range is empty, or not within 1 to [`MAX_LIMIT`].
pub(crate) fn checked_limits(
    limits: RangeInclusive<usize>,
) -> Result<(usize, usize), InvalidSetting> {
    let (min, max) = limits.into_inner();
    if 1 <= min && min <= max && max <= MAX_LIMIT {
        return Ok((min, max));
    }
    let allowed = format!("a range within 1 to {MAX_LIMIT}");
    let given = format!("{min} to {max}");
    Err(InvalidSetting::new("range of limits", given, allowed))
}

/// Returns the initial limit of a controller.
///
/// # Errors
///
/// If the limit is not within `limits`.
pub(crate) fn checked_initial(
    initial: usize,
    limits: RangeInclusive<usize>,
) -> Result<usize, InvalidSetting> {
    if limits.contains(&initial) {
        return Ok(initial);
    }
    let (min, max) = limits.into_inner();
    let allowed = format!("from {min} to {max}, the smallest and the largest limit");
    Err(InvalidSetting::new("initial limit", initial, allowed))
}

/// Writes the setters of a controller with a field `range`, given the defaults in words.
macro_rules! range_settings {
    (initial: $initial:literal, min: $min:literal, max: $max:literal) => {
        /// Sets the initial limit, in requests.
        #[doc = concat!("The default is ", $initial, ".")]
        ///
        /// # Panics
        ///
        /// If `initial` is 0 or more than 2,147,483,647. [`try_initial`](Self::try_initial) returns an error instead.
        /// [`Budget::new`](crate::Budget::new) panics if `initial` is not within [`min`](Self::min) and [`max`](Self::max).
        #[track_caller]
        pub fn initial(self, initial: usize) -> Self {
            $crate::support::invalid::expect_valid(self.try_initial(initial))
        }

        /// [`initial`](Self::initial) for a value that comes from configuration.
        ///
        /// # Errors
        ///
        /// If `initial` is 0 or more than 2,147,483,647.
        pub fn try_initial(
            mut self,
            initial: usize,
        ) -> Result<Self, $crate::support::invalid::InvalidSetting> {
            self.range = self.range.try_initial(initial)?;
            Ok(self)
        }

        /// Sets the smallest limit, in requests.
        #[doc = concat!("The default is ", $min, ".")]
        ///
        /// # Panics
        ///
        /// If `min` is 0 or more than 2,147,483,647. [`try_min`](Self::try_min) returns an error instead.
        /// [`Budget::new`](crate::Budget::new) panics if `min` is above [`max`](Self::max).
        #[track_caller]
        pub fn min(self, min: usize) -> Self {
            $crate::support::invalid::expect_valid(self.try_min(min))
        }

        /// [`min`](Self::min) for a value that comes from configuration.
        ///
        /// # Errors
        ///
        /// If `min` is 0 or more than 2,147,483,647.
        pub fn try_min(
            mut self,
            min: usize,
        ) -> Result<Self, $crate::support::invalid::InvalidSetting> {
            self.range = self.range.try_min(min)?;
            Ok(self)
        }

        /// Sets the largest limit, in requests.
        #[doc = concat!("The default is ", $max, ".")]
        ///
        /// # Panics
        ///
        /// If `max` is 0 or more than 2,147,483,647. [`try_max`](Self::try_max) returns an error instead.
        /// [`Budget::new`](crate::Budget::new) panics if `max` is below [`min`](Self::min).
        #[track_caller]
        pub fn max(self, max: usize) -> Self {
            $crate::support::invalid::expect_valid(self.try_max(max))
        }

        /// [`max`](Self::max) for a value that comes from configuration.
        ///
        /// # Errors
        ///
        /// If `max` is 0 or more than 2,147,483,647.
        pub fn try_max(
            mut self,
            max: usize,
        ) -> Result<Self, $crate::support::invalid::InvalidSetting> {
            self.range = self.range.try_max(max)?;
            Ok(self)
        }
    };
}
pub(crate) use range_settings;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p15_a_limit_out_of_bounds_is_an_error_that_says_what_is_allowed() {
        let range = Range::new(20, 20, 200);
        assert_eq!((range.initial(), range.limits()), (20, 20..=200));
        for bad in [0, 1 << 31] {
            let tries = [
                ("initial limit", range.try_initial(bad)),
                ("min", range.try_min(bad)),
                ("max", range.try_max(bad)),
            ];
            for (setting, tried) in tries {
                assert_eq!(
                    tried.unwrap_err().to_string(),
                    format!("invalid {setting} {bad}: must be from 1 to 2147483647")
                );
            }
        }
    }

    #[test]
    fn the_default_initial_limit_moves_into_min_and_max() {
        let range = Range::new(20, 20, 200);
        assert_eq!(range.try_min(50).unwrap().initial(), 50);
        let low = range.try_min(1).unwrap().try_max(10).unwrap();
        assert_eq!(low.initial(), 10);
        assert_eq!((low.clamp(0), low.clamp(5), low.clamp(11)), (1, 5, 10));
    }
}
