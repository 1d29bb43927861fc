use std::fmt;

use super::{count::count::Count, counted_units::CountedUnits, shares::shares::PackedTenant};
use crate::threshold::rounded::RoundedThreshold;

/// [`CountedUnits`] in two words: they move with the permit of each request.
#[derive(Clone, Copy)]
pub(crate) struct PackedUnits {
    count: &'static Count,
    admitted_under: RoundedThreshold,
    units: u16,
    tenant: PackedTenant,
    flags: Flags,
}

/// Two bits. An enum, as its other values tell the variants of a [`CountPermit`](super::permit::CountPermit) apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flags {
    None,
    Marked,
    Multiplexed,
    Both,
}

impl Flags {
    #[inline]
    fn of(marked: bool, multiplexed: bool) -> Self {
        match (marked, multiplexed) {
            (false, false) => Self::None,
            (true, false) => Self::Marked,
            (false, true) => Self::Multiplexed,
            (true, true) => Self::Both,
        }
    }

    #[inline]
    fn marked(self) -> bool {
        matches!(self, Self::Marked | Self::Both)
    }

    #[inline]
    fn multiplexed(self) -> bool {
        matches!(self, Self::Multiplexed | Self::Both)
    }
}

impl PackedUnits {
    /// `None` if there are too many units.
    #[inline]
    pub(crate) fn pack(held: CountedUnits) -> Option<Self> {
        Some(Self {
            count: held.count,
            admitted_under: held.admitted_under,
            units: u16::try_from(held.units).ok()?,
            tenant: held.tenant.into(),
            flags: Flags::of(held.marked, held.multiplexed),
        })
    }

    #[inline]
    pub(crate) fn unpack(self) -> CountedUnits {
        CountedUnits {
            count: self.count,
            units: self.units.into(),
            tenant: self.tenant.into(),
            admitted_under: self.admitted_under,
            marked: self.flags.marked(),
            multiplexed: self.flags.multiplexed(),
        }
    }

    #[inline]
    pub(crate) fn is_multiplexed(self) -> bool {
        self.flags.multiplexed()
    }

    pub(crate) fn set_multiplexed(&mut self) {
        self.flags = Flags::of(self.flags.marked(), true);
    }

    // A function of its own, so that the drop of a permit is inlined: it stands in many functions, and mostly there is no permit.
    #[inline(never)]
    pub(crate) fn release(self) {
        match self.flags {
            Flags::None | Flags::Multiplexed if self.tenant.is_none() => {
                self.count.release(self.units.into());
            }
            _ => self.unpack().release(),
        }
    }
}

impl fmt::Debug for PackedUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.unpack().fmt(f)
    }
}

#[cfg(all(test, not(loadshed_loom)))]
mod tests {
    use super::*;
    use crate::{
        Threshold,
        admission::{claim::Claim, shares::shares::Tenant},
    };

    #[test]
    fn p04_what_is_packed_is_found_again() {
        let count = Count::claim(10);
        for units in [1, 2, 65_535] {
            for tenant in [None, Some(Tenant::of(&"a")), Some(Tenant::of(&"b"))] {
                for (marked, multiplexed) in
                    [(false, false), (true, false), (false, true), (true, true)]
                {
                    let held = CountedUnits {
                        tenant,
                        marked,
                        multiplexed,
                        ..CountedUnits::of(count, &Claim::of(Threshold::ratio(0.85), units))
                    };
                    let found = PackedUnits::pack(held).unwrap().unpack();
                    assert_eq!(format!("{found:?}"), format!("{held:?}"));
                }
            }
        }
        let too_many = CountedUnits::of(count, &Claim::of(Threshold::ratio(0.85), 65_536));
        assert!(PackedUnits::pack(too_many).is_none());
    }
}
