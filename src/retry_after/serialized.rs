use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

use super::retry_after::RetryAfter;
use crate::support::{invalid::InvalidSetting, seconds};

/// The fields of a [`RetryAfter`] in a configuration. Durations are in seconds.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Fields {
    kind: Kind,
    /// Of a fixed hint only.
    seconds: Option<f64>,
    jitter: Option<f64>,
    min_seconds: Option<f64>,
    max_seconds: Option<f64>,
    milliseconds: bool,
    seed: Option<u64>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Adaptive,
    Fixed,
    None,
}

impl<'de> Deserialize<'de> for RetryAfter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Fields::deserialize(deserializer)?;
        fields.try_into().map_err(D::Error::custom)
    }
}

impl TryFrom<Fields> for RetryAfter {
    type Error = InvalidSetting;

    fn try_from(fields: Fields) -> Result<Self, InvalidSetting> {
        let mut policy = match (fields.kind, fields.seconds) {
            (Kind::Adaptive, None) => Self::adaptive(),
            (Kind::None, None) => Self::none(),
            (Kind::Fixed, Some(seconds)) => Self::try_fixed(duration("seconds", seconds)?)?,
            (Kind::Fixed, None) => {
                return Err(InvalidSetting::new(
                    "kind",
                    "\"fixed\"",
                    "given with the field seconds",
                ));
            }
            (Kind::Adaptive | Kind::None, Some(seconds)) => {
                return Err(InvalidSetting::new(
                    "seconds",
                    seconds,
                    "absent, or of kind \"fixed\"",
                ));
            }
        };
        // The longest first, which bounds the shortest.
        if let Some(max) = fields.max_seconds {
            policy = policy.try_max(duration("max_seconds", max)?)?;
        }
        if let Some(min) = fields.min_seconds {
            policy = policy.try_min(duration("min_seconds", min)?)?;
        }
        if let Some(jitter) = fields.jitter {
            policy = policy.try_jitter(jitter)?;
        }
        if let Some(seed) = fields.seed {
            policy = policy.seed(seed);
        }
        Ok(policy.milliseconds(fields.milliseconds))
    }
}

/// The range of all durations. The bounds of each setting are checked by its setter.
fn duration(field: &'static str, seconds: f64) -> Result<Duration, InvalidSetting> {
    seconds::duration(field, seconds, "a number of seconds, at least 0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Result<RetryAfter, String> {
        toml::from_str(toml).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn each_setting_has_a_field() {
        let seconds = Duration::from_secs_f64;
        let fixed = RetryAfter::fixed(seconds(5.0));
        for (toml, policy) in [
            ("", RetryAfter::adaptive()),
            ("kind = 'none'", RetryAfter::none()),
            ("kind = 'fixed'\nseconds = 5", fixed),
            (
                "kind = 'fixed'\nseconds = 5\njitter = 0.5",
                fixed.jitter(0.5),
            ),
            (
                "min_seconds = 90\nmax_seconds = 600\nmilliseconds = true\nseed = 7",
                RetryAfter::adaptive()
                    .max(seconds(600.0))
                    .min(seconds(90.0))
                    .milliseconds(true)
                    .seed(7),
            ),
            (
                "min_seconds = 0.25",
                RetryAfter::adaptive().min(seconds(0.25)),
            ),
        ] {
            assert_eq!(read(toml), Ok(policy), "{toml}");
        }
    }

    #[test]
    fn a_mistake_is_an_error_that_says_what_is_allowed() {
        for (toml, text) in [
            (
                "kind = 'constant'",
                "unknown variant `constant`, expected one of `adaptive`, `fixed`, `none`",
            ),
            (
                "maximum = 5",
                "unknown field `maximum`, expected one of `kind`, `seconds`, `jitter`, `min_seconds`",
            ),
            (
                "seconds = 5",
                "invalid seconds 5: must be absent, or of kind \"fixed\"",
            ),
            (
                "kind = 'fixed'",
                "invalid kind \"fixed\": must be given with the field seconds",
            ),
            (
                "min_seconds = -1",
                "invalid min_seconds -1 s: must be a number of seconds, at least 0",
            ),
            (
                "min_seconds = 90",
                "invalid shortest hint 90s: must be at most 60s, the longest",
            ),
            ("jitter = 2", "invalid jitter 2: must be from 0 to 1"),
        ] {
            let told = read(toml).unwrap_err();
            assert!(told.starts_with(text), "{told}");
        }
    }
}
