//! Instructions per request, which noise does not change: `benches/instructions/run`, which installs valgrind, or
//! `cargo bench --bench instructions` where valgrind is installed. It fails if a figure is more than 5 % above that in
//! `baseline.tsv`. `-- --update` writes that file anew: commit it with the change that explains it.
//!
//! callgrind counts a loop of 1,000 requests, after 100 requests that are not counted, on one thread with a paused clock.
//! So each read of the clock is that of tokio's pausable clock, and the figures include no update of a controller.

#[path = "../support/grpc.rs"]
mod grpc;
#[path = "../support/loaded_429.rs"]
mod loaded_429;
#[path = "../support/measure_all.rs"]
mod measure_all;
#[path = "../support/report.rs"]
mod report;
#[path = "../support/request.rs"]
mod request;

mod callgrind;
mod subjects;

use std::{collections::BTreeMap, env, error::Error, fs, process::ExitCode};

use self::report::{Options, Report};

const BASELINE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/benches/instructions/baseline.tsv"
);

/// Allowed ratio of a figure to its baseline.
const SLACK: f64 = 1.05;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args: Vec<_> = env::args().skip(1).collect();
    if let [flag, name] = &args[..]
        && flag == callgrind::COUNT
    {
        return subjects::run(name);
    }
    let update = args.iter().position(|arg| arg == "--update");
    if let Some(at) = update {
        args.remove(at);
    }
    let options = Options::new(args)?;
    if let Some(word) = options.words.first() {
        return Err(format!("invalid argument {word}: this bench always runs all rows").into());
    }

    let names = subjects::names();
    let counts = names.iter().map(|name| callgrind::count(name));
    let counts: Vec<_> = counts.collect::<Result<_, _>>()?;
    if update.is_some() {
        let line = |(name, count)| format!("{name}\t{count}\n");
        let lines: String = names.iter().zip(&counts).map(line).collect();
        fs::write(BASELINE, lines)?;
    }
    let baseline = baseline()?;

    let mut report = Report::new("instructions", &options)?;
    report.paragraph("Instructions a request.");
    let mut above = Vec::new();
    let mut rows = Vec::new();
    let mut csv = "row,instructions,baseline\n".to_owned();
    for (name, &count) in names.iter().zip(&counts) {
        let before = *baseline
            .get(*name)
            .ok_or_else(|| format!("baseline.tsv has no row {name}: see --update"))?;
        csv.push_str(&format!("\"{name}\",{count},{before}\n"));
        rows.push(vec![
            name.to_string(),
            format!("{count:.0}"),
            format!("{:+.0}", count - counts[0]),
        ]);
        if count > before * SLACK {
            above.push(format!("{name}: {count:.0}, baseline {before:.0}"));
        } else if count * SLACK < before {
            eprintln!("{name}: {count:.0}, baseline {before:.0}: --update lowers the baseline");
        }
    }
    report.table(&["", "instructions", "over bare"], &rows);
    let written = report.close(&csv)?;
    if above.is_empty() {
        return Ok(written);
    }
    eprintln!("More than 5 % above the baseline:\n{}", above.join("\n"));
    eprintln!(
        "If the change is intended (a newer compiler, a feature): benches/instructions/run --update"
    );
    Ok(ExitCode::FAILURE)
}

fn baseline() -> Result<BTreeMap<String, f64>, Box<dyn Error>> {
    let line = |line: &str| {
        let (name, count) = line.split_once('\t').ok_or("no tab")?;
        Ok((name.to_owned(), count.parse()?))
    };
    fs::read_to_string(BASELINE)?.lines().map(line).collect()
}
