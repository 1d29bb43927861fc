//! A table with what a reader needs first: a line for each row, and whether it passes.

use loadshed_lab::{Criterion, Row};

pub(crate) fn print_header() {
    println!(
        "| size | scenario | phase | kind | candidate | score | worst seed | refused | after 3 s | criterion | |"
    );
    println!("|---|---|---|---|---|--:|--:|--:|--:|---|---|");
}

/// Prints the mean score, the worst seed's, and the shares of calls that are refused in all and after the first three seconds.
pub(crate) fn print(row: &Row) {
    let criterion = Criterion::of(row);
    let verdict = match criterion.is_met(row) {
        true => "passes".to_owned(),
        false => {
            let short = criterion.required() - criterion.reached(row);
            format!("falls short by {short:.4}")
        }
    };
    println!(
        "| {} | {} | {} | {} | {} | {:.3} | {:.3} | {} | {} | {criterion} | {verdict} |",
        row.size,
        row.name(),
        row.phase,
        row.kind,
        row.candidate,
        row.score(),
        row.worst().0,
        share(row.refused()),
        share(row.mean(|metrics| metrics.refused_after_3s)),
    );
}

/// Formats a share, so that a small one is not taken for none.
fn share(share: f64) -> String {
    match share {
        0.0 => "0".to_owned(),
        ..0.0005 => "< .001".to_owned(),
        _ => format!("{share:.3}"),
    }
}
