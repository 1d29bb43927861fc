//! Where the figures go.

use std::{error::Error, fs, path::Path, process::ExitCode, time::Duration};

use crate::{
    chart::Chart,
    report::{Options, Report},
    score::Score,
    variants::Variant,
};

/// Charts that are shown in `BENCHMARKS.md`, and where.
const SHOWN: [&str; 2] = ["steady", "step"];
const SHOWN_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks");

#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) report: Report,
    csv: String,
    timelines: String,
    goals: Vec<Vec<String>>,
    write: bool,
    failed: bool,
    /// Of the worst cell.
    lateness: Duration,
}

impl Output {
    /// # Errors
    ///
    /// If the target directory cannot be written.
    pub(crate) fn new(options: &Options) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            report: Report::new("overload", options)?,
            csv: format!("scenario,variant,column,{}\n", Score::CSV_HEAD),
            timelines: "scenario,variant,second,goodput_per_s\n".to_owned(),
            goals: Vec::new(),
            write: options.write,
            failed: false,
            lateness: Duration::ZERO,
        })
    }

    /// One line of the file, and of the progress.
    pub(crate) fn add(&mut self, scenario: &str, variant: Variant, column: &str, score: &Score) {
        self.failed |= score.failed > 0.0;
        self.lateness = self.lateness.max(score.lateness);
        let line = format!("{scenario},\"{}\",{column},{}\n", variant.name, score.csv());
        eprint!("{line}");
        self.csv.push_str(&line);
    }

    pub(crate) fn add_timeline(
        &mut self,
        scenario: &str,
        variant: &Variant,
        points: &[(f64, f64)],
    ) {
        for (second, goodput) in points {
            let name = variant.name;
            let line = format!("{scenario},\"{name}\",{second:.2},{goodput:.0}\n");
            self.timelines.push_str(&line);
        }
    }

    pub(crate) fn table(&mut self, columns: &[String], rows: Vec<Vec<String>>) {
        let head: Vec<_> = [""]
            .into_iter()
            .chain(columns.iter().map(String::as_str))
            .collect();
        self.report.table(&head, &rows);
    }

    /// # Errors
    ///
    /// If the file cannot be written.
    pub(crate) fn draw(&self, chart: &Chart<'_>, name: &str) -> Result<(), Box<dyn Error>> {
        let path = self.report.path(&format!("-{name}.svg"));
        chart.draw(&path)?;
        if self.write && SHOWN.contains(&name) {
            fs::create_dir_all(SHOWN_IN)?;
            fs::copy(
                &path,
                Path::new(SHOWN_IN).join(format!("overload-{name}.svg")),
            )?;
        }
        Ok(())
    }

    pub(crate) fn at_least(&mut self, goal: &str, least: f64, is: f64) {
        self.goal(goal, is, format!("≥ {least}"), is >= least);
    }

    pub(crate) fn at_most(&mut self, goal: &str, most: f64, is: f64) {
        self.goal(goal, is, format!("≤ {most}"), is <= most);
    }

    fn goal(&mut self, goal: &str, is: f64, aim: String, met: bool) {
        let met = if met { "yes" } else { "**no**" };
        let row = [goal.into(), format!("{is:.3}"), aim, met.into()];
        self.goals.push(row.into());
    }

    /// # Errors
    ///
    /// If a file cannot be written.
    pub(crate) fn close(mut self) -> Result<ExitCode, Box<dyn Error>> {
        if !self.goals.is_empty() {
            self.report.paragraph("What was aimed at, in this run:");
            self.report.table(&["", "is", "aim", "met"], &self.goals);
        }
        let lateness = self.lateness;
        self.report.paragraph(format_args!(
            "99 of 100 requests left within {lateness:.1?} of their time, in the worst cell."
        ));
        fs::write(self.report.path("-timelines.csv"), self.timelines)?;
        let closed = self.report.close(&self.csv)?;
        if self.failed {
            eprintln!("Some were neither answered in time, nor late, nor refused: see `failed`.");
            return Ok(ExitCode::FAILURE);
        }
        Ok(closed)
    }
}
