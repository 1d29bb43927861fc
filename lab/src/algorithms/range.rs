use std::ops::RangeInclusive;

/// The initial limit of an algorithm, and the bounds of its limit.
///
/// The bounds are not checked here: `Budget::new` refuses bounds that are out of order, and an initial limit outside of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) initial: Option<usize>,
    pub(super) min: usize,
    pub(super) max: usize,
}

/// The initial limit of all three algorithms in their source, in requests.
const DEFAULT_INITIAL: usize = 20;

impl Range {
    pub(super) const fn new(min: usize, max: usize) -> Self {
        Self {
            initial: None,
            min,
            max,
        }
    }

    pub(super) fn limits(&self) -> RangeInclusive<usize> {
        self.min..=self.max
    }

    pub(super) fn initial(&self) -> usize {
        self.initial.unwrap_or_else(|| self.clamp(DEFAULT_INITIAL))
    }

    /// Returns `limit`, or the bound that is nearest to it.
    pub(super) fn clamp(&self, limit: usize) -> usize {
        limit.clamp(self.min, self.max)
    }
}

/// Defines the setters of an algorithm with a field `range`, given its default bounds in words.
macro_rules! range_settings {
    (min: $min:literal, max: $max:literal) => {
        /// Sets the initial limit, in requests. By default 20, or the bound that is nearest to it.
        ///
        /// `Budget::new` refuses an initial limit outside of the bounds.
        pub fn initial(mut self, initial: usize) -> Self {
            self.range.initial = Some(initial);
            self
        }

        /// Sets the smallest limit, in requests.
        #[doc = concat!("By default ", $min, ".")]
        pub fn min(mut self, min: usize) -> Self {
            self.range.min = min;
            self
        }

        /// Sets the largest limit, in requests.
        #[doc = concat!("By default ", $max, ".")]
        pub fn max(mut self, max: usize) -> Self {
            self.range.max = max;
            self
        }
    };
}
pub(super) use range_settings;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_initial_limit_gives_way_to_the_bounds() {
        let range = |min, max| Range::new(min, max).initial();
        assert_eq!((range(1, 200), range(50, 200), range(1, 10)), (20, 50, 10));
    }
}
