//! The tables, charts and raw figures of the bench.

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
    /// Capacity of the server in this scenario, in requests a second.
    capacity: f64,
    csv: String,
    timelines: String,
    goals: Vec<Vec<String>>,
    failed: bool,
    /// Lateness of the worst cell.
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

    /// Begins a scenario: all that is added from now on belongs to it.
    pub(crate) fn begin(&mut self, scenario: &'static str, capacity: f64) {
        self.scenario = scenario;
        self.capacity = capacity;
    }

    /// Adds a line to the CSV file, and prints it as progress.
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

    /// Draws a chart for `tables.md`, unless it would be empty.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(crate) fn draw(&self, chart: &Chart<'_>, name: &str) -> Result<(), Box<dyn Error>> {
        let file = format!("-{name}.svg");
        if chart.draw(&self.report.path(&file))? {
            self.report.copy_to_repository(&file)?;
        }
        Ok(())
    }

    /// Adds the goals for loads above the capacity, without settings. Each cell comes with its load; cells in which the
    /// callers were too late are left out.
    pub(crate) fn add_goals(&mut self, cells: impl Iterator<Item = (f64, Score)>) {
        let cells = cells.filter(|(_, score)| !score.is_void());
        let (loads, scores): (Vec<_>, Vec<_>) =
            cells.map(|(load, score)| (load.to_string(), score)).unzip();
        let at = match &loads[..] {
            [] => "but the callers were late".into(),
            _ => format!("at {} ×", loads.join(", ")),
        };
        let shares = scores.iter().map(|score| score.goodput / self.capacity);
        let share = shares.reduce(f64::min).unwrap_or(f64::NAN);
        // Without a good response there is no percentile, and 0 would look best.
        let p99s = scores.iter().map(|score| match score.goodput {
            0.0 => f64::INFINITY,
            _ => millis(score.latency.p99),
        });
        let p99 = p99s.reduce(f64::max).unwrap_or(f64::NAN);
        let goal = format!("{}: goodput ÷ capacity, no settings, {at}", self.scenario);
        self.at_least(&goal, 0.97, share);
        let goal = format!(
            "{}: p99 of good responses, no settings, {at}, ms",
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

    /// Adds a goal. A value that is not finite does not meet it.
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
            self.report.paragraph("Goals, in this run:");
            self.report.table(&["", "is", "aim", "met"], &self.goals);
        }
        let lateness = self.lateness;
        self.report.paragraph(format_args!(
            "In the worst cell, 99 % of the requests were sent within {lateness:.1?} of their due time."
        ));
        self.report.write("-timelines.csv", &self.timelines)?;
        let closed = self.report.close(&self.csv)?;
        if self.failed {
            eprintln!("some requests were neither good, nor late, nor refused: see `failed`");
            return Ok(ExitCode::FAILURE);
        }
        Ok(closed)
    }
}
