//! From what the callers saw to figures.

use std::{ops::Range, time::Duration};

use crate::load::{Outcome, Seen};

/// Later than this, the generator was a part of what it measured.
const TOO_LATE: Duration = Duration::from_millis(5);

/// What became of the requests that were due within a span of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Score {
    /// Requests a second.
    pub(crate) offered: f64,
    /// Good answers a second.
    pub(crate) goodput: f64,
    /// The latency of good answers.
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Shares of what was offered.
    pub(crate) refused: f64,
    pub(crate) late: f64,
    pub(crate) failed: f64,
    /// How late the generator sent: the 99th percentile.
    pub(crate) lateness: Duration,
}

impl Score {
    pub(crate) fn of(seen: &[Seen], span: &Range<Duration>) -> Self {
        let seen = || seen.iter().filter(|seen| span.contains(&seen.due));
        let count = |outcome| seen().filter(|seen| seen.outcome == outcome).count() as f64;
        let good = seen().filter(|seen| seen.outcome == Outcome::Good);
        let latencies = sorted(good.map(|seen| seen.latency));
        let lateness = sorted(seen().map(|seen| seen.lateness));
        let offered = lateness.len() as f64;
        let seconds = (span.end - span.start).as_secs_f64();
        Self {
            offered: offered / seconds,
            goodput: latencies.len() as f64 / seconds,
            p50: percentile(&latencies, 50),
            p99: percentile(&latencies, 99),
            refused: count(Outcome::Refused) / offered,
            late: count(Outcome::Late) / offered,
            failed: count(Outcome::Failed) / offered,
            lateness: percentile(&lateness, 99),
        }
    }

    /// The latencies, the share that was refused, and a mark if the generator was too late.
    pub(crate) fn details(&self) -> String {
        let latencies = match self.goodput {
            0.0 => "–".into(),
            _ => format!("{:.0}/{:.0} ms", millis(self.p50), millis(self.p99)),
        };
        let mark = if self.lateness > TOO_LATE { " (!)" } else { "" };
        format!("{latencies}, {:.0} %{mark}", self.refused * 100.0)
    }

    pub(crate) const CSV_HEAD: &str =
        "offered_per_s,goodput_per_s,p50_ms,p99_ms,refused,late,failed,lateness_p99_ms";

    pub(crate) fn csv(&self) -> String {
        format!(
            "{:.1},{:.1},{:.2},{:.2},{:.4},{:.4},{:.4},{:.2}",
            self.offered,
            self.goodput,
            millis(self.p50),
            millis(self.p99),
            self.refused,
            self.late,
            self.failed,
            millis(self.lateness),
        )
    }
}

fn sorted(durations: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut sorted: Vec<_> = durations.collect();
    sorted.sort_unstable();
    sorted
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    // Of 100, the 99th.
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
