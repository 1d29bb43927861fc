//! Computes scores from the results of requests.

use std::{ops::Range, time::Duration};

use crate::load::{DEADLINE, Outcome, RequestResult};

/// Above this lateness, the generator distorts the measurement.
const TOO_LATE: Duration = Duration::from_millis(5);

/// The results of the requests that were due within a span of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Score {
    /// Offered requests a second.
    pub(crate) offered: f64,
    /// Good responses a second.
    pub(crate) goodput: f64,
    /// Latency of good responses, from the due time.
    pub(crate) latency: Percentiles,
    /// Latency of refusals, from the due time.
    pub(crate) refusal: Percentiles,
    /// Latency of refusals, from the sending. The generator's timer has a resolution of 1 ms, which is longer than the pool
    /// takes to refuse.
    pub(crate) refusal_from_send: Percentiles,
    /// Share of the offered requests, like the next three.
    pub(crate) refused: f64,
    pub(crate) late: f64,
    pub(crate) lost: f64,
    pub(crate) failed: f64,
    /// Lateness of the generator, 99th percentile.
    pub(crate) lateness: Duration,
    /// Processor time of the server per offered request.
    pub(crate) processor: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Percentiles {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) p999: Duration,
}

impl Score {
    /// Scores a span; `processor` is the server's processor time in it.
    pub(crate) fn of(seen: &[RequestResult], span: &Range<Duration>, processor: Duration) -> Self {
        let seen = || seen.iter().filter(|seen| span.contains(&seen.due));
        let count = |outcome| seen().filter(|seen| seen.outcome == outcome).count() as f64;
        let percentiles = |outcome, latency: fn(&RequestResult) -> Duration| {
            let results = seen().filter(move |seen| seen.outcome == outcome);
            Percentiles::of(sorted(results.map(latency)))
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

    /// Returns whether the callers were so late that hardly any response could meet the deadline: no verdict on the server.
    pub(crate) fn is_void(&self) -> bool {
        self.lateness > DEADLINE / 2
    }

    /// Formats the latencies, the shares of refused and lost requests, and a mark if the generator was too late.
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

    /// Returns the server's processor time for a refusal, in µs, given its time for an admitted request.
    pub(crate) fn processor_a_refusal(&self, admitted: Duration) -> Option<f64> {
        let all = self.processor.as_secs_f64();
        let on_admitted = admitted.as_secs_f64() * (1.0 - self.refused);
        // With fewer refusals, the remainder is mostly noise; and a cancelled request used less than an admitted one.
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
        // The position of the percentile: of 1,000 values, the 999th.
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

/// Counts good responses and all requests in each bin of a run.
pub(crate) fn bins(seen: &[RequestResult], duration: Duration, bin: Duration) -> Vec<(f64, f64)> {
    let count = (duration.as_nanos() / bin.as_nanos()) as usize;
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

/// Returns the time from the end of the overload until at least nine in ten requests had a good response in each half of a
/// second; `None` if that was never reached again.
pub(crate) fn recovery(
    seen: &[RequestResult],
    overload_end: Duration,
    duration: Duration,
) -> Option<Duration> {
    const HALF: Duration = Duration::from_millis(500);
    let halves = bins(seen, duration, HALF);
    let is_back = |&(good, all): &(f64, f64)| good >= 0.9 * all;
    let Some(bad) = halves.iter().rposition(|half| !is_back(half)) else {
        return Some(Duration::ZERO);
    };
    let back = HALF * (bad as u32 + 1);
    (bad + 1 < halves.len()).then(|| back.saturating_sub(overload_end))
}

fn sorted(durations: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut sorted: Vec<_> = durations.collect();
    sorted.sort_unstable();
    sorted
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
