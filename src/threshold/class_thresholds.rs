use std::sync::atomic::{AtomicU64, Ordering};

use super::{criticality::Criticality, threshold::Threshold};
use crate::support::invalid::InvalidSetting;

/// Where each class stops, above a ratio.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClassThresholds {
    /// Of the classes above the lowest, those that were set. The others divide evenly what is left above the ratio.
    set: [Option<Threshold>; 3],
}

/// A [`ClassThresholds`] that can be changed while requests go by it: a step a word, 0 for one that is not set.
///
/// # Memory ordering
///
/// `Relaxed`: a request goes by one step, and each stands for itself.
#[derive(Debug, Default)]
pub(crate) struct LiveClassThresholds([AtomicU64; 3]);

impl LiveClassThresholds {
    /// What applies to a request of `class` where `base` applies to the lowest one.
    #[inline]
    pub(crate) fn of(&self, base: Threshold, class: Criticality) -> Threshold {
        step(
            base,
            class,
            class.above_lowest().and_then(|at| self.set(at)),
        )
    }

    fn set(&self, at: usize) -> Option<Threshold> {
        let bits = self.0[at].load(Ordering::Relaxed);
        (bits != 0).then(|| Threshold::from_bits(bits))
    }

    pub(crate) fn load(&self) -> ClassThresholds {
        ClassThresholds {
            set: [0, 1, 2].map(|at| self.set(at)),
        }
    }

    pub(crate) fn store(&self, class_thresholds: ClassThresholds) {
        for (step, set) in self.0.iter().zip(class_thresholds.set) {
            let bits = set.map_or(0, Threshold::to_bits);
            step.store(bits, Ordering::Relaxed);
        }
    }
}

impl Clone for LiveClassThresholds {
    fn clone(&self) -> Self {
        let clone = Self::default();
        clone.store(self.load());
        clone
    }
}

fn step(base: Threshold, class: Criticality, set: Option<Threshold>) -> Threshold {
    let Some(ratio) = base.as_ratio() else {
        return base;
    };
    set.unwrap_or_else(|| match class {
        Criticality::Sheddable => base,
        Criticality::SheddablePlus => Threshold::above(ratio, 1.0),
        Criticality::Critical => Threshold::above(ratio, 2.0),
        Criticality::CriticalPlus => Threshold::WHOLE,
    })
}

impl ClassThresholds {
    /// What applies to a request of `class` where `base` applies to the lowest one.
    pub(crate) fn of(&self, base: Threshold, class: Criticality) -> Threshold {
        step(
            base,
            class,
            class.above_lowest().and_then(|at| self.set[at]),
        )
    }

    /// Returns whether the threshold of a class was set.
    pub(crate) fn is_set(&self) -> bool {
        self.set.iter().any(Option::is_some)
    }

    /// Sets the thresholds of some classes. Returns the new threshold of the lowest class, which was `base`.
    ///
    /// # Errors
    ///
    /// If a ratio is out of bounds, or a class would stop above a higher class. The class thresholds then stay.
    pub(crate) fn set(
        &mut self,
        mut base: Threshold,
        ratios: &[(Criticality, f64)],
    ) -> Result<Threshold, InvalidSetting> {
        let mut class_thresholds = *self;
        for &(class, ratio) in ratios {
            let threshold = Threshold::try_ratio(ratio)?;
            match class.above_lowest() {
                Some(at) => class_thresholds.set[at] = Some(threshold),
                None => base = threshold,
            }
        }
        if let Some(found) = class_thresholds.disorder(base) {
            let each = ratios
                .iter()
                .map(|(class, ratio)| format!("{class} at {ratio}"));
            let given = each.collect::<Vec<_>>().join(", ");
            return Err(InvalidSetting::new("class ratios", given, found));
        }
        *self = class_thresholds;
        Ok(base)
    }

    /// Returns the allowed order, if a class stops above a higher class where the lowest class stops at `base`. If `base` is no
    /// ratio: if a class would stop above a higher class at every ratio.
    pub(crate) fn disorder(&self, base: Threshold) -> Option<String> {
        // The classes that are not set move with the ratio. At this one they stop lowest, so each class that was set has to stop
        // above them, and above the set ones below it.
        let lowest = Threshold::above(0.0, 0.0);
        let is_ratio = base.as_ratio().is_some();
        let base = if is_ratio { base } else { lowest };
        let steps = Criticality::ALL.map(|class| (class, self.of(base, class)));
        let is_fixed = |class: Criticality| {
            let at = class.above_lowest();
            is_ratio || at.is_some_and(|at| self.set[at].is_some())
        };
        let mut pairs = (1..steps.len())
            .filter(|&high| is_fixed(steps[high].0))
            .flat_map(|high| (0..high).rev().map(move |low| [steps[low], steps[high]]));
        let pair = pairs.find(|[low, high]| low.1.is_above(high.1))?;
        // The ratio of a class between two others may have many digits.
        let short = |threshold: Threshold| {
            threshold
                .as_ratio()
                .map_or(1.0, |ratio| (ratio * 1e9).round() / 1e9)
        };
        let [(low, low_at), (high, high_at)] = pair;
        Some(format!(
            "in class order, and {low} would be at {}, {high} at {}",
            short(low_at),
            short(high_at)
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::controller::MAX_LIMIT;

    fn caps(ratio: f64, limit: u32) -> [u32; 4] {
        let base = Threshold::ratio(ratio);
        Criticality::ALL.map(|class| ClassThresholds::default().of(base, class).cap(limit))
    }

    #[test]
    fn p01_the_classes_divide_evenly_what_is_left_above_the_ratio() {
        assert_eq!(caps(0.29, 300), [87, 158, 229, 300]);
        assert_eq!(caps(0.85, 200), [170, 180, 190, 200]);
        assert_eq!(caps(1.0, 7), [7; 4]);
        assert_eq!(caps(0.1, 1), [1; 4]);
        assert_eq!(
            caps(0.25, u32::MAX),
            [1_073_741_823, 2_147_483_647, 3_221_225_471, u32::MAX]
        );
        assert_eq!(caps(1.0 / 3.0, 9_000), [3_000, 5_000, 7_000, 9_000]);
    }

    #[test]
    fn class_thresholds_above_no_ratio_are_accepted_exactly_when_some_ratio_accepts_them() {
        use Criticality::{Critical, CriticalPlus, Sheddable, SheddablePlus};
        for (set, is_ok) in [
            (&[(SheddablePlus, 0.9), (Critical, 0.5)][..], false),
            (&[(SheddablePlus, 0.9), (CriticalPlus, 0.7)], false),
            // These classes stop at a third and at two thirds at least.
            (&[(Critical, 0.33)], false),
            (&[(CriticalPlus, 0.66)], false),
            (&[(Sheddable, 0.9), (Critical, 0.5)], false),
            (&[(Critical, 0.34)], true),
            (&[(CriticalPlus, 0.67)], true),
            // Critical stops between the two at ratios from 0.7 to 0.73.
            (&[(SheddablePlus, 0.9), (CriticalPlus, 0.91)], true),
            (&[(Sheddable, 0.3), (Critical, 0.6)], true),
            (&[], true),
        ] {
            for base in [Threshold::NEVER_SHED, Threshold::EXEMPT] {
                let mut class_thresholds = ClassThresholds::default();
                let told = class_thresholds.set(base, set);
                assert_eq!(told.is_ok(), is_ok, "{set:?}: {told:?}");
                let fits = |ratio: u32| {
                    let base = Threshold::ratio(f64::from(ratio) / 1_000.0);
                    class_thresholds.disorder(base).is_none()
                };
                assert!(!is_ok || (1..=1_000).any(fits), "{set:?}");
            }
        }
    }

    /// A numerator and a denominator.
    fn fraction() -> impl Strategy<Value = (u64, u64)> {
        prop_oneof![
            (1..=12_u32)
                .prop_flat_map(|decimals| (1..=10_u64.pow(decimals), Just(10_u64.pow(decimals)))),
            (1..=1_000_u64).prop_flat_map(|below| (1..=below, Just(below))),
        ]
    }

    proptest! {
        /// For each class, `limit × (numerator × (3 − thirds) + denominator × thirds) ÷ (3 × denominator)` in integers.
        #[test]
        fn p01_every_class_of_every_limit_is_what_exact_arithmetic_gives(
            (numerator, denominator) in fraction(),
            limit in prop_oneof![1..=1_000_u32, 1..=MAX_LIMIT as u32],
        ) {
            let caps = caps(numerator as f64 / denominator as f64, limit);
            let (n, d) = (u128::from(numerator), u128::from(denominator));
            for (thirds, cap) in (0..).zip(caps.map(u128::from)) {
                let (whole, part) = (u128::from(limit) * (n * (3 - thirds) + d * thirds), 3 * d);
                let (exact, missing) = (whole / part, part - whole % part);
                // Five decimals under the largest limit.
                let is_exact = u128::from(limit) * d <= 100_000 << 31;
                // Of the product, at most 6.5 in 2⁵².
                let is_close = missing << 53 <= 13 * whole;
                let allowed = [exact.max(1), exact + 1];
                let allowed = if !is_exact && is_close { &allowed[..] } else { &allowed[..1] };
                prop_assert!(allowed.contains(&cap), "{thirds} thirds above {n}/{d} of {limit}: {cap}, not {allowed:?}");
            }
        }

        #[test]
        fn class_thresholds_are_accepted_exactly_when_no_class_stops_above_a_higher_class(
            ratio in 1_u32..=20,
            set in proptest::collection::vec((0_usize..4, 1_u32..=20), 0..4),
            limit in 1_u32..200,
        ) {
            let set: Vec<_> = set.into_iter().map(|(at, n)| (Criticality::ALL[at], f64::from(n) / 20.0)).collect();
            let base = Threshold::ratio(f64::from(ratio) / 20.0);
            // In sixtieths: the distance of two classes is a third of a twentieth.
            let mut steps = [None; 4];
            for (class, ratio) in &set {
                steps[*class as usize] = Some((ratio * 60.0).round() as u32);
            }
            let lowest = steps[0].unwrap_or(ratio * 3);
            let steps = [0, 1, 2, 3].map(|at| {
                steps[at as usize].unwrap_or(lowest + at * (60 - lowest) / 3)
            });
            let mut class_thresholds = ClassThresholds::default();
            let told = class_thresholds.set(base, &set);
            prop_assert_eq!(told.is_ok(), steps.is_sorted(), "{:?}: {:?}", steps, told);
            if let Ok(base) = told {
                let caps = Criticality::ALL.map(|class| class_thresholds.of(base, class).cap(limit));
                prop_assert_eq!(caps, steps.map(|step| (step * limit / 60).max(1)));
            }
        }
    }
}
