/// Returns the fair share τ for which the sum of min(wanted, τ) over all tenants is `carried`. Infinite if all that is wanted is
/// carried, or if there are less than two tenants.
pub(crate) fn fair<I: Iterator<Item = f32>>(carried: f32, wanted: impl Fn() -> I) -> f32 {
    if wanted().filter(|&wanted| wanted > 0.0).nth(1).is_none() {
        return f32::INFINITY;
    }
    let mut fair_share = 0.0;
    loop {
        // Tenants that want no more than the share get what they want. The others divide the rest.
        let (mut small, mut large) = (0.0, 0_u32);
        for wanted in wanted() {
            if wanted <= fair_share {
                small += wanted;
            } else {
                large += 1;
            }
        }
        if large == 0 {
            return f32::INFINITY;
        }
        // The share only rises, each time past what another tenant wants. Rounding must not make the loop endless.
        let next = (carried - small) / large as f32;
        if next <= fair_share * (1.0 + 1e-4) {
            return fair_share.max(next);
        }
        fair_share = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fair_share(carried: f32, wanted: &[f32]) -> f32 {
        fair(carried, || wanted.iter().copied())
    }

    #[test]
    fn small_tenants_get_what_they_want_and_the_others_divide_the_rest() {
        assert_eq!(fair_share(100.0, &[10.0, 20.0, 500.0, 90.0]), 35.0);
        assert_eq!(fair_share(100.0, &[500.0, 300.0, 0.0]), 50.0);
        assert_eq!(fair_share(1.0, &[1.0; 20]), 0.05);
        assert_eq!(fair_share(0.0, &[1.0, 2.0]), 0.0);
    }

    #[test]
    fn while_all_tenants_get_what_they_want_the_share_is_infinite() {
        assert_eq!(fair_share(30.0, &[10.0, 20.0]), f32::INFINITY);
        assert_eq!(fair_share(31.0, &[10.0, 20.0]), f32::INFINITY);
        assert_eq!(fair_share(0.0, &[]), f32::INFINITY);
        assert_eq!(fair_share(0.0, &[0.0; 5]), f32::INFINITY);
    }

    #[test]
    fn for_a_single_tenant_the_share_is_infinite() {
        assert_eq!(fair_share(100.0, &[0.0, 500.0, 0.0]), f32::INFINITY);
    }

    proptest! {
        #[test]
        fn what_all_tenants_get_by_it_is_what_is_carried(
            wanted in proptest::collection::vec((1_u32..10_000).prop_map(|n| n as f32 / 100.0), 2..200),
            share_carried in 0.01_f32..0.99,
        ) {
            let all: f32 = wanted.iter().sum();
            let carried = all * share_carried;
            let fair_share = fair_share(carried, &wanted);
            let had: f32 = wanted.iter().map(|wanted| wanted.min(fair_share)).sum();
            prop_assert!((had - carried).abs() <= 1e-3 * carried.max(1.0), "{} of {}", had, carried);
        }
    }
}
