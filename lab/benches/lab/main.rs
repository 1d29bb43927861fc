//! Evaluates limit algorithms: `cargo bench -p loadshed-lab --bench lab`.
//!
//! Each candidate runs each scenario of each size on 20 seeds, and is compared to the best fixed limit on the same seed. The
//! bench prints a Markdown table to stdout and its progress to stderr. It draws a chart of each scenario of the catalogue,
//! with the first candidate and the oracle, into `target/lab/`. The large server runs 3 seeds, with phases of at most 60 s.
//!
//! The whole bench takes hours, most of them for the oracle. Its scores are cached in `target/lab/oracle.tsv` until the
//! simulator changes.
//!
//! Options, after `--`, in any order:
//!
//! - `mixtures`: the mixtures of several kinds of work, in place of the catalogue. Their sizes are tiny, medium, large and
//!   cases: those of reports, with rates and times of their own.
//! - `details`: all metrics of each row, in place of what a reader needs first.
//! - `seeds=5`, `first=100`: 5 seeds, beginning at 100.
//! - `sizes=tiny,slow`: only these sizes.
//! - `only=hangs|bursts`: only scenarios whose names contain one of these parts.
//! - `candidates=adaptive,vegas`: only candidates whose names contain one of these parts.
//! - `short`: long phases last at most 60 s, and those of the large server at most 10 s.
//! - `ratio=0.5`: the ratio of the layer, in place of 0.85.
//! - `stuck=1000`: prints only rows in which the goodput is below half of its upper bound on one of 1,000 seeds. Short phases,
//!   no oracle, by default on the tiny, the slow and the medium server.
//! - `spikes`: ten times the capacity for a second, by client timeout, in place of the catalogue.
//! - `faults=300`: runs 300 servers, loads, faults and mixtures drawn at random, beginning at number `first`. It prints the rows
//!   that fall short (with `details` all), and what all of them amount to. One seed for each.
//! - `drawn=300`: runs 300 overloads drawn at random, beginning at number `first`, and prints the rows below half of the upper
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
mod charts;
mod drawn_table;
mod options;
mod oracle_cache;
mod reader_table;
mod storm_table;
mod summary;
mod timeline;
mod wide;

use std::{error::Error, path::Path, sync::Arc};

use loadshed_lab::{Criterion, Row};

use self::{options::Options, oracle_cache::OracleCache};

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse(std::env::args().skip(1))?;
    if options.storm {
        let seeds = options.first..options.first + options.seeds.unwrap_or(3);
        storm_table::print(&options.catalogue_sizes(), seeds);
        return Ok(());
    }
    if options.shares {
        let seeds = options.first..options.first + options.seeds.unwrap_or(3);
        allocation_tables::print(&options.catalogue_sizes(), seeds);
        return Ok(());
    }
    if let Some(count) = options.drawn {
        let numbers = options.first..options.first + count;
        drawn_table::print_overloads(numbers, &options.candidates);
        return Ok(());
    }
    // Next to cargo's own directory for output of tests and benches.
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("lab");
    std::fs::create_dir_all(&out)?;
    let cache = OracleCache::open(&out.join("oracle.tsv"))?;
    if let Some(count) = options.faults {
        let numbers = options.first..options.first + count;
        drawn_table::print_faults(&options, numbers, cache);
        return Ok(());
    }
    let cache = Arc::new(cache);

    let mut all = Vec::new();
    match (options.wide, options.details) {
        (true, _) => {}
        (_, true) => println!("{}", Row::header()),
        (_, false) => reader_table::print_header(),
    }
    for size in &options.sizes {
        let scenarios = options.scenarios(size);
        let rows = options
            .evaluator(size, &cache)
            .evaluate(size, &scenarios, &options.candidates);
        let shown = |row: &&Row| !options.wide && (!options.stuck || summary::is_stuck(row));
        for row in rows.iter().filter(shown) {
            match options.details {
                true => println!("{}", row.markdown()),
                false => reader_table::print(row),
            }
        }
        all.extend(rows);
        if options.charts() {
            charts::draw(&options, size, &scenarios, &cache, &out)?;
        }
    }
    if options.wide {
        wide::print(&all, &options.candidates);
    }
    summary::print(&all, options.stuck);
    if options.has_families() {
        summary::print_families(&all);
    }
    if options.misses {
        all.iter()
            .filter(|row| !Criterion::of(row).is_met(row))
            .for_each(summary::print_miss);
    }
    Ok(())
}
