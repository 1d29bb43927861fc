//! Where the figures go.

use std::{error::Error, process::ExitCode, time::Duration};

use crate::{
    chart::Chart,
    load::DEADLINE,
    report::{Options, Report},
    score::{Score, millis},
    variants::Variant,
};

#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) report: Report,
    scenario: &'static str,
    /// Of the server in this scenario, in requests a second.
    capacity: f64,
    csv: String,
    timelines: String,
    goals: Vec<Vec<String>>,
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
            scenario: "",
            capacity: 0.0,
            csv: format!(
                "scenario,variant,column,capacity_per_s,{}\n",
                Score::CSV_HEAD
            ),
            timelines: "scenario,variant,second,goodput_per_s\n".to_owned(),
            goals: Vec::new(),
            failed: false,
            lateness: Duration::ZERO,
        })
    }

    /// What is added is of this scenario from now on.
    pub(crate) fn begin(&mut self, scenario: &'static str, capacity: f64) {
        self.scenario = scenario;
        self.capacity = capacity;
    }

    /// One line of the file, and of the progress.
    pub(crate) fn add(&mut self, variant: Variant, column: &str, score: &Score) {
        self.failed |= score.failed > 0.0;
        self.lateness = self.lateness.max(score.lateness);
        let line = format!(
            "{},\"{}\",{column},{:.1},{}\n",
            self.scenario,
            variant.name,
            self.capacity,
            score.csv()
        );
        eprint!("{line}");
        self.csv.push_str(&line);
    }

    pub(crate) fn add_timeline(&mut self, variant: &Variant, points: &[(f64, f64)]) {
        let (scenario, name) = (self.scenario, variant.name);
        for (second, goodput) in points {
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

    /// All of them are shown in `BENCHMARKS.md`, if there is something to see.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(crate) fn draw(&self, chart: &Chart<'_>, name: &str) -> Result<(), Box<dyn Error>> {
        let file = format!("-{name}.svg");
        if chart.draw(&self.report.path(&file))? {
            self.report.keep(&file)?;
        }
        Ok(())
    }

    /// What was aimed at where more is offered than the server can carry, with no settings. Each cell has its load; where
    /// callers were too late it is left out.
    pub(crate) fn add_goals(&mut self, cells: impl Iterator<Item = (f64, Score)>) {
        let cells = cells.filter(|(_, score)| !score.is_void());
        let (loads, scores): (Vec<_>, Vec<_>) =
            cells.map(|(load, score)| (load.to_string(), score)).unzip();
        let at = match &loads[..] {
            [] => "but callers were late".into(),
            _ => format!("at {} ×", loads.join(", ")),
        };
        let shares = scores.iter().map(|score| score.goodput / self.capacity);
        let share = shares.reduce(f64::min).unwrap_or(f64::NAN);
        // Nobody has got an answer in time: 0 would look best.
        let p99s = scores.iter().map(|score| match score.goodput {
            0.0 => f64::INFINITY,
            _ => millis(score.latency.p99),
        });
        let p99 = p99s.reduce(f64::max).unwrap_or(f64::NAN);
        let goal = format!("{}: goodput ÷ capacity, no settings, {at}", self.scenario);
        self.at_least(&goal, 0.97, share);
        let goal = format!(
            "{}: p99 of the good answers, no settings, {at}, ms",
            self.scenario
        );
        self.at_most(&goal, millis(DEADLINE) / 2.0, p99);
    }

    pub(crate) fn at_least(&mut self, goal: &str, least: f64, is: f64) {
        self.goal(goal, is, format!("≥ {least}"), is >= least);
    }

    pub(crate) fn at_most(&mut self, goal: &str, most: f64, is: f64) {
        self.goal(goal, is, format!("≤ {most}"), is <= most);
    }

    /// What is not finite is no figure, and has met nothing.
    fn goal(&mut self, goal: &str, is: f64, aim: String, met: bool) {
        let (is, met) = match is.is_finite() {
            true => (format!("{is:.3}"), met),
            false => ("–".into(), false),
        };
        let met = if met { "yes" } else { "**no**" };
        let row = [goal.into(), is, aim, met.into()];
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
        self.report.leave("-timelines.csv", &self.timelines)?;
        let closed = self.report.close(&self.csv)?;
        if self.failed {
            eprintln!("Some were neither answered in time, nor late, nor refused: see `failed`.");
            return Ok(ExitCode::FAILURE);
        }
        Ok(closed)
    }
}
