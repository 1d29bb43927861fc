use std::time::Duration;

use crate::support::invalid::{InvalidSetting, expect_valid};

/// How much of a refused upload is read after the answer, so that its sender sees the answer and not a reset.
///
/// What is read is thrown away, piece by piece. Once a bound is met, the body is dropped: over HTTP/1 the connection is
/// closed with that, over HTTP/2 the stream is reset.
///
/// | bound | default | why |
/// | --- | --- | --- |
/// | [`max_bytes`](Self::max_bytes) of each upload | 64 MiB | mail servers and object stores take less in one piece |
/// | [`timeout`](Self::timeout) for each | 60 s | what a slow line needs for that, and about when clients give up |
/// | [`idle_timeout`](Self::idle_timeout) in each | 5 s | who sends nothing for as long has stopped, or means harm |
/// | [`max_concurrent`](Self::max_concurrent) in the process | 256 | each is a task and a window of flow control, 64 KiB as is usual: 16 MiB |
///
/// ```
/// use std::time::Duration;
/// use loadshed::{RefusedUpload, LoadShed};
///
/// // No upload here is larger, and all callers are in the same building.
/// let bounds = RefusedUpload::default().max_bytes(1 << 20).timeout(Duration::from_secs(10));
/// let shed = LoadShed::ratio(0.85).refused_upload(bounds);
///
/// // Callers that read while they write, or a proxy in front that takes uploads in whole.
/// let shed = LoadShed::ratio(0.85).refused_upload(RefusedUpload::none());
/// ```
///
/// Nothing is read of a request with `Expect: 100-continue`, as its sender waits to be asked, nor outside of a tokio
/// runtime. The bounds in time need the runtime's timer (`Builder::enable_time`): without it, the task that reads panics,
/// after the answer. There, use [`RefusedUpload::none`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct RefusedUpload {
    pub(crate) max_bytes: usize,
    pub(crate) timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_concurrent: usize,
}

impl Default for RefusedUpload {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 20,
            timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(5),
            max_concurrent: 256,
        }
    }
}

impl RefusedUpload {
    /// Reads nothing: the body is dropped with the refusal.
    pub fn none() -> Self {
        Self {
            max_concurrent: 0,
            ..Self::default()
        }
    }

    /// The most that is read of one upload, in bytes. A larger one is dropped at the piece that exceeds it.
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

    /// The longest that one upload is read, from its refusal on.
    ///
    /// # Panics
    ///
    /// If `timeout` is zero or more than `u32::MAX` seconds. [`try_timeout`](Self::try_timeout) returns an error instead.
    #[track_caller]
    pub fn timeout(self, timeout: Duration) -> Self {
        expect_valid(self.try_timeout(timeout))
    }

    /// [`timeout`](Self::timeout) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `timeout` is zero or more than `u32::MAX` seconds.
    pub fn try_timeout(mut self, timeout: Duration) -> Result<Self, InvalidSetting> {
        self.timeout = not_zero("timeout of a refused upload", timeout)?;
        Ok(self)
    }

    /// The longest that one upload is waited for while nothing of it comes.
    ///
    /// # Panics
    ///
    /// If `idle_timeout` is zero or more than `u32::MAX` seconds. [`try_idle_timeout`](Self::try_idle_timeout) returns an error instead.
    #[track_caller]
    pub fn idle_timeout(self, idle_timeout: Duration) -> Self {
        expect_valid(self.try_idle_timeout(idle_timeout))
    }

    /// [`idle_timeout`](Self::idle_timeout) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `idle_timeout` is zero or more than `u32::MAX` seconds.
    pub fn try_idle_timeout(mut self, idle_timeout: Duration) -> Result<Self, InvalidSetting> {
        self.idle_timeout = not_zero("idle timeout of a refused upload", idle_timeout)?;
        Ok(self)
    }

    /// An upload is read only while fewer than this are being read in the whole process. Those over it are dropped.
    ///
    /// The count is the process's and not the layer's, as what it bounds is: memory and connections that do no work. A
    /// layer with a lower bound than others gives way to them.
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

fn at_least_1(setting: &'static str, given: usize) -> Result<usize, InvalidSetting> {
    let allowed = "at least 1; RefusedUpload::none() reads nothing";
    match given {
        0 => Err(InvalidSetting::new(setting, given, allowed)),
        given => Ok(given),
    }
}

fn not_zero(setting: &'static str, given: Duration) -> Result<Duration, InvalidSetting> {
    let allowed = "greater than 0 and at most 4294967295 seconds";
    if given.is_zero() || given > Duration::from_secs(u32::MAX.into()) {
        return Err(InvalidSetting::new(
            setting,
            format_args!("{given:?}"),
            allowed,
        ));
    }
    Ok(given)
}
