//! All laws side by side: a line for each phase, a column for each law.

use loadshed_lab::{Criterion, Law, Row};

/// Prints each law's mean score and its worst seed's; ✗ where the bar is missed.
pub(crate) fn print(rows: &[Row], laws: &[Law]) {
    print!("| size | scenario | phase | criterion |");
    laws.iter().for_each(|law| print!(" {} |", law.name()));
    println!("\n|---|---|---|---|{}", "--:|".repeat(laws.len()));
    // A phase has a row for each law, and one law's rows have its beginnings.
    for nth in lines(rows) {
        let of_line: Vec<_> = rows.iter().filter(|row| is_of(row, &rows[nth])).collect();
        let row = of_line[0];
        print!(
            "| {} | {} | {} | {} |",
            row.size,
            row.name(),
            row.phase,
            Criterion::of(row)
        );
        for law in laws {
            let row = of_line.iter().find(|row| row.law == law.name());
            print!(" {} |", row.map_or(String::new(), |row| cell(row)));
        }
        println!();
    }
}

/// The first row of each line.
fn lines(rows: &[Row]) -> Vec<usize> {
    let is_first = |&nth: &usize| !rows[..nth].iter().any(|row| is_of(row, &rows[nth]));
    (0..rows.len()).filter(is_first).collect()
}

fn is_of(row: &Row, line: &Row) -> bool {
    (&row.size, row.name(), &row.phase) == (&line.size, line.name(), &line.phase)
}

fn cell(row: &Row) -> String {
    let mark = if Criterion::of(row).is_met(row) {
        ""
    } else {
        " ✗"
    };
    format!("{:.2} ({:.2}){mark}", row.score(), row.worst().0)
}
