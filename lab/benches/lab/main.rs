//! Evaluates limit algorithms: `cargo bench -p loadshed-lab --bench lab`.
//!
//! Each candidate runs each scenario of each size on 20 seeds, and is compared to the best fixed limit on the same seed. The
//! bench prints a Markdown table to stdout and its progress to stderr. It draws a chart of each scenario, with the first
//! candidate and the oracle, into `target/lab/`. The large server runs 3 seeds, with phases of at most 60 s.
//!
//! The whole bench takes hours, most of them for the oracle. Its scores are cached in `target/lab/oracle.tsv` until the
//! simulator changes.
//!
//! Options, after `--`, in any order:
//!
//! - `seeds=5`, `first=100`: 5 seeds, beginning at 100.
//! - `sizes=tiny,slow`: only these sizes.
//! - `only=hangs|bursts`: only scenarios whose names contain one of these parts.
//! - `candidates=adaptive,vegas`: only candidates whose names contain one of these parts.
//! - `short`: long phases last at most 60 s.
//! - `ratio=0.5`: the ratio of the layer, in place of 0.85.
//! - `stuck=1000`: prints only rows in which the goodput is below half of its upper bound on one of 1,000 seeds. Short phases,
//!   no oracle, by default on the tiny, the slow and the medium server.
//! - `drawn=300`: runs 300 scenarios drawn at random, beginning at number `first`, and prints the rows below half of the upper
//!   bound. No oracle, one seed for each scenario.
//! - `wide`: prints all candidates side by side, with fewer metrics.
//! - `misses`: prints the rows that miss their pass criterion, in the format of the tests.
//! - `commit`: copies the charts to `docs/lab/`.
//! - `storm`: prints only the retry storms, by retry hint. Uses `seeds`, `first` and `sizes`.
//! - `shares`: prints only the tables by class, tenant, key and cost. Uses `seeds`, `first` and `sizes`.

mod allocation_tables;
mod candidates;
// Shared with the benches of the root crate.
#[path = "../../../benches/support/chart.rs"]
mod chart;
mod drawn_table;
mod oracle_cache;
mod storm_table;
mod timeline;
mod wide;

use std::{
    collections::BTreeMap,
    error::Error,
    io::{self, IsTerminal, Write},
    path::Path,
    sync::Arc,
};

use loadshed_lab::{Candidate, Criterion, Evaluator, Length, Row, Scenario, Size, scenarios};

use self::oracle_cache::OracleCache;

/// The options of a run of the bench.
struct Options {
    seeds: Option<u64>,
    first: u64,
    sizes: Vec<Size>,
    only: Vec<String>,
    candidates: Vec<Candidate>,
    length: Length,
    ratio: f64,
    stuck: bool,
    drawn: Option<u64>,
    wide: bool,
    misses: bool,
    commit: bool,
    storm: bool,
    shares: bool,
}

/// The directory of committed charts.
const CHARTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/lab");

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse(std::env::args().skip(1))?;
    if options.storm {
        let seeds = options.first..options.first + options.seeds.unwrap_or(3);
        storm_table::print(&options.sizes, seeds);
        return Ok(());
    }
    if options.shares {
        let seeds = options.first..options.first + options.seeds.unwrap_or(3);
        allocation_tables::print(&options.sizes, seeds);
        return Ok(());
    }
    if let Some(count) = options.drawn {
        drawn_table::print(options.first..options.first + count, &options.candidates);
        return Ok(());
    }
    // Next to cargo's own directory for output of tests and benches.
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("lab");
    std::fs::create_dir_all(&out)?;
    let cache = Arc::new(OracleCache::open(&out.join("oracle.tsv"))?);

    let mut all = Vec::new();
    if !options.wide {
        println!("{}", Row::header());
    }
    for &size in &options.sizes {
        let scenarios = options.scenarios(size);
        let rows = options.evaluator(size, &cache).evaluate(
            &size.to_string(),
            &scenarios,
            &options.candidates,
        );
        let shown = |row: &&Row| !options.wide && (!options.stuck || is_stuck(row));
        for row in rows.iter().filter(shown) {
            println!("{}", row.markdown());
        }
        all.extend(rows);
        if !options.stuck {
            draw(&options, size, &scenarios, &cache, &out)?;
        }
    }
    if options.wide {
        wide::print(&all, &options.candidates);
    }
    summary(&all, options.stuck);
    if options.misses {
        all.iter()
            .filter(|row| !Criterion::of(row).is_met(row))
            .for_each(print_miss);
    }
    Ok(())
}

fn draw(
    options: &Options,
    size: Size,
    scenarios: &[Scenario],
    cache: &OracleCache,
    out: &Path,
) -> Result<(), Box<dyn Error>> {
    let Some(candidate) = options.candidates.first() else {
        return Ok(());
    };
    for scenario in scenarios {
        let name = format!("{size}-{}.svg", slug(&scenario.name));
        let chart = timeline::Timeline {
            title: format!("{size}, {}: {}", scenario.name, candidate.name()),
            scenario,
            candidate,
            seed: options.first,
            ratio: options.ratio,
            oracle: cache.of(scenario, options.first),
        };
        chart.draw(&out.join(&name))?;
        if options.commit {
            std::fs::create_dir_all(CHARTS)?;
            std::fs::copy(out.join(&name), Path::new(CHARTS).join(&name))?;
        }
    }
    eprintln!(
        "{} charts of {} in {}",
        scenarios.len(),
        candidate.name(),
        out.display()
    );
    Ok(())
}

/// Returns whether the score is below 0.5 on any seed.
fn is_stuck(row: &Row) -> bool {
    row.worst().0 < 0.5
}

/// Prints how many rows each candidate passes, and its worst row.
fn summary(rows: &[Row], stuck: bool) {
    println!(
        "\n| candidate | size | criteria met | mean below .95 | below .8 | below .5 on a seed | worst row |"
    );
    println!("|---|---|--:|--:|--:|--:|---|");
    let mut groups: BTreeMap<_, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        groups
            .entry((&row.candidate, &row.size))
            .or_default()
            .push(row);
    }
    for ((candidate, size), rows) in groups {
        let count = |is: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| is(row)).count();
        let met = match stuck {
            true => String::new(),
            false => format!(
                "{} of {}",
                count(&|row| Criterion::of(row).is_met(row)),
                rows.len()
            ),
        };
        let worst = rows
            .iter()
            .min_by(|a, b| a.worst().0.total_cmp(&b.worst().0));
        let worst = worst.map_or(String::new(), |row| {
            let (score, seed) = row.worst();
            format!("{}, {}: {score:.3} on seed {seed}", row.name(), row.phase)
        });
        let below = |score: f64| count(&|row| row.score() < score);
        let (some, many, stuck) = (below(0.95), below(0.8), count(&is_stuck));
        println!("| {candidate} | {size} | {met} | {some} | {many} | {stuck} | {worst} |");
    }
}

/// Prints a row in the format of `tests/criteria/misses.rs`.
fn print_miss(row: &Row) {
    // Rounded down, so that the same run reaches it.
    let reached = (Criterion::of(row).reached(row) * 1e3).floor() / 1e3;
    let (size, name, phase) = (&row.size, row.name(), &row.phase);
    println!(
        "    Miss {{ size: {size:?}, scenario: {name:?}, phase: {phase:?}, reaches: {reached:.3}, why: \"\" }},"
    );
}

fn slug(name: &str) -> String {
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.');
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join("-")
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            seeds: None,
            first: 1,
            sizes: Vec::new(),
            only: Vec::new(),
            candidates: candidates::all(),
            length: Length::Full,
            ratio: 0.85,
            stuck: false,
            drawn: None,
            wide: false,
            misses: false,
            commit: false,
            storm: false,
            shares: false,
        };
        for argument in arguments {
            let (name, value) = argument.split_once('=').unwrap_or((&argument, ""));
            match name {
                // Passed by cargo.
                "--bench" => {}
                "seeds" => options.seeds = Some(value.parse()?),
                "first" => options.first = value.parse()?,
                "sizes" => options.sizes = value.split(',').map(size).collect::<Result<_, _>>()?,
                "only" => options.only = value.split('|').map(str::to_owned).collect(),
                "candidates" => {
                    let matches = |candidate: &Candidate| {
                        value.split(',').any(|part| candidate.name().contains(part))
                    };
                    options.candidates.retain(matches);
                }
                "short" => options.length = Length::Short,
                "ratio" => options.ratio = value.parse()?,
                "stuck" => {
                    options.seeds = Some(value.parse()?);
                    options.stuck = true;
                    options.length = Length::Short;
                }
                "drawn" => options.drawn = Some(value.parse()?),
                "wide" => options.wide = true,
                "misses" => options.misses = true,
                "commit" => options.commit = true,
                "storm" => options.storm = true,
                "shares" => options.shares = true,
                _ => {
                    return Err(format!(
                        "unknown option {argument:?}: lab/benches/lab/main.rs lists the options"
                    )
                    .into());
                }
            }
        }
        if options.sizes.is_empty() {
            let count = if options.stuck || options.storm { 3 } else { 4 };
            options.sizes = Size::ALL[..count].to_vec();
        }
        Ok(options)
    }

    fn scenarios(&self, size: Size) -> Vec<Scenario> {
        let mut scenarios = scenarios(size, self.length);
        let matches =
            |scenario: &Scenario| self.only.iter().any(|part| scenario.name.contains(part));
        scenarios.retain(|scenario| self.only.is_empty() || matches(scenario));
        scenarios
    }

    fn evaluator(&self, size: Size, cache: &Arc<OracleCache>) -> Evaluator {
        let seeds = self
            .seeds
            .unwrap_or(if size == Size::Large { 3 } else { 20 });
        let evaluator = Evaluator::default()
            .seeds(self.first..self.first + seeds)
            .ratio(self.ratio)
            .on_progress(move |done, of| progress(size, done, of));
        if self.stuck {
            return evaluator.against_bound();
        }
        let cache = Arc::clone(cache);
        evaluator.oracle_scores(move |scenario, seed| cache.of(scenario, seed))
    }
}

fn size(name: &str) -> Result<Size, String> {
    let named = Size::ALL.into_iter().find(|size| size.to_string() == name);
    named.ok_or_else(|| format!("invalid size {name:?}: must be tiny, slow, medium or large"))
}

/// Prints the progress: one line that is overwritten on a terminal, and otherwise a line for each twentieth.
fn progress(size: Size, done: usize, of: usize) {
    let mut stderr = io::stderr().lock();
    if stderr.is_terminal() {
        let end = if done == of { "\n" } else { "" };
        let _ = write!(stderr, "\r{size}: {done} of {of} runs{end}");
    } else if done * 20 / of != (done - 1) * 20 / of {
        let _ = writeln!(stderr, "{size}: {done} of {of} runs");
    }
}
