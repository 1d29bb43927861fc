use std::time::Duration;

use http::{Request, header::EXPECT};
use http_body::Body;
use tokio::runtime::Handle;

use super::reader::Reader;
use crate::support::invalid::{InvalidSetting, expect_valid};

/// How much of a refused upload is read after the answer, so that its sender sees the answer and not a reset.
///
/// What is read is thrown away, piece by piece. Once a bound is met, the body is dropped: over HTTP/1 the connection is
/// closed with that, over HTTP/2 the stream is reset.
///
/// | bound | default | why |
/// | --- | --- | --- |
/// | [`bytes`](Self::bytes) of each upload | 64 MiB | mail servers and object stores take less in one piece |
/// | [`time`](Self::time) for each | 60 s | what a slow line needs for that, and about when clients give up |
/// | [`silence`](Self::silence) in each | 5 s | who sends nothing for as long has stopped, or means harm |
/// | [`at_once`](Self::at_once) in the process | 256 | each is a task and a window of flow control, 64 KiB as is usual: 16 MiB |
///
/// ```
/// use std::time::Duration;
/// use loadshed::{Drain, LoadShed};
///
/// // No upload here is larger, and all callers are in the same building.
/// let drain = Drain::default().bytes(1 << 20).time(Duration::from_secs(10));
/// let shed = LoadShed::ratio(0.85).drain(drain);
///
/// // Callers that read while they write, or a proxy in front that takes uploads in whole.
/// let shed = LoadShed::ratio(0.85).drain(Drain::none());
/// ```
///
/// Nothing is read of a request with `Expect: 100-continue`, as its sender waits to be asked, nor outside of a tokio
/// runtime. The bounds in time need the runtime's timer (`Builder::enable_time`): without it, the task that reads panics,
/// after the answer. There, use [`Drain::none`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Drain {
    pub(crate) bytes: usize,
    pub(crate) time: Duration,
    pub(crate) silence: Duration,
    pub(crate) at_once: usize,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            time: Duration::from_secs(60),
            silence: Duration::from_secs(5),
            at_once: 256,
        }
    }
}

impl Drain {
    /// Reads nothing: the body is dropped with the refusal.
    pub fn none() -> Self {
        Self {
            at_once: 0,
            ..Self::default()
        }
    }

    /// The most that is read of one upload, in bytes. A larger one is dropped at the piece that exceeds it.
    ///
    /// # Panics
    ///
    /// If `bytes` is 0. [`try_bytes`](Self::try_bytes) returns an error instead.
    #[track_caller]
    pub fn bytes(self, bytes: usize) -> Self {
        expect_valid(self.try_bytes(bytes))
    }

    /// [`bytes`](Self::bytes) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `bytes` is 0.
    pub fn try_bytes(mut self, bytes: usize) -> Result<Self, InvalidSetting> {
        self.bytes = at_least_1("bytes to drain", bytes)?;
        Ok(self)
    }

    /// The longest that one upload is read, from its refusal on.
    ///
    /// # Panics
    ///
    /// If `time` is zero or more than `u32::MAX` seconds. [`try_time`](Self::try_time) returns an error instead.
    #[track_caller]
    pub fn time(self, time: Duration) -> Self {
        expect_valid(self.try_time(time))
    }

    /// [`time`](Self::time) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `time` is zero or more than `u32::MAX` seconds.
    pub fn try_time(mut self, time: Duration) -> Result<Self, InvalidSetting> {
        self.time = not_zero("time to drain", time)?;
        Ok(self)
    }

    /// The longest that one upload is waited for while nothing of it comes.
    ///
    /// # Panics
    ///
    /// If `silence` is zero or more than `u32::MAX` seconds. [`try_silence`](Self::try_silence) returns an error instead.
    #[track_caller]
    pub fn silence(self, silence: Duration) -> Self {
        expect_valid(self.try_silence(silence))
    }

    /// [`silence`](Self::silence) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `silence` is zero or more than `u32::MAX` seconds.
    pub fn try_silence(mut self, silence: Duration) -> Result<Self, InvalidSetting> {
        self.silence = not_zero("silence while draining", silence)?;
        Ok(self)
    }

    /// An upload is read only while fewer than this are being read in the whole process. Those over it are dropped.
    ///
    /// The count is the process's and not the layer's, as what it bounds is: memory and connections that do no work. A
    /// layer with a lower bound than others gives way to them.
    ///
    /// # Panics
    ///
    /// If `uploads` is 0. [`try_at_once`](Self::try_at_once) returns an error instead.
    #[track_caller]
    pub fn at_once(self, uploads: usize) -> Self {
        expect_valid(self.try_at_once(uploads))
    }

    /// [`at_once`](Self::at_once) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `uploads` is 0.
    pub fn try_at_once(mut self, uploads: usize) -> Result<Self, InvalidSetting> {
        self.at_once = at_least_1("uploads to drain at once", uploads)?;
        Ok(self)
    }

    /// Whether there is more of a request to read.
    #[inline]
    pub(crate) fn has_more<B: Body>(request: &Request<B>) -> bool {
        // A client that asked whether to send its body is told not to. To read it would be to ask for it.
        !request.body().is_end_stream() && !request.headers().contains_key(EXPECT)
    }

    /// Reads `body` in the background, if there is a runtime to do so, and room for one more.
    pub(crate) fn read<B: Body + Send + 'static>(self, body: B) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if let Some(reader) = Reader::begin(self) {
            runtime.spawn(reader.read(Box::pin(body)));
        }
    }
}

fn at_least_1(setting: &'static str, given: usize) -> Result<usize, InvalidSetting> {
    let allowed = "at least 1; Drain::none() reads nothing";
    match given {
        0 => Err(InvalidSetting::new(setting, given, allowed)),
        given => Ok(given),
    }
}

fn not_zero(setting: &'static str, given: Duration) -> Result<Duration, InvalidSetting> {
    let allowed = "more than 0 and at most 4294967295 seconds";
    if given.is_zero() || given > Duration::from_secs(u32::MAX.into()) {
        return Err(InvalidSetting::new(
            setting,
            format_args!("{given:?}"),
            allowed,
        ));
    }
    Ok(given)
}
