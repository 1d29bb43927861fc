//! Whether a second run of the benches has come to the same: `benches/run`, then `benches/run --again`, which ends with
//! this. `cargo bench --bench compare -- OLD NEW` is for the raw figures in any two folders; without them, OLD is
//! `docs/benchmarks`, with what stands behind the tables, and NEW is `target/benches`. It fails if a ratio is more than
//! 10 % off, or only one of the two runs has it.
//!
//! Ratios are compared, each one that the tables have, and not what they are of: a virtual machine is a faster one today
//! and a slower one tomorrow.

#[path = "../support/report.rs"]
mod report;

mod csv;
mod pairs;
mod ratios;

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use self::{
    pairs::{LITTLE, Pairs, Verdict},
    ratios::Ratio,
    report::{KEPT, Options, Report, folder},
};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::new(std::env::args().skip(1))?;
    let [first, second] = match &options.words[..] {
        // Where `benches/run` leaves them. In a plain `cargo bench` there may be none.
        [] if !are_two(Path::new(KEPT), &folder()) => {
            println!("There are no two runs to compare: benches/run, then benches/run --again");
            return Ok(ExitCode::SUCCESS);
        }
        [] => [KEPT.into(), folder()],
        [first, second] => [first, second].map(PathBuf::from),
        _ => return Err("it is two folders that are compared".into()),
    };
    let pairs = Pairs::new(ratios_in(&first)?, ratios_in(&second)?);

    let mut report = Report::new("compare", &options)?;
    report.paragraph(format_args!(
        "Within 10 %: the second run's ratio is within a tenth of the first one's. Shares of the capacity below {LITTLE} \
         count as equal. No verdict: in one of the runs, callers were late themselves."
    ));
    let head = ["", "compared", "within 10 %", "no verdict"];
    report.table(&head, &pairs.counts());
    let lists = [
        ("Those that are not within 10 %:", Verdict::Other),
        ("Those without a verdict:", Verdict::Late),
    ];
    for (title, verdict) in lists {
        let rows = pairs.with(verdict);
        if !rows.is_empty() {
            report.paragraph(title);
            let head = ["", "first run", "second run", "second ÷ first"];
            report.table(&head, &rows);
        }
    }
    let closed = report.close(&pairs.csv())?;
    Ok(match pairs.are_same() {
        true => closed,
        false => ExitCode::FAILURE,
    })
}

/// Whether both runs are there, and are not one and the same.
fn are_two(first: &Path, second: &Path) -> bool {
    let run = |folder: &Path| fs::read(folder.join("overload.csv")).ok();
    let (first, second) = (run(first), run(second));
    first.is_some() && second.is_some() && first != second
}

fn ratios_in(folder: &Path) -> Result<Vec<Ratio>, Box<dyn Error>> {
    let read = |file: &str| Ok(fs::read_to_string(folder.join(file))?);
    ratios::all(read).map_err(|error| format!("{}: {error}", folder.display()).into())
}
