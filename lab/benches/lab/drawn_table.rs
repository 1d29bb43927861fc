//! Tables of overloads drawn at random: which of them stay stuck.

use std::ops::Range;

use loadshed_lab::{Candidate, Evaluator, Row, drawn_scenario};

/// Prints the rows with a goodput below half of its upper bound, and the number of such rows by candidate and phase.
pub(crate) fn print(numbers: Range<u64>, candidates: &[Candidate]) {
    let scenarios: Vec<_> = numbers.map(drawn_scenario).collect();
    let rows = Evaluator::default()
        .seeds(1..2)
        .against_bound()
        .evaluate("drawn", &scenarios, candidates);

    println!("{}", Row::header());
    for row in rows.iter().filter(|row| crate::summary::is_stuck(row)) {
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
            let below = |least: f64| scores.iter().filter(|&&score| score < least).count();
            let (runs, mean) = (
                scores.len(),
                scores.iter().sum::<f64>() / scores.len() as f64,
            );
            println!(
                "| {} | {phase} | {runs} | {mean:.3} | {} | {} | {} |",
                candidate.name(),
                below(0.95),
                below(0.8),
                below(0.5)
            );
        }
    }
}
