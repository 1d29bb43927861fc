//! The order of callers within a class, which changes every hour.

use std::{
    hash::{Hash, Hasher},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

/// The hours of the wall clock, which are the same for all services. Time passes by tokio's clock, so that tests can move it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hours {
    began: Instant,
    /// The time from 1970 until `began`.
    since: Duration,
}

impl Hours {
    /// Starts from the present time of the wall clock, and does not follow when that clock is set.
    #[expect(clippy::disallowed_methods, reason = "tokio has no wall clock")]
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            began: Instant::now(),
            since: since.unwrap_or_default(),
        }
    }

    pub(crate) fn hour(self) -> u64 {
        (self.since + self.began.elapsed()).as_secs() / 3_600
    }
}

/// Returns a caller's position in the order of this hour, greater than 0 and at most 1. Callers with low positions are refused
/// first.
///
/// The hash function is fixed, as all services have to compute the same order: FNV-1a of 64 bits over the key and the hour, then
/// murmur's finalizer, as the upper bits of FNV's hash of a short key hardly differ. Integers are hashed in little-endian order,
/// `usize` as 64 bits, so that machines of different kinds agree.
pub(crate) fn position(key: &impl Hash, hour: u64) -> f32 {
    let mut hasher = Fnv::default();
    key.hash(&mut hasher);
    hasher.write_u64(hour);
    // 24 bits, which an `f32` holds exactly.
    ((finalize(hasher.0) >> 40) + 1) as f32 / (1_u32 << 24) as f32
}

/// The hash function FNV-1a, by Fowler, Noll and Vo.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

macro_rules! little_endian {
    ($($name:ident: $from:ty as $to:ty),*) => {
        $(fn $name(&mut self, n: $from) {
            self.write(&(n as $to).to_le_bytes());
        })*
    };
}

/// The default methods for signed integers call these.
impl Hasher for Fnv {
    little_endian!(write_u16: u16 as u16, write_u32: u32 as u32, write_u64: u64 as u64);
    little_endian!(write_u128: u128 as u128, write_usize: usize as u64);

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The finalizer of Murmur3, by Austin Appleby.
fn finalize(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ bits >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ bits >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        let fnv = |text: &str| {
            let mut hasher = Fnv::default();
            hasher.write(text.as_bytes());
            hasher.finish()
        };
        // From the authors' own test vectors.
        assert_eq!(fnv(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv("foobar"), 0x8594_4171_f739_67e8);
        let mut hasher = Fnv::default();
        hasher.write_usize(0x61);
        assert_eq!(hasher.finish(), fnv("a\0\0\0\0\0\0\0"));
    }

    /// Two services of a chain refuse the same callers only if they compute the same positions, so these values may not change.
    /// They were computed by another program.
    #[test]
    fn positions_are_the_same_in_every_process_and_version() {
        let positions = [
            position(&"ada", 0),
            position(&"ada", 1),
            position(&42_u64, 0),
        ];
        let whole = positions.map(|position| (position * (1 << 24) as f32) as u32);
        assert_eq!(whole, [3_265_425, 13_252_168, 2_432_908]);
    }

    #[test]
    fn positions_are_spread_evenly_over_callers_and_over_hours() {
        const BINS: usize = 16;
        let uneven = |positions: &mut dyn Iterator<Item = f32>| {
            let mut bins = [0_usize; BINS];
            let mut all = 0;
            for position in positions {
                assert!(position > 0.0 && position <= 1.0);
                bins[((position * BINS as f32) as usize).min(BINS - 1)] += 1;
                all += 1;
            }
            let mean = all as f64 / BINS as f64;
            bins.map(|bin| (bin as f64 - mean).powi(2) / mean)
                .iter()
                .sum::<f64>()
        };
        // Chi-squared with 15 degrees of freedom exceeds 38 once in a thousand times.
        assert!(uneven(&mut (0..10_000_u32).map(|user| position(&user, 7))) < 38.0);
        let named = |user| position(&format!("user-{user}"), 490_000);
        assert!(uneven(&mut (0..10_000).map(named)) < 38.0);
        assert!(uneven(&mut (0..10_000).map(|hour| position(&"ada", hour))) < 38.0);
    }
}
