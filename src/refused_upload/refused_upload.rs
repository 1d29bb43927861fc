use std::time::Duration;

#[cfg(feature = "serde")]
use crate::support::seconds;

use crate::support::invalid::{InvalidSetting, expect_valid};

/// How much of a refused upload is read after the response, so that the client sees the response and not a reset.
///
/// The data is discarded frame by frame. Once a bound is exceeded, the body is dropped: HTTP/1 then closes the connection, and
/// HTTP/2 resets the stream.
///
/// | bound | default | why |
/// | --- | --- | --- |
/// | [`max_bytes`](Self::max_bytes) of an upload | 64 MiB | mail servers and object stores accept less in one piece |
/// | [`timeout`](Self::timeout) of an upload | 60 s | a slow network needs about that long for 64 MiB, and clients give up about then |
/// | [`idle_timeout`](Self::idle_timeout) of an upload | 5 s | a client that is silent for longer has stopped, or is malicious |
/// | [`min_rate`](Self::min_rate) of an upload | 240 B/s | as in Kestrel, the server of ASP.NET: a slower client has stalled, or is malicious |
/// | [`max_concurrent`](Self::max_concurrent) in the process | 256 | each upload needs a task and a flow-control window, usually 64 KiB: 16 MiB |
///
/// # Uploads that cannot end in time
///
/// Once an upload has been read for the idle timeout, its rate is looked at: the bytes that were read ÷ the time since its
/// refusal, about once a second. It is read no longer
///
/// - below the minimum rate;
/// - where the announced rest cannot arrive within the timeout at this rate. A rest is announced by the
///   [size hint](http_body::Body::size_hint) of the body, so by `Content-Length`: 1 MB at 10 kB/s takes 100 s, and is
///   dropped after 5 s. A body of unknown length is read to the timeout.
///
/// A server whose graceful shutdown waits for connections waits for refused uploads, too: at most for the timeout. To end all of
/// them within 2 s, [drain](crate::Budget::begin_drain) the budget first: once its grace has passed, the uploads that
/// its layers have refused are read for 2 s at most, so that a client that is sending still sees its response.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use loadshed::{RefusedUpload, LoadShed};
///
/// // No upload is larger here, and all callers are in the same network.
/// let bounds = RefusedUpload::default().max_bytes(1 << 20).timeout(Duration::from_secs(10));
/// let shed = LoadShed::ratio(0.85).refused_upload(bounds);
///
/// // For callers that read while they write, or behind a proxy that buffers uploads.
/// let shed = LoadShed::ratio(0.85).refused_upload(RefusedUpload::none());
/// ```
///
/// The body is dropped unread in two cases: a request with `Expect: 100-continue`, as its client has not sent the body yet,
/// and a layer that is called outside of a tokio runtime.
///
/// The timeouts need the timer of the runtime (`Builder::enable_time`). Without the timer, the task that reads panics, after
/// the response was sent. Use [`RefusedUpload::none`] there.
///
/// # Configuration
///
/// With the feature `serde` the bounds can be read from a file. Timeouts are in seconds. A field that is absent has its default,
/// and an unknown field is an error. The string `"none"` is [`RefusedUpload::none`].
///
/// ```
/// # #[cfg(feature = "serde")] {
/// # use std::time::Duration;
/// # use loadshed::RefusedUpload;
/// #[derive(serde::Deserialize)]
/// struct Config {
///     refused_upload: RefusedUpload,
/// }
///
/// let config: Config = toml::from_str("
///     [refused_upload]
///     max_bytes = 1048576
///     timeout = 10
///     idle_timeout = 2.5
///     min_rate = 1000
///     max_concurrent = 64
/// ").unwrap();
/// assert_eq!(config.refused_upload, RefusedUpload::default()
///     .max_bytes(1 << 20)
///     .timeout(Duration::from_secs(10))
///     .idle_timeout(Duration::from_millis(2_500))
///     .min_rate(1_000)
///     .max_concurrent(64));
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct RefusedUpload {
    pub(crate) max_bytes: usize,
    pub(crate) timeout: Duration,
    pub(crate) idle_timeout: Duration,
    /// In bytes per second.
    pub(crate) min_rate: usize,
    pub(crate) max_concurrent: usize,
}

impl Default for RefusedUpload {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 20,
            timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(5),
            min_rate: 240,
            max_concurrent: 256,
        }
    }
}

impl RefusedUpload {
    /// Reads nothing: the body is dropped with the refusal. In a file: `"none"`.
    pub fn none() -> Self {
        Self {
            max_concurrent: 0,
            ..Self::default()
        }
    }

    /// Sets how many bytes of one upload are read at most. A larger upload is dropped after the frame that exceeds the bound.
    /// The default is 64 MiB.
    ///
    /// # Panics
    ///
    /// If `max_bytes` is 0. [`try_max_bytes`](Self::try_max_bytes) returns an error instead.
    #[track_caller]
    pub fn max_bytes(self, max_bytes: usize) -> Self {
        expect_valid(self.try_max_bytes(max_bytes))
    }

    /// [`max_bytes`](Self::max_bytes) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `max_bytes` is 0.
    pub fn try_max_bytes(mut self, max_bytes: usize) -> Result<Self, InvalidSetting> {
        self.max_bytes = at_least_1("max bytes of a refused upload", max_bytes)?;
        Ok(self)
    }

    /// Sets how long one upload is read at most, from its refusal on. The default is 60 s.
    ///
    /// # Panics
    ///
    /// If `timeout` is 0 or more than `u32::MAX` seconds. [`try_timeout`](Self::try_timeout) returns an error instead.
    #[track_caller]
    pub fn timeout(self, timeout: Duration) -> Self {
        expect_valid(self.try_timeout(timeout))
    }

    /// [`timeout`](Self::timeout) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `timeout` is 0 or more than `u32::MAX` seconds.
    pub fn try_timeout(mut self, timeout: Duration) -> Result<Self, InvalidSetting> {
        self.timeout = not_zero(TIMEOUT, timeout)?;
        Ok(self)
    }

    /// Sets how long the next frame of an upload may take, and after which time its rate counts. The default is 5 s.
    ///
    /// # Panics
    ///
    /// If `idle_timeout` is 0 or more than `u32::MAX` seconds. [`try_idle_timeout`](Self::try_idle_timeout) returns an error
    /// instead.
    #[track_caller]
    pub fn idle_timeout(self, idle_timeout: Duration) -> Self {
        expect_valid(self.try_idle_timeout(idle_timeout))
    }

    /// [`idle_timeout`](Self::idle_timeout) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `idle_timeout` is 0 or more than `u32::MAX` seconds.
    pub fn try_idle_timeout(mut self, idle_timeout: Duration) -> Result<Self, InvalidSetting> {
        self.idle_timeout = not_zero(IDLE_TIMEOUT, idle_timeout)?;
        Ok(self)
    }

    /// Sets the rate, in bytes per second, below which an upload is read no longer. The rate is the mean since the refusal, and counts
    /// once the [idle timeout](Self::idle_timeout) has passed. The default is 240 bytes per second.
    ///
    /// # Panics
    ///
    /// If `bytes_per_second` is 0. [`try_min_rate`](Self::try_min_rate) returns an error instead. 1 accepts any upload that is
    /// not silent.
    #[track_caller]
    pub fn min_rate(self, bytes_per_second: usize) -> Self {
        expect_valid(self.try_min_rate(bytes_per_second))
    }

    /// [`min_rate`](Self::min_rate) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `bytes_per_second` is 0.
    pub fn try_min_rate(mut self, bytes_per_second: usize) -> Result<Self, InvalidSetting> {
        if bytes_per_second == 0 {
            let allowed = "at least 1 byte per second";
            return Err(InvalidSetting::new(MIN_RATE, bytes_per_second, allowed));
        }
        self.min_rate = bytes_per_second;
        Ok(self)
    }

    /// Sets how many uploads the process reads at once. Further refused uploads are dropped unread. The default is 256.
    ///
    /// The count is shared by all layers of the process, as the bounded resources are: memory and idle connections. Where
    /// layers have different bounds, the layer with the lowest bound stops reading first.
    ///
    /// A layer reads one upload more only while it reads fewer than are still free. So a layer that is alone reads at most half:
    /// 128. A second layer then reads up to 64, a third up to 32. Slow uploads to one layer do not cost the others their reads;
    /// within the layer, the [minimum rate](Self::min_rate) frees the reads of uploads that hardly move. A layer here is a
    /// [`LoadShed`](crate::LoadShed) value with its clones; a clone that is given another setting is another layer.
    ///
    /// # Panics
    ///
    /// If `uploads` is 0. [`try_max_concurrent`](Self::try_max_concurrent) returns an error instead.
    #[track_caller]
    pub fn max_concurrent(self, uploads: usize) -> Self {
        expect_valid(self.try_max_concurrent(uploads))
    }

    /// [`max_concurrent`](Self::max_concurrent) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `uploads` is 0.
    pub fn try_max_concurrent(mut self, uploads: usize) -> Result<Self, InvalidSetting> {
        self.max_concurrent = at_least_1("max concurrent refused uploads", uploads)?;
        Ok(self)
    }
}

/// The fields in a file.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    max_bytes: Option<usize>,
    timeout: Option<f64>,
    idle_timeout: Option<f64>,
    min_rate: Option<usize>,
    max_concurrent: Option<usize>,
}

#[cfg(feature = "serde")]
impl TryFrom<Fields> for RefusedUpload {
    type Error = InvalidSetting;

    fn try_from(fields: Fields) -> Result<Self, InvalidSetting> {
        let mut bounds = Self::default();
        if let Some(bytes) = fields.max_bytes {
            bounds = bounds.try_max_bytes(bytes)?;
        }
        if let Some(seconds) = fields.timeout {
            let timeout = seconds::duration(TIMEOUT, seconds, TIMEOUT_RANGE)?;
            bounds = bounds.try_timeout(timeout)?;
        }
        if let Some(seconds) = fields.idle_timeout {
            let timeout = seconds::duration(IDLE_TIMEOUT, seconds, TIMEOUT_RANGE)?;
            bounds = bounds.try_idle_timeout(timeout)?;
        }
        if let Some(rate) = fields.min_rate {
            bounds = bounds.try_min_rate(rate)?;
        }
        if let Some(uploads) = fields.max_concurrent {
            bounds = bounds.try_max_concurrent(uploads)?;
        }
        Ok(bounds)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for RefusedUpload {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = RefusedUpload;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the bounds of refused uploads, or \"none\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RefusedUpload, E> {
                match text {
                    "none" => Ok(RefusedUpload::none()),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                map: A,
            ) -> Result<RefusedUpload, A::Error> {
                let map = serde::de::value::MapAccessDeserializer::new(map);
                let fields = <Fields as serde::Deserialize>::deserialize(map)?;
                RefusedUpload::try_from(fields).map_err(serde::de::Error::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

const TIMEOUT: &str = "timeout of a refused upload";
const IDLE_TIMEOUT: &str = "idle timeout of a refused upload";
const MIN_RATE: &str = "min rate of a refused upload";
const TIMEOUT_RANGE: &str = "greater than 0 and at most 4294967295 seconds";

fn at_least_1(setting: &'static str, given: usize) -> Result<usize, InvalidSetting> {
    let allowed = "at least 1; RefusedUpload::none() reads nothing";
    match given {
        0 => Err(InvalidSetting::new(setting, given, allowed)),
        given => Ok(given),
    }
}

fn not_zero(setting: &'static str, given: Duration) -> Result<Duration, InvalidSetting> {
    if given.is_zero() || given > Duration::from_secs(u32::MAX.into()) {
        let given = format_args!("{given:?}");
        return Err(InvalidSetting::new(setting, given, TIMEOUT_RANGE));
    }
    Ok(given)
}
