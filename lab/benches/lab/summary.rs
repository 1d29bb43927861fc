//! What a run amounts to, candidate by candidate.

use std::collections::BTreeMap;

use loadshed_lab::{Criterion, Row};

/// Returns whether the score is below 0.5 on any seed.
pub(crate) fn is_stuck(row: &Row) -> bool {
    row.worst().0 < 0.5
}

/// Prints how many rows each candidate passes, and its worst row.
pub(crate) fn print(rows: &[Row], stuck: bool) {
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

/// Prints the rows of each candidate by family of scenarios and by kind.
pub(crate) fn print_families(rows: &[Row]) {
    println!(
        "\n| candidate | size | scenarios | kind | criteria met | mean score | lowest mean | worst seed | refused |"
    );
    println!("|---|---|---|---|--:|--:|--:|--:|--:|");
    let mut groups: BTreeMap<_, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        let key = (&row.candidate, &row.size, family(&row.scenario), &row.kind);
        groups.entry(key).or_default().push(row);
    }
    for ((candidate, size, family, kind), rows) in groups {
        let count = rows.len();
        let met = rows.iter().filter(|row| Criterion::of(row).is_met(row));
        let met = met.count();
        let mean =
            |of: &dyn Fn(&Row) -> f64| rows.iter().map(|row| of(row)).sum::<f64>() / count as f64;
        let least = |of: &dyn Fn(&Row) -> f64| rows.iter().map(|row| of(row)).fold(9.0, f64::min);
        println!(
            "| {candidate} | {size} | {family} | {kind} | {met} of {count} | {:.3} | {:.3} | {:.3} | {:.3} |",
            mean(&Row::score),
            least(&Row::score),
            least(&|row| row.worst().0),
            mean(&Row::refused),
        );
    }
}

/// Returns the beginning of a scenario's name, which scenarios of one family have in common.
fn family(name: &str) -> &str {
    name.split([',', ':']).next().unwrap_or(name)
}

/// Prints a row in the format of `tests/criteria/misses.rs`.
pub(crate) fn print_miss(row: &Row) {
    // Rounded down, so that the same run reaches it.
    let reached = (Criterion::of(row).reached(row) * 1e3).floor() / 1e3;
    let (size, name, phase) = (&row.size, row.name(), &row.phase);
    println!(
        "    Miss {{ size: {size:?}, scenario: {name:?}, phase: {phase:?}, reaches: {reached:.3}, why: \"\" }},"
    );
}
