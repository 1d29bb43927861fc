//! A table of all candidates side by side: a line for each phase, and a column for each candidate.

use loadshed_lab::{Candidate, Criterion, Row};

/// Prints the mean score of each candidate and its worst score on a seed; ✗ where the pass criterion is missed.
pub(crate) fn print(rows: &[Row], candidates: &[Candidate]) {
    print!("| size | scenario | phase | kind | criterion |");
    candidates
        .iter()
        .for_each(|candidate| print!(" {} |", candidate.name()));
    println!("\n|---|---|---|---|---|{}", "--:|".repeat(candidates.len()));
    // A line has at most one row of each candidate: candidates without an initial limit have lines of their own.
    for nth in lines(rows) {
        let of_line: Vec<_> = rows.iter().filter(|row| is_of(row, &rows[nth])).collect();
        let row = of_line[0];
        print!(
            "| {} | {} | {} | {} | {} |",
            row.size,
            row.name(),
            row.phase,
            row.kind,
            Criterion::of(row)
        );
        for candidate in candidates {
            let row = of_line.iter().find(|row| row.candidate == candidate.name());
            print!(" {} |", row.map_or(String::new(), |row| cell(row)));
        }
        println!();
    }
}

/// Returns the number of the first row of each line.
fn lines(rows: &[Row]) -> Vec<usize> {
    let is_first = |&nth: &usize| !rows[..nth].iter().any(|row| is_of(row, &rows[nth]));
    (0..rows.len()).filter(is_first).collect()
}

fn is_of(row: &Row, line: &Row) -> bool {
    let key = |row: &Row| {
        (
            row.size.clone(),
            row.name(),
            row.phase.clone(),
            row.kind.clone(),
        )
    };
    key(row) == key(line)
}

fn cell(row: &Row) -> String {
    let mark = if Criterion::of(row).is_met(row) {
        ""
    } else {
        " ✗"
    };
    format!("{:.2} ({:.2}){mark}", row.score(), row.worst().0)
}
