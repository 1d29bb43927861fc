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
    #[cfg(feature = "serde")]
    pub(crate) fn configured(
        self,
        initial: Option<usize>,
        min: Option<usize>,
        max: Option<usize>,
    ) -> Result<Self, InvalidSetting> {
        // Max first and the initial limit last, as each is checked against the settings before it.
        let range = max.map_or(Ok(self), |max| self.try_max(max))?;
        let range = min.map_or(Ok(range), |min| range.try_min(min))?;
        initial.map_or(Ok(range), |initial| range.try_initial(initial))
    }

    pub(crate) fn try_initial(mut self, initial: usize) -> Result<Self, InvalidSetting> {
        let (min, max) = (self.min, self.max);
        if !(min..=max).contains(&initial) {
            let allowed = format!("from {min} to {max}, the min and the max");
            return Err(InvalidSetting::new("initial limit", initial, allowed));
        }
        self.initial = Some(initial);
        Ok(self)
    }

    pub(crate) fn try_min(mut self, min: usize) -> Result<Self, InvalidSetting> {
        let most = self.initial.unwrap_or(self.max);
        if !(1..=most).contains(&min) {
            let allowed = format!("from 1 to {most}, the initial limit if set or else the max");
            return Err(InvalidSetting::new("min", min, allowed));
        }
        self.min = min;
        Ok(self)
    }

    pub(crate) fn try_max(mut self, max: usize) -> Result<Self, InvalidSetting> {
        let least = self.initial.unwrap_or(self.min);
        if !(least..=MAX_LIMIT).contains(&max) {
            let allowed = format!("from {least} to {MAX_LIMIT}");
            return Err(InvalidSetting::new("max", max, allowed));
        }
        self.max = max;
        Ok(self)
    }
}

/// Writes the setters of a controller with a field `range`, given the defaults in words.
macro_rules! range_settings {
    (initial: $initial:literal, min: $min:literal, max: $max:literal) => {
        /// Sets the initial limit, in requests.
        #[doc = concat!("The default is ", $initial, ".")]
        ///
        /// # Panics
        ///
        /// If `initial` is below [`min`](Self::min) or above [`max`](Self::max): set these first.
        /// [`try_initial`](Self::try_initial) returns an error instead.
        #[track_caller]
        pub fn initial(self, initial: usize) -> Self {
            $crate::support::invalid::expect_valid(self.try_initial(initial))
        }

        /// [`initial`](Self::initial) for a value that comes from configuration.
        ///
        /// # Errors
        ///
        /// If `initial` is below [`min`](Self::min) or above [`max`](Self::max).
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
        /// If `min` is 0, above [`max`](Self::max), or above an initial limit that was set.
        /// [`try_min`](Self::try_min) returns an error instead.
        #[track_caller]
        pub fn min(self, min: usize) -> Self {
            $crate::support::invalid::expect_valid(self.try_min(min))
        }

        /// [`min`](Self::min) for a value that comes from configuration.
        ///
        /// # Errors
        ///
        /// If `min` is 0, above [`max`](Self::max), or above an initial limit that was set.
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
        /// If `max` is below [`min`](Self::min), below an initial limit that was set, or above 2,147,483,647.
        /// [`try_max`](Self::try_max) returns an error instead.
        #[track_caller]
        pub fn max(self, max: usize) -> Self {
            $crate::support::invalid::expect_valid(self.try_max(max))
        }

        /// [`max`](Self::max) for a value that comes from configuration.
        ///
        /// # Errors
        ///
        /// If `max` is below [`min`](Self::min), below an initial limit that was set, or above 2,147,483,647.
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
    fn p15_a_limit_outside_min_and_max_is_an_error_that_names_the_allowed_range() {
        let range = Range::new(20, 20, 200);
        assert_eq!((range.initial(), range.limits()), (20, 20..=200));
        let error = |tried: Result<Range, InvalidSetting>| tried.unwrap_err().to_string();
        assert_eq!(
            error(range.try_initial(19)),
            "invalid initial limit 19: must be from 20 to 200, the min and the max"
        );
        assert_eq!(
            error(range.try_min(0)),
            "invalid min 0: must be from 1 to 200, the initial limit if set or else the max"
        );
        assert_eq!(
            error(range.try_max(19)),
            "invalid max 19: must be from 20 to 2147483647"
        );
        let at_100 = range.try_initial(100).unwrap();
        assert!(at_100.try_min(101).is_err() && at_100.try_max(99).is_err());
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
