//! Tables of scenarios drawn at random.

use std::{collections::BTreeMap, ops::Range};

use loadshed_lab::{
    Candidate, Criterion, Evaluator, Row, broken_promises, drawn_faults, drawn_scenario,
    is_refused_in_vain,
};

use crate::{options::Options, oracle_cache::OracleCache, reader_table, summary};

/// Prints the rows of drawn overloads with a goodput below half of its upper bound, and the number of such rows by candidate and
/// phase.
pub(crate) fn print_overloads(numbers: Range<u64>, candidates: &[Candidate]) {
    let scenarios: Vec<_> = numbers.map(drawn_scenario).collect();
    let rows = Evaluator::default()
        .seeds(1..2)
        .against_bound()
        .evaluate("drawn", &scenarios, candidates);

    println!("{}", Row::header());
    for row in rows.iter().filter(|row| summary::is_stuck(row)) {
        println!("{}", row.markdown());
    }
    println!("\n| candidate | phase | runs | mean | below .95 | below .8 | below .5 |");
    println!("|---|---|--:|--:|--:|--:|--:|");
    for candidate in candidates {
        for phase in ["before", "first", "changed", "last", "after"] {
            let of = |row: &&Row| row.candidate == candidate.name() && row.phase == phase;
            let scores: Vec<_> = rows.iter().filter(of).map(Row::score).collect();
            if scores.is_empty() {
                continue;
            }
            println!(
                "| {} | {phase} | {} |",
                candidate.name(),
                Shares::of(&scores)
            );
        }
    }
}

/// Prints the rows of drawn faults that fall short, and what all of them amount to.
pub(crate) fn print_faults(options: &Options, numbers: Range<u64>, cache: OracleCache) {
    let scenarios: Vec<_> = numbers.map(drawn_faults).collect();
    let rows = options
        .evaluator("drawn", &cache.into())
        .seeds(1..2)
        .evaluate("drawn", &scenarios, &options.candidates);
    reader_table::print_header();
    for row in &rows {
        let is_shown =
            options.details || !Criterion::of(row).is_met(row) || is_refused_in_vain(row);
        if is_shown {
            reader_table::print(row);
        }
    }
    println!(
        "\n| candidate | phase, kind | phases | mean | below .95 | below .9 | below .5 | refused in vain |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|--:|");
    for candidate in &options.candidates {
        let of = |row: &&Row| row.candidate == candidate.name();
        let rows: Vec<_> = rows.iter().filter(of).collect();
        let mut groups: BTreeMap<_, Vec<&Row>> = BTreeMap::new();
        for row in &rows {
            let name = format!("{}, {}", row.phase, row.kind);
            groups.entry(name).or_default().push(row);
        }
        groups.insert("all".to_owned(), rows);
        for (name, rows) in groups {
            let scores: Vec<_> = rows.iter().map(|row| row.score()).collect();
            let in_vain = rows.iter().filter(|row| is_refused_in_vain(row)).count();
            println!(
                "| {} | {name} | {} | {in_vain} |",
                candidate.name(),
                Shares::of(&scores)
            );
        }
    }
    println!("\n| candidate | promises on all phases |\n|---|---|");
    for candidate in &options.candidates {
        let of = |row: &&Row| row.candidate == candidate.name();
        let broken = broken_promises(&rows.iter().filter(of).collect::<Vec<_>>());
        let verdict = match broken.is_empty() {
            true => "passes".to_owned(),
            false => format!("falls short: {}", broken.join("; ")),
        };
        println!("| {} | {verdict} |", candidate.name());
    }
}

/// How many scores there are, their mean, and how many are low.
struct Shares {
    count: usize,
    mean: f64,
    below: [usize; 3],
}

impl Shares {
    fn of(scores: &[f64]) -> Self {
        Self {
            count: scores.len(),
            mean: scores.iter().sum::<f64>() / scores.len().max(1) as f64,
            below: [0.95, 0.9, 0.5]
                .map(|least| scores.iter().filter(|&&score| score < least).count()),
        }
    }
}

impl std::fmt::Display for Shares {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [most, some, few] = self.below;
        let Self { count, mean, .. } = self;
        write!(f, "{count} | {mean:.3} | {most} | {some} | {few}")
    }
}
