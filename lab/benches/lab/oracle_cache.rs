//! The oracle's figures, kept from one run of the bench to the next.

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

/// What is found out is written at once.
pub(crate) struct OracleCache {
    kept: Mutex<Kept>,
}

struct Kept {
    by_run: HashMap<u64, Vec<OracleScore>>,
    file: File,
}

/// All that the figures depend on: if any of it changes, what was kept is no longer found.
const SOURCES: [&str; 9] = [
    include_str!("../../src/arrivals.rs"),
    include_str!("../../src/instance.rs"),
    include_str!("../../src/options.rs"),
    include_str!("../../src/oracle.rs"),
    include_str!("../../src/random.rs"),
    include_str!("../../src/report.rs"),
    include_str!("../../src/run.rs"),
    include_str!("../../src/scenario.rs"),
    include_str!("../../src/station.rs"),
];

impl OracleCache {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let lines = std::fs::read_to_string(path)?;
        Ok(Self {
            kept: Mutex::new(Kept {
                by_run: lines.lines().filter_map(read).collect(),
                file,
            }),
        })
    }

    pub(crate) fn of(&self, scenario: &Scenario, seed: u64) -> Vec<OracleScore> {
        let run = key(scenario, seed);
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scores) = kept().by_run.get(&run) {
            return scores.clone();
        }
        let scores = Oracle::of(scenario, seed).scores();
        let mut kept = kept();
        if let Err(error) = kept.file.write_all(line(run, &scores).as_bytes()) {
            eprintln!("the oracle's metrics are not kept: {error}");
        }
        kept.by_run.insert(run, scores.clone());
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

fn line(run: u64, scores: &[OracleScore]) -> String {
    let score =
        |score: &OracleScore| format!("\t{} {} {}", score.limit, score.good, score.p99.as_micros());
    let scores: String = scores.iter().map(score).collect();
    format!("{run}{scores}\n")
}

/// `None` where a run was broken off.
fn read(line: &str) -> Option<(u64, Vec<OracleScore>)> {
    let mut parts = line.split('\t');
    let run = parts.next()?.parse().ok()?;
    let score = |part: &str| {
        let mut metrics = part.split(' ');
        Some(OracleScore {
            limit: metrics.next()?.parse().ok()?,
            good: metrics.next()?.parse().ok()?,
            p99: Duration::from_micros(metrics.next()?.parse().ok()?),
        })
    };
    Some((run, parts.map(score).collect::<Option<_>>()?))
}
