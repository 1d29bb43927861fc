//! Compares two runs of the benches: `benches/run`, then `benches/run --again`, which ends with this comparison.
//! `cargo bench --bench compare -- OLD NEW` compares the raw figures in any two folders. By default, OLD is
//! `docs/benchmarks` (the figures behind the tables) and NEW is `target/benches`. It fails if a ratio differs by more than
//! 10 %, or if only one of the runs has it.
//!
//! It compares all ratios of the tables, and no absolute figures: the speed of a virtual machine changes from day to day.

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
    pairs::{NEGLIGIBLE, Pairs, Verdict},
    ratios::Ratio,
    report::{Options, REPOSITORY_FOLDER, Report, folder},
};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::new(std::env::args().skip(1))?;
    let [first, second] = match &options.words[..] {
        // The folders of `benches/run`. In a plain `cargo bench` they may be missing.
        [] if !are_two(Path::new(REPOSITORY_FOLDER), &folder()) => {
            println!("no two runs to compare: benches/run, then benches/run --again");
            return Ok(ExitCode::SUCCESS);
        }
        [] => [REPOSITORY_FOLDER.into(), folder()],
        [first, second] => [first, second].map(PathBuf::from),
        _ => return Err("invalid arguments: must be two folders, or none".into()),
    };
    let pairs = Pairs::new(ratios_in(&first)?, ratios_in(&second)?);

    let mut report = Report::new("compare", &options)?;
    report.paragraph(format_args!(
        "Within 10 %: the second run's ratio is within a tenth of the first one's. Shares of the capacity below {NEGLIGIBLE} \
         count as equal. No verdict: in one of the runs, the callers were late."
    ));
    let head = ["", "compared", "within 10 %", "no verdict"];
    report.table(&head, &pairs.counts());
    let lists = [
        ("Ratios that are not within 10 %:", Verdict::Other),
        ("Ratios without a verdict:", Verdict::Late),
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

/// Returns whether both folders have a run, and the runs differ.
fn are_two(first: &Path, second: &Path) -> bool {
    let run = |folder: &Path| fs::read(folder.join("overload.csv")).ok();
    let (first, second) = (run(first), run(second));
    first.is_some() && second.is_some() && first != second
}

fn ratios_in(folder: &Path) -> Result<Vec<Ratio>, Box<dyn Error>> {
    let read = |file: &str| Ok(fs::read_to_string(folder.join(file))?);
    ratios::all(read).map_err(|error| format!("{}: {error}", folder.display()).into())
}
