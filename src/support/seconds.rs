//! Durations in files: a number of seconds.

use std::time::Duration;

use super::invalid::InvalidSetting;

/// Writes a duration as seconds.
pub(crate) fn serialize<S: serde::Serializer>(
    time: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// Writes a duration as seconds, or nothing.
pub(crate) fn serialize_option<S: serde::Serializer>(
    time: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&time.map(|time| time.as_secs_f64()), serializer)
}

/// Returns a setting of `seconds` as a duration.
///
/// # Errors
///
/// If `seconds` is negative, no number, or too large for a [`Duration`]. `allowed` is the text of the error.
pub(crate) fn duration(
    setting: &'static str,
    seconds: f64,
    allowed: &'static str,
) -> Result<Duration, InvalidSetting> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| InvalidSetting::new(setting, format_args!("{seconds} s"), allowed))
}
