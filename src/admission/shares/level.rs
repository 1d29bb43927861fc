/// The part τ for which min(wanted, τ), summed up over all tenants, is what is `carried`. Infinite where all of it is, and
/// where there is but one tenant.
pub(crate) fn fair<I: Iterator<Item = f32>>(carried: f32, wanted: impl Fn() -> I) -> f32 {
    if wanted().filter(|&wanted| wanted > 0.0).nth(1).is_none() {
        return f32::INFINITY;
    }
    let mut part = 0.0;
    loop {
        // Those who want no more have what they want. The others divide the rest.
        let (mut small, mut large) = (0.0, 0_u32);
        for wanted in wanted() {
            if wanted <= part {
                small += wanted;
            } else {
                large += 1;
            }
        }
        if large == 0 {
            return f32::INFINITY;
        }
        // It only rises, and each time past somebody. Rounding must not make it go on for ever.
        let next = (carried - small) / large as f32;
        if next <= part * (1.0 + 1e-4) {
            return part.max(next);
        }
        part = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(carried: f32, wanted: &[f32]) -> f32 {
        fair(carried, || wanted.iter().copied())
    }

    #[test]
    fn small_ones_have_what_they_want_and_the_others_divide_the_rest() {
        assert_eq!(part(100.0, &[10.0, 20.0, 500.0, 90.0]), 35.0);
        assert_eq!(part(100.0, &[500.0, 300.0, 0.0]), 50.0);
        assert_eq!(part(1.0, &[1.0; 20]), 0.05);
        assert_eq!(part(0.0, &[1.0, 2.0]), 0.0);
    }

    #[test]
    fn while_all_have_what_they_want_there_is_no_part() {
        assert_eq!(part(30.0, &[10.0, 20.0]), f32::INFINITY);
        assert_eq!(part(31.0, &[10.0, 20.0]), f32::INFINITY);
        assert_eq!(part(0.0, &[]), f32::INFINITY);
        assert_eq!(part(0.0, &[0.0; 5]), f32::INFINITY);
    }

    #[test]
    fn for_one_alone_there_is_no_part() {
        assert_eq!(part(100.0, &[0.0, 500.0, 0.0]), f32::INFINITY);
    }

    proptest! {
        #[test]
        fn what_all_have_by_it_is_what_is_carried(
            wanted in proptest::collection::vec((1_u32..10_000).prop_map(|n| n as f32 / 100.0), 2..200),
            part_carried in 0.01_f32..0.99,
        ) {
            let all: f32 = wanted.iter().sum();
            let carried = all * part_carried;
            let part = part(carried, &wanted);
            let had: f32 = wanted.iter().map(|wanted| wanted.min(part)).sum();
            prop_assert!((had - carried).abs() <= 1e-3 * carried.max(1.0), "{} of {}", had, carried);
        }
    }
}
