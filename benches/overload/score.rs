//! From what the callers saw to figures.

use std::{ops::Range, time::Duration};

use crate::load::{DEADLINE, Outcome, Seen};

/// Later than this, the generator was a part of what it measured.
const TOO_LATE: Duration = Duration::from_millis(5);

/// What became of the requests that were due within a span of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Score {
    /// Requests a second.
    pub(crate) offered: f64,
    /// Good answers a second.
    pub(crate) goodput: f64,
    /// Of good answers, from when they were due.
    pub(crate) latency: Percentiles,
    /// Of refusals, from when they were due.
    pub(crate) refusal: Percentiles,
    /// Of refusals, from when they were sent. The generator's timer goes by milliseconds, which is longer than the pool
    /// takes to refuse.
    pub(crate) refusal_from_send: Percentiles,
    /// Shares of what was offered.
    pub(crate) refused: f64,
    pub(crate) late: f64,
    pub(crate) lost: f64,
    pub(crate) failed: f64,
    /// How late the generator sent: the 99th percentile.
    pub(crate) lateness: Duration,
    /// Of the server, for each request that was offered.
    pub(crate) processor: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Percentiles {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) p999: Duration,
}

impl Score {
    /// `processor` is what the server has used in that span.
    pub(crate) fn of(seen: &[Seen], span: &Range<Duration>, processor: Duration) -> Self {
        let seen = || seen.iter().filter(|seen| span.contains(&seen.due));
        let count = |outcome| seen().filter(|seen| seen.outcome == outcome).count() as f64;
        let percentiles = |outcome, latency: fn(&Seen) -> Duration| {
            let those = seen().filter(move |seen| seen.outcome == outcome);
            Percentiles::of(sorted(those.map(latency)))
        };
        let lateness = sorted(seen().map(|seen| seen.lateness));
        let offered = lateness.len().max(1) as f64;
        let seconds = (span.end - span.start).as_secs_f64();
        Self {
            offered: offered / seconds,
            goodput: count(Outcome::Good) / seconds,
            latency: percentiles(Outcome::Good, |seen| seen.latency),
            refusal: percentiles(Outcome::Refused, |seen| seen.latency),
            refusal_from_send: percentiles(Outcome::Refused, |seen| seen.latency - seen.lateness),
            refused: count(Outcome::Refused) / offered,
            late: count(Outcome::Late) / offered,
            lost: count(Outcome::Lost) / offered,
            failed: count(Outcome::Failed) / offered,
            lateness: Percentiles::of(lateness).p99,
            processor: processor.div_f64(offered),
        }
    }

    /// The callers were so late that hardly any answer could have come in time: this says nothing about the server.
    pub(crate) fn is_void(&self) -> bool {
        self.lateness > DEADLINE / 2
    }

    /// The latencies, the shares that were refused and lost, and a mark if the generator was too late.
    pub(crate) fn details(&self) -> String {
        let latencies = match self.goodput {
            0.0 => "–".into(),
            _ => format!(
                "{:.0}/{:.0} ms",
                millis(self.latency.p50),
                millis(self.latency.p99)
            ),
        };
        let mark = if self.lateness > TOO_LATE { " (!)" } else { "" };
        let lost = match self.lost {
            0.0..0.005 => String::new(),
            lost => format!(", {:.0} % lost", lost * 100.0),
        };
        format!("{latencies}, {:.0} %{lost}{mark}", self.refused * 100.0)
    }

    /// What the server spends on a refusal, given what it spends on a request that it admits.
    pub(crate) fn processor_a_refusal(&self, admitted: Duration) -> Option<f64> {
        let all = self.processor.as_secs_f64();
        let on_admitted = admitted.as_secs_f64() * (1.0 - self.refused);
        // Of fewer, what is left over is mostly chance; and who left had less than all of an admitted one's.
        let many = self.refused > 0.5 && self.late + self.lost < 0.01;
        let many = many && !self.processor.is_zero();
        many.then(|| (all - on_admitted) / self.refused * 1e6)
    }

    pub(crate) const CSV_HEAD: &str = "offered_per_s,goodput_per_s,p50_ms,p99_ms,p999_ms,\
        refused,refusal_p50_ms,refusal_p99_ms,refusal_p999_ms,\
        refusal_from_send_p50_ms,refusal_from_send_p99_ms,refusal_from_send_p999_ms,\
        late,lost,failed,lateness_p99_ms,server_cpu_us_per_request";

    pub(crate) fn csv(&self) -> String {
        format!(
            "{:.1},{:.1},{},{:.4},{},{},{:.4},{:.4},{:.4},{:.2},{:.2}",
            self.offered,
            self.goodput,
            self.latency.csv(),
            self.refused,
            self.refusal.csv(),
            self.refusal_from_send.csv(),
            self.late,
            self.lost,
            self.failed,
            millis(self.lateness),
            millis(self.processor) * 1_000.0,
        )
    }
}

impl Percentiles {
    fn of(sorted: Vec<Duration>) -> Self {
        // Of 1,000, the 999th.
        let at = |per_mille: usize| {
            let at = (sorted.len() * per_mille).div_ceil(1_000).saturating_sub(1);
            sorted.get(at).copied().unwrap_or_default()
        };
        Self {
            p50: at(500),
            p99: at(990),
            p999: at(999),
        }
    }

    fn csv(&self) -> String {
        let [p50, p99, p999] = [self.p50, self.p99, self.p999].map(millis);
        format!("{p50:.2},{p99:.2},{p999:.2}")
    }
}

/// Good answers and all requests, in each bin of a run.
pub(crate) fn bins(seen: &[Seen], lasts: Duration, bin: Duration) -> Vec<(f64, f64)> {
    let count = (lasts.as_nanos() / bin.as_nanos()) as usize;
    let mut bins = vec![(0.0, 0.0); count];
    for seen in seen {
        let at = (seen.due.as_nanos() / bin.as_nanos()) as usize;
        if let Some((good, all)) = bins.get_mut(at) {
            *good += f64::from(seen.outcome == Outcome::Good);
            *all += 1.0;
        }
    }
    bins
}

/// How long after the end of the `trouble` nine in ten got a good answer in each half of a second; `None` if it came to
/// that no more.
pub(crate) fn recovery(seen: &[Seen], trouble: Duration, lasts: Duration) -> Option<Duration> {
    const HALF: Duration = Duration::from_millis(500);
    let halves = bins(seen, lasts, HALF);
    let is_back = |&(good, all): &(f64, f64)| good >= 0.9 * all;
    let Some(bad) = halves.iter().rposition(|half| !is_back(half)) else {
        return Some(Duration::ZERO);
    };
    let back = HALF * (bad as u32 + 1);
    (bad + 1 < halves.len()).then(|| back.saturating_sub(trouble))
}

fn sorted(durations: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut sorted: Vec<_> = durations.collect();
    sorted.sort_unstable();
    sorted
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
