//! What a window shows, in numbers.

use tokio::time::Instant;

use crate::control::controller::{Outcome, Sample, Window};

/// The figures of one window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observation {
    pub(crate) now: Instant,
    /// The requests in flight that have not responded.
    pub(crate) waiting: f64,
    pub(crate) figures: Figures,
}

/// The sums of a window, or of several. Times are in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) elapsed: f64,
    /// The time that all requests have waited for a response together.
    pub(crate) waited: f64,
    pub(crate) completed: f64,
    pub(crate) refused: f64,
    pub(crate) successes: f64,
    /// The latencies of the successes: their sum, and the sum of their squares.
    pub(crate) latency: f64,
    squares: f64,
    /// Requests that ended without a response, or with a report of overload, and their latencies.
    pub(crate) timed_out: f64,
    pub(crate) timed_out_latency: f64,
    /// Requests that say nothing about load.
    pub(crate) errors: f64,
}

/// In service times, the time after which requests hang: of exponential times one in 3,000 is longer.
const HANG: f64 = 8.0;

/// The least difference of two mean latencies that is none of chance, as a part of them.
const NOISE: f64 = 0.15;

impl Observation {
    /// Callers and back ends that give up sooner than `soon`, in seconds, have met no queue here: these samples say nothing.
    pub(crate) fn of(window: &Window<'_>, soon: f64) -> Self {
        let waiting = window.waiting() as f64;
        let elapsed = window.elapsed.as_secs_f64();
        let mut figures = Figures {
            elapsed,
            waited: waiting * elapsed,
            completed: window.completed as f64,
            refused: window.refused as f64,
            ..Figures::default()
        };
        for sample in window.samples {
            let latency = latency(sample);
            if sample.outcome == Outcome::Success {
                figures.successes += 1.0;
                figures.latency += latency;
                figures.squares += latency * latency;
            } else if has_timed_out_after(soon, sample) {
                figures.timed_out += 1.0;
                figures.timed_out_latency += latency;
            } else {
                figures.errors += 1.0;
            }
        }
        Self {
            now: window.now,
            waiting,
            figures,
        }
    }
}

impl Figures {
    pub(crate) fn is_refusing(&self) -> bool {
        self.refused > 0.0
    }

    /// Returns how far chance takes a mean latency, as a part of it: two standard deviations where times are exponential.
    pub(crate) fn chance(&self) -> f64 {
        2.0 / self.successes.max(1.0).sqrt()
    }

    /// Returns by which part a mean latency has to differ to be another one.
    pub(crate) fn noise(&self) -> f64 {
        self.chance().max(NOISE)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.elapsed += other.elapsed;
        self.waited += other.waited;
        self.completed += other.completed;
        self.refused += other.refused;
        self.successes += other.successes;
        self.latency += other.latency;
        self.squares += other.squares;
        self.timed_out += other.timed_out;
        self.timed_out_latency += other.timed_out_latency;
        self.errors += other.errors;
    }

    /// Returns the successes and the requests that have timed out.
    pub(crate) fn ended(&self) -> f64 {
        self.successes + self.timed_out
    }

    /// Returns all measured requests.
    pub(crate) fn measured(&self) -> f64 {
        self.ended() + self.errors
    }

    /// Returns the successes per second. Only a part of the requests may be measured.
    pub(crate) fn rate(&self) -> f64 {
        if self.elapsed <= 0.0 {
            return 0.0;
        }
        self.completed * self.successes / self.measured().max(1.0) / self.elapsed
    }

    /// Returns the mean latency of the successes, or 0 without any.
    pub(crate) fn mean(&self) -> f64 {
        self.latency / self.successes.max(1.0)
    }

    /// Returns the part of all that was waited which is of requests that have ended: nearly 1 where nothing changes, less where a
    /// queue has grown.
    pub(crate) fn part_ended(&self) -> f64 {
        let each = (self.latency + self.timed_out_latency) / self.measured().max(1.0);
        self.completed * each / self.waited.max(f64::MIN_POSITIVE)
    }

    /// Returns for how long timed out requests were in flight for each success, or each of them if they are more.
    pub(crate) fn timed_out_each(&self) -> f64 {
        self.timed_out_latency / self.successes.max(self.timed_out).max(1.0)
    }

    /// Returns whether requests that timed out were in no queue: they have waited for many times `service`.
    pub(crate) fn do_hang(&self, service: f64) -> bool {
        self.timed_out_latency > HANG * service * self.timed_out
    }

    /// Returns the squared coefficient of variation of the successes' latency.
    pub(crate) fn variation(&self) -> f64 {
        let mean = self.mean();
        if mean <= 0.0 {
            return 0.0;
        }
        (self.squares / self.successes / (mean * mean) - 1.0).clamp(0.0, 15.0)
    }
}

/// Returns whether a request has ended without its response, or the response reports overload.
pub(crate) fn has_timed_out(sample: &Sample) -> bool {
    matches!(sample.outcome, Outcome::Cancelled | Outcome::Overload)
}

/// The same, unless it took less than `soon`, in seconds: then the caller or the back end has met no queue.
pub(crate) fn has_timed_out_after(soon: f64, sample: &Sample) -> bool {
    has_timed_out(sample) && latency(sample) >= soon
}

/// Returns the latency in seconds: at least a microsecond, as a clock that stands still makes no server infinitely fast, and at most
/// a day.
pub(crate) fn latency(sample: &Sample) -> f64 {
    sample.latency.as_secs_f64().clamp(1e-6, 86_400.0)
}
