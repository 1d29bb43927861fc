use std::num::NonZeroU8;

use super::threshold::Threshold;

/// The admission band of a class, and the point in it at which one caller stops.
///
/// The callers of a class do not all stop at one point, but one after the other within the band. The band reaches from the
/// threshold of the next lower class to the threshold of their own class, so no caller is refused while a lower class is
/// admitted. As utilization rises through the band, it passes the points of more callers, and these are refused. So
/// utilization is the cursor that DAGOR's admission level is, and needs no state of its own.
///
/// Source: H. Zhou et al., *Overload Control for Scaling WeChat Microservices*, SoCC 2018, section 4.2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Band {
    /// The lower end. `None` is an eighth below the threshold of the class.
    from: Option<Threshold>,
    /// Several classes with equal thresholds divide the band, lower classes first: the number of these classes that are below
    /// this class, and the number of all of them (`of`).
    below: u8,
    of: NonZeroU8,
    /// The position of the caller in the part of its class, greater than 0 and at most 1.
    part: f32,
}

impl Band {
    /// Creates the band of the class with this index. `stops` are the thresholds of all classes, lowest first.
    pub(crate) fn of(stops: &[Threshold], class: usize, part: f32) -> Self {
        let own = stops[class];
        let lower = stops[..class].iter().rposition(|stop| *stop != own);
        let first = lower.map_or(0, |lower| lower + 1);
        let alike = stops[first..].iter().take_while(|stop| **stop == own);
        Self {
            from: lower.map(|lower| stops[lower]),
            below: (class - first) as u8,
            of: NonZeroU8::new(alike.count() as u8).unwrap_or(NonZeroU8::MIN),
            part,
        }
    }

    /// Returns whether every caller of a class that stops at `stop`, where each lower class does so as well, may go up to half of any
    /// limit.
    // An eighth below four sevenths is one half. What is rounded down is made up for by the unit that each caller has above the
    // lower end of the band.
    pub(crate) fn reaches_half(stop: Threshold) -> bool {
        stop.priority() > Threshold::HIGHEST_PRIORITY / 7 * 4 + 4
    }

    /// Returns the most units that may be in flight under `limit`, where the class stops at `stop`. A `share` below 1 lowers
    /// the position of the caller by that factor.
    pub(crate) fn cap(self, stop: u32, limit: u32, share: f32) -> u32 {
        let from = match self.from {
            None => (stop - stop.div_ceil(8)).max(1),
            Some(lower) => lower.cap(limit),
        };
        let width = stop.saturating_sub(from);
        let along = f64::from(self.below) + f64::from(self.part) * f64::from(share);
        // Rounded up: in a narrow band, the last unit of free capacity is not left unused.
        let within = (f64::from(width) * along / f64::from(self.of.get())).ceil();
        stop - width + within as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threshold::{class_thresholds::ClassThresholds, criticality::Criticality};

    fn caps(stops: &[Threshold], class: usize, limit: u32) -> Vec<u32> {
        let stop = stops[class].cap(limit);
        let parts = (1..=100).map(|part| (part as f32 - 0.5) / 100.0);
        parts
            .map(|part| Band::of(stops, class, part).cap(stop, limit, 1.0))
            .collect()
    }

    #[test]
    fn callers_stop_evenly_spread_between_the_next_lower_class_threshold_and_their_own() {
        let class_thresholds = Criticality::ALL
            .map(|class| ClassThresholds::default().of(Threshold::ratio(0.8), class));
        let ends = |class| {
            let caps = caps(&class_thresholds, class, 300);
            assert!(caps.is_sorted());
            (caps[0], caps[99])
        };
        assert_eq!(
            [0, 1, 2, 3].map(ends),
            [(211, 240), (241, 260), (261, 280), (281, 300)]
        );
        for cap in 241..=260 {
            let there = caps(&class_thresholds, 1, 300)
                .into_iter()
                .filter(|&it| it == cap);
            assert_eq!(there.count(), 5, "at {cap}");
        }
    }

    #[test]
    fn classes_with_equal_thresholds_divide_the_band() {
        let stops = [
            Threshold::ratio(0.5),
            Threshold::ratio(1.0),
            Threshold::ratio(1.0),
        ];
        let ends = |class| {
            let caps = caps(&stops, class, 100);
            (caps[0], caps[99])
        };
        assert_eq!([0, 1, 2].map(ends), [(44, 50), (51, 75), (76, 100)]);
        assert_eq!(caps(&[Threshold::ratio(1.0); 4], 0, 800)[99], 725);
    }

    #[test]
    fn all_callers_of_a_small_limit_stop_at_the_same_point() {
        for (limit, lowest) in [(1, 1), (2, 2), (8, 8), (9, 8), (16, 15)] {
            let caps = caps(&[Threshold::ratio(1.0)], 0, limit);
            assert_eq!((caps[0], caps[99]), (lowest, limit));
        }
    }

    #[test]
    fn a_caller_without_a_share_stops_at_the_lower_end_of_the_band() {
        let stops = [Threshold::ratio(0.8), Threshold::ratio(0.9)];
        let cap = |class: usize, limit| {
            let band = Band::of(&stops, class, 1.0);
            band.cap(stops[class].cap(limit), limit, 0.0)
        };
        assert_eq!((cap(0, 100), cap(1, 100)), (70, 80));
        assert_eq!((cap(0, 1), cap(1, 1)), (1, 1));
        let never = Band::of(&[Threshold::NEVER_SHED; 4], 2, 0.5);
        assert!(never.cap(u32::MAX, 10, 0.0) > u32::MAX / 2);
    }
}
