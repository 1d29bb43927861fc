//! The demo without a browser: normal load, ten times the capacity, normal load again.

use std::{fmt, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    counters::Counters,
    service::{Side, WORKERS, capacity},
    settings::{Change, NORMAL_LOAD},
    stage::Stage,
    terminal::{hints, millis, percent},
};

const PHASES: [(&str, f64); 3] = [
    ("normal", NORMAL_LOAD),
    ("overload", 10.0),
    ("recovery", NORMAL_LOAD),
];

/// Above this lateness, the generator distorts the measurement.
const TOO_LATE: Duration = Duration::from_millis(10);

/// The results of one phase on one side.
#[derive(Debug)]
pub(crate) struct PhaseResult {
    phase: &'static str,
    load: f64,
    side: Side,
    duration: Duration,
    counters: Counters,
}

/// The results of all phases.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) results: Vec<PhaseResult>,
    /// Time to serve all requests that are left on the unprotected side, in seconds.
    backlog: f64,
}

/// Runs the three phases; each takes a third of the time.
pub(crate) async fn tell(stage: &Stage, total: Duration) -> Result<Summary, String> {
    let mut results = Vec::new();
    let began = Instant::now();
    for ((phase, load), nth) in PHASES.into_iter().zip(1..) {
        let from = Instant::now();
        stage.change(Change::load(load))?;
        sleep_until(began + total * nth / PHASES.len() as u32).await;
        let duration = from.elapsed();
        for (side, counters) in [Side::Bare, Side::Shed].into_iter().zip(stage.take_phase()) {
            results.push(PhaseResult {
                phase,
                load,
                side,
                duration,
                counters,
            });
        }
    }
    let backlog = stage.backlog();
    Ok(Summary { results, backlog })
}

impl PhaseResult {
    /// Returns the goodput as a share of the capacity.
    pub(crate) fn goodput(&self) -> f64 {
        self.counters.all().succeeded as f64 / self.duration.as_secs_f64() / capacity(WORKERS)
    }
}

impl fmt::Display for PhaseResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { counters, .. } = self;
        let all = counters.all();
        let [_, pay] = counters.classes;
        let side = match self.side {
            Side::Bare => "without",
            Side::Shed => "LoadShed",
        };
        let latency = |percent| {
            let latency = counters.latency.percentile(percent);
            millis(latency.map(|latency| latency.as_secs_f64() * 1_000.0))
        };
        let hint = |percent| {
            counters
                .hints
                .percentile(percent)
                .map(|hint| hint.as_secs_f64())
        };
        write!(
            f,
            "{:<10} {:>4} ×  {side:<8} {:>5.0}/s {:>8} {:>7} {:>7} {:>8} {:>13} {:>8}",
            self.phase,
            self.load,
            all.sent as f64 / self.duration.as_secs_f64(),
            percent(Some(self.goodput())),
            latency(50),
            latency(99),
            percent(all.refused_share()),
            percent(pay.refused_share()),
            hints(hint(50), hint(100)),
        )
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "phase        load  side     offered  goodput     p50     p99  refused  refused /pay    hints"
        )?;
        for result in &self.results {
            writeln!(f, "{result}")?;
        }
        let mut all = Counters::default();
        self.results
            .iter()
            .for_each(|result| all.add(&result.counters));
        let late = all.lateness.percentile(99).unwrap_or_default();
        let mark = if late > TOO_LATE {
            " (!): this machine was too busy to generate the load"
        } else {
            ""
        };
        writeln!(
            f,
            "\nOffered load includes retries. Goodput: responses within one second, as a share of the capacity."
        )?;
        writeln!(
            f,
            "The unprotected side has {:.0} s of work in its queue.",
            self.backlog
        )?;
        write!(
            f,
            "99 % of the requests were sent within {:.1?} of their due time{mark}.",
            late
        )
    }
}
