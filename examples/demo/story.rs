//! For those without a browser: calm, ten times the capacity, calm again.

use std::{fmt, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    service::{Side, WORKERS, capacity},
    settings::{CALM, Change},
    stage::Stage,
    tally::Tally,
    terminal::{hints, millis, percent},
};

const PHASES: [(&str, f64); 3] = [("calm", CALM), ("overload", 10.0), ("calm again", CALM)];

/// Later than this, the generator was a part of what it measured.
const TOO_LATE: Duration = Duration::from_millis(10);

/// One phase of one side.
#[derive(Debug)]
pub(crate) struct Chapter {
    phase: &'static str,
    load: f64,
    side: Side,
    lasted: Duration,
    tally: Tally,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) chapters: Vec<Chapter>,
    /// What is left to do on the unprotected side.
    backlog: f64,
}

/// Each phase takes a third of the time.
pub(crate) async fn tell(stage: &Stage, lasts: Duration) -> Result<Summary, String> {
    let mut chapters = Vec::new();
    let began = Instant::now();
    for ((phase, load), nth) in PHASES.into_iter().zip(1..) {
        let from = Instant::now();
        stage.change(Change::load(load))?;
        sleep_until(began + lasts * nth / PHASES.len() as u32).await;
        let lasted = from.elapsed();
        for (side, tally) in [Side::Bare, Side::Shed].into_iter().zip(stage.take_phase()) {
            chapters.push(Chapter {
                phase,
                load,
                side,
                lasted,
                tally,
            });
        }
    }
    let backlog = stage.backlog();
    Ok(Summary { chapters, backlog })
}

impl Chapter {
    /// Good answers, of what the workers can do in that time.
    pub(crate) fn goodput(&self) -> f64 {
        self.tally.all().good as f64 / self.lasted.as_secs_f64() / capacity(WORKERS)
    }
}

impl fmt::Display for Chapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tally, .. } = self;
        let all = tally.all();
        let [_, pay] = tally.classes;
        let side = match self.side {
            Side::Bare => "without",
            Side::Shed => "LoadShed",
        };
        let latency = |percent| {
            let latency = tally.latency.percentile(percent);
            millis(latency.map(|latency| latency.as_secs_f64() * 1_000.0))
        };
        let hint = |percent| {
            tally
                .hints
                .percentile(percent)
                .map(|hint| hint.as_secs_f64())
        };
        write!(
            f,
            "{:<10} {:>4} ×  {side:<8} {:>5.0}/s {:>8} {:>7} {:>7} {:>8} {:>13} {:>8}",
            self.phase,
            self.load,
            all.sent as f64 / self.lasted.as_secs_f64(),
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
        for chapter in &self.chapters {
            writeln!(f, "{chapter}")?;
        }
        let mut all = Tally::default();
        self.chapters
            .iter()
            .for_each(|chapter| all.add(&chapter.tally));
        let late = all.lateness.percentile(99).unwrap_or_default();
        let mark = if late > TOO_LATE {
            " (!): this machine was too busy for the load"
        } else {
            ""
        };
        writeln!(
            f,
            "\nOffered counts retries; goodput is what was answered within a second, of what the workers can do."
        )?;
        writeln!(
            f,
            "The unprotected side has work for {:.0} s in its queue.",
            self.backlog
        )?;
        write!(
            f,
            "99 of 100 requests left within {:.1?} of their time{mark}.",
            late
        )
    }
}
