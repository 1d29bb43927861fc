//! A cache of the oracle's scores, in a file.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Write},
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use loadshed_lab::{Oracle, OracleScore, Scenario};

/// The oracle's scores, in memory and in a file. New scores are written at once.
pub(crate) struct OracleCache {
    entries: Mutex<Entries>,
}

struct Entries {
    by_run: HashMap<u64, Vec<Vec<OracleScore>>>,
    file: File,
}

/// The sources of the simulator, which the scores depend on. After a change of any of them, older scores are not found.
///
/// A change of `loadshed` itself is not noticed: delete the file after a change of how fixed limits admit.
const SOURCES: [&str; 19] = [
    include_str!("../../src/arrivals.rs"),
    include_str!("../../src/disturbances.rs"),
    include_str!("../../src/events.rs"),
    include_str!("../../src/handler.rs"),
    include_str!("../../src/instance.rs"),
    include_str!("../../src/options.rs"),
    include_str!("../../src/oracle.rs"),
    include_str!("../../src/phase_report.rs"),
    include_str!("../../src/random.rs"),
    include_str!("../../src/report.rs"),
    include_str!("../../src/run.rs"),
    include_str!("../../src/scenario/callers.rs"),
    include_str!("../../src/scenario/kind.rs"),
    include_str!("../../src/scenario/load.rs"),
    include_str!("../../src/scenario/phase.rs"),
    include_str!("../../src/scenario/scenario.rs"),
    include_str!("../../src/scenario/server.rs"),
    include_str!("../../src/simulation.rs"),
    include_str!("../../src/station.rs"),
];

impl OracleCache {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let lines = std::fs::read_to_string(path)?;
        Ok(Self {
            entries: Mutex::new(Entries {
                by_run: lines.lines().filter_map(read).collect(),
                file,
            }),
        })
    }

    pub(crate) fn of(&self, scenario: &Scenario, seed: u64) -> Vec<Vec<OracleScore>> {
        let run = key(scenario, seed);
        let entries = || self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scores) = entries().by_run.get(&run) {
            return scores.clone();
        }
        let scores = Oracle::of(scenario, seed).scores;
        let mut entries = entries();
        if let Err(error) = entries.file.write_all(line(run, &scores).as_bytes()) {
            eprintln!("cannot write the oracle's scores: {error}");
        }
        entries.by_run.insert(run, scores.clone());
        scores
    }
}

fn key(scenario: &Scenario, seed: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    SOURCES.hash(&mut hasher);
    format!("{scenario:?}").hash(&mut hasher);
    seed.hash(&mut hasher);
    hasher.finish()
}

/// Formats the scores of a run as a line: after the number of the run a column for each kind.
fn line(run: u64, scores: &[Vec<OracleScore>]) -> String {
    let score =
        |score: &OracleScore| format!("{} {} {}", score.limit, score.good, score.p99.as_micros());
    let kind = |scores: &Vec<OracleScore>| {
        let scores: Vec<_> = scores.iter().map(score).collect();
        format!("\t{}", scores.join(";"))
    };
    let scores: String = scores.iter().map(kind).collect();
    format!("{run}{scores}\n")
}

/// Reads a line, or returns `None` for an incomplete line of an interrupted run.
fn read(line: &str) -> Option<(u64, Vec<Vec<OracleScore>>)> {
    let mut parts = line.split('\t');
    let run = parts.next()?.parse().ok()?;
    let score = |part: &str| {
        let mut values = part.split(' ');
        Some(OracleScore {
            limit: values.next()?.parse().ok()?,
            good: values.next()?.parse().ok()?,
            p99: Duration::from_micros(values.next()?.parse().ok()?),
        })
    };
    let kind = |part: &str| part.split(';').map(score).collect::<Option<_>>();
    Some((run, parts.map(kind).collect::<Option<_>>()?))
}
