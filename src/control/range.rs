use std::ops::RangeInclusive;

use crate::support::invalid::InvalidSetting;

/// Where a law's limit begins, and between what it stays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    /// What was asked for.
    initial: Option<usize>,
    /// Where to begin if nothing was asked for.
    usual: usize,
    min: usize,
    max: usize,
}

impl Range {
    /// Begins at `usual`, or at what of `min` and `max` is nearer once they are set.
    pub(crate) const fn new(usual: usize, min: usize, max: usize) -> Self {
        Self {
            initial: None,
            usual,
            min,
            max,
        }
    }

    pub(crate) fn limits(&self) -> RangeInclusive<usize> {
        self.min..=self.max
    }

    pub(crate) fn initial(&self) -> usize {
        self.initial.unwrap_or_else(|| self.keep(self.usual))
    }

    /// `limit`, or the nearest one that is allowed.
    pub(crate) fn keep(&self, limit: usize) -> usize {
        limit.clamp(self.min, self.max)
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
        if !(least..=super::controller::MAX_LIMIT).contains(&max) {
            let allowed = format!("from {least} to {}", super::controller::MAX_LIMIT);
            return Err(InvalidSetting::new("max", max, allowed));
        }
        self.max = max;
        Ok(self)
    }
}

/// The settings of a law with a field `range`, given the defaults in words.
macro_rules! range_settings {
    (initial: $initial:literal, min: $min:literal, max: $max:literal) => {
        /// The limit to begin with, in requests.
        #[doc = concat!("By default ", $initial, ".")]
        ///
        /// # Panics
        ///
        /// If `initial` is not within floor and ceiling. Set those first. [`try_initial`](Self::try_initial) returns an
        /// error instead.
        #[track_caller]
        pub fn initial(self, initial: usize) -> Self {
            $crate::support::invalid::expect_valid(self.try_initial(initial))
        }

        /// [`initial`](Self::initial) for a value that comes from configuration.
        ///
        /// # Errors
        ///
        /// If `initial` is not within floor and ceiling.
        pub fn try_initial(
            mut self,
            initial: usize,
        ) -> Result<Self, $crate::support::invalid::InvalidSetting> {
            self.range = self.range.try_initial(initial)?;
            Ok(self)
        }

        /// The floor, in requests.
        #[doc = concat!("By default ", $min, ".")]
        ///
        /// # Panics
        ///
        /// If `min` is 0, above the ceiling, or above an initial limit that was set. [`try_min`](Self::try_min) returns an
        /// error instead.
        #[track_caller]
        pub fn min(self, min: usize) -> Self {
            $crate::support::invalid::expect_valid(self.try_min(min))
        }

        /// [`min`](Self::min) for a value that comes from configuration.
        ///
        /// # Errors
        ///
        /// If `min` is 0, above the ceiling, or above an initial limit that was set.
        pub fn try_min(
            mut self,
            min: usize,
        ) -> Result<Self, $crate::support::invalid::InvalidSetting> {
            self.range = self.range.try_min(min)?;
            Ok(self)
        }

        /// The ceiling, in requests.
        #[doc = concat!("By default ", $max, ".")]
        ///
        /// # Panics
        ///
        /// If `max` is below the floor, below an initial limit that was set, or more than 2,147,483,647.
        /// [`try_max`](Self::try_max) returns an error instead.
        #[track_caller]
        pub fn max(self, max: usize) -> Self {
            $crate::support::invalid::expect_valid(self.try_max(max))
        }

        /// [`max`](Self::max) for a value that comes from configuration.
        ///
        /// # Errors
        ///
        /// If `max` is below the floor, below an initial limit that was set, or more than 2,147,483,647.
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
    fn p15_what_is_not_within_floor_and_ceiling_is_an_error_that_says_what_is_allowed() {
        let range = Range::new(20, 20, 200);
        assert_eq!((range.initial(), range.limits()), (20, 20..=200));
        let refused = |tried: Result<Range, InvalidSetting>| tried.unwrap_err().to_string();
        assert_eq!(
            refused(range.try_initial(19)),
            "invalid initial limit 19: must be from 20 to 200, the min and the max"
        );
        assert_eq!(
            refused(range.try_min(0)),
            "invalid min 0: must be from 1 to 200, the initial limit if set or else the max"
        );
        assert_eq!(
            refused(range.try_max(19)),
            "invalid max 19: must be from 20 to 2147483647"
        );
        let begun = range.try_initial(100).unwrap();
        assert!(begun.try_min(101).is_err() && begun.try_max(99).is_err());
    }

    #[test]
    fn the_usual_beginning_gives_way_to_floor_and_ceiling() {
        let range = Range::new(20, 20, 200);
        assert_eq!(range.try_min(50).unwrap().initial(), 50);
        let low = range.try_min(1).unwrap().try_max(10).unwrap();
        assert_eq!(low.initial(), 10);
        assert_eq!((low.keep(0), low.keep(5), low.keep(11)), (1, 5, 10));
    }
}
