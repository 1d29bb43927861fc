use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    criticality::Criticality,
    ratio::Ratio,
    threshold::{Kind, Threshold},
};
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
    let Kind::Ratio { ratio, .. } = base.kind() else {
        return base;
    };
    set.unwrap_or_else(|| match class {
        Criticality::Sheddable => base,
        Criticality::SheddablePlus => Threshold::above(ratio, 1),
        Criticality::Critical => Threshold::above(ratio, 2),
        Criticality::CriticalPlus => Threshold::from(Ratio::ONE),
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

    /// Sets where some classes stop, over `base`; returns the base that is then to apply.
    ///
    /// # Errors
    ///
    /// If one of them is no ratio, or a class would stop above a higher one. The ladder then stays.
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

    /// What is wrong with the ladder over `base`, if a class of it stops above a higher one.
    pub(crate) fn disorder(&self, base: Threshold) -> Option<String> {
        let steps = Criticality::ALL.map(|class| (class, self.of(base, class)));
        let pair = steps
            .windows(2)
            .find(|pair| pair[0].1.is_above(pair[1].1))?;
        let [(low, low_at), (high, high_at)] = [pair[0], pair[1]];
        Some(format!(
            "in class order, and {low} would be at {:?}, {high} at {:?}",
            low_at.kind(),
            high_at.kind()
        ))
    }
}

impl Threshold {
    fn is_above(self, other: Self) -> bool {
        let height = |threshold: Self| match threshold.kind() {
            Kind::Ratio { ratio, thirds } => ratio.height(thirds),
            Kind::Never | Kind::Exempt => u128::MAX,
        };
        height(self) > height(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn caps(ratio: f64, limit: u32) -> [u32; 4] {
        let base = Threshold::ratio(ratio);
        Criticality::ALL.map(|class| ClassThresholds::default().of(base, class).cap(limit))
    }

    #[test]
    fn what_is_left_above_the_ratio_is_divided_evenly_and_exactly() {
        assert_eq!(caps(0.29, 300), [87, 158, 229, 300]);
        assert_eq!(caps(0.85, 200), [170, 180, 190, 200]);
        assert_eq!(caps(1.0, 7), [7; 4]);
        assert_eq!(caps(0.1, 1), [1; 4]);
        assert_eq!(
            caps(0.25, u32::MAX),
            [1_073_741_823, 2_147_483_647, 3_221_225_471, u32::MAX]
        );
        assert_eq!(caps(1.0 / 3.0, 9_000), [2_999, 4_999, 6_999, 9_000]);
    }

    proptest! {
        #[test]
        fn the_ladder_is_exact_in_decimal(
            ratio in prop_oneof![
                (1_u64..=1_000_000_000_000).prop_map(|p| p as f64 / 1e12),
                (1_u32..=100).prop_map(|percent| f64::from(percent) / 100.0),
                (1_u32..=1000, 1_u32..=1000).prop_map(|(a, b)| f64::from(a.min(b)) / f64::from(a.max(b))),
                (1_u64..=0x3ff0_0000_0000_0000).prop_map(f64::from_bits),
            ],
            limit in prop_oneof![1_u32..=1000, any::<u32>().prop_map(|limit| limit.max(1))],
        ) {
            for (thirds, cap) in caps(ratio, limit).into_iter().enumerate() {
                // Three times what is allowed is (3 − thirds) × ratio × limit + thirds × limit, in digits: a whole number,
                // and a fraction that is below one.
                let (thirds, limit, cap) = (thirds as u64, u64::from(limit), u64::from(cap));
                let whole = whole_of(ratio, (3 - thirds) * limit) + thirds * limit;
                prop_assert!(3 * cap <= whole || cap == 1, "{} thirds above {} of {}: {}", thirds, ratio, limit, cap);
                prop_assert!(whole < 3 * (cap + 1), "{} thirds above {} of {}: {}", thirds, ratio, limit, cap);
            }
        }

        #[test]
        fn a_ladder_is_taken_exactly_when_no_class_is_above_a_higher_one(
            ratio in 1_u32..=20,
            set in proptest::collection::vec((0_usize..4, 1_u32..=20), 0..4),
            limit in 1_u32..200,
        ) {
            let set: Vec<_> = set.into_iter().map(|(at, n)| (Criticality::ALL[at], f64::from(n) / 20.0)).collect();
            let base = Threshold::ratio(f64::from(ratio) / 20.0);
            // In sixtieths: a step of the ladder is a third of a twentieth.
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

    /// `floor(ratio × n)` by long division, on the decimal that `{}` prints.
    fn whole_of(ratio: f64, n: u64) -> u64 {
        let text = format!("{ratio}");
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let fraction = fraction.bytes().rev();
        let carried = fraction.fold(0, |carry, digit| (carry + u64::from(digit - b'0') * n) / 10);
        carried + if whole == "1" { n } else { 0 }
    }
}
