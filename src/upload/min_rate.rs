use std::time::Duration;

use crate::support::invalid::InvalidSetting;

/// The rate at which an upload has to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MinRate {
    bytes_per_second: u64,
    grace: Duration,
}

/// 4 GiB a second: faster than the network of a server.
const HIGHEST: u64 = u32::MAX as u64;
/// How often uploads are looked at: a shorter grace would not be kept.
const SHORTEST_GRACE: Duration = Duration::from_secs(1);
/// No client that uploads is silent for so long.
const LONGEST_GRACE: Duration = Duration::from_secs(3_600);

impl MinRate {
    /// # Errors
    ///
    /// If `bytes_per_second` is not from 1 to 4,294,967,295, or `grace` not from a second to an hour.
    pub(crate) fn new(bytes_per_second: u64, grace: Duration) -> Result<Self, InvalidSetting> {
        if !(1..=HIGHEST).contains(&bytes_per_second) {
            let allowed = format!("from 1 to {HIGHEST} bytes a second");
            return Err(InvalidSetting::new(
                "min upload rate",
                bytes_per_second,
                allowed,
            ));
        }
        if !(SHORTEST_GRACE..=LONGEST_GRACE).contains(&grace) {
            let given = format_args!("{grace:?}").to_string();
            let allowed = format!("from {SHORTEST_GRACE:?} to {LONGEST_GRACE:?}");
            return Err(InvalidSetting::new(
                "grace of the min upload rate",
                given,
                allowed,
            ));
        }
        Ok(Self {
            bytes_per_second,
            grace,
        })
    }

    /// Returns how `bytes` that arrived while the handler has waited for `waited` compare with the rate.
    pub(crate) fn compare(&self, bytes: u64, waited: Duration) -> Pace {
        if waited < self.grace {
            Pace::Unknown
        } else if (bytes as f64) < self.bytes_per_second as f64 * waited.as_secs_f64() {
            Pace::TooSlow
        } else {
            Pace::FastEnough
        }
    }
}

/// How fast an upload arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// The handler has not waited for the whole grace yet.
    Unknown,
    FastEnough,
    TooSlow,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_too_slow_below_the_rate_once_the_grace_is_over() {
        let rate = MinRate::new(240, Duration::from_secs(5)).unwrap();
        let pace = |bytes, millis| rate.compare(bytes, Duration::from_millis(millis));
        assert_eq!(pace(0, 4_999), Pace::Unknown);
        assert_eq!(pace(1_199, 5_000), Pace::TooSlow);
        assert_eq!(pace(1_200, 5_000), Pace::FastEnough);
        assert_eq!(pace(1_200, 5_001), Pace::TooSlow);
        assert_eq!(pace(u64::MAX, 3_600_000), Pace::FastEnough);
    }
}
