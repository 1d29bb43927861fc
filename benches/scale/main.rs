//! The cost of a request as other things grow: `cargo bench --bench scale`, with `-- --quick` a smoke run, with
//! `-- --write` into `docs/benchmarks/tables.md`. Words after `--` choose the sections with those words in their names.
//!
//! The rows of a section are measured in interleaved rounds; each figure is the median of the rounds.

#[path = "../support/chart.rs"]
mod chart;
#[path = "../support/later.rs"]
mod later;
#[path = "../support/measure_all.rs"]
mod measure_all;
#[path = "../support/pin.rs"]
mod pin;
#[path = "../support/report.rs"]
mod report;
#[path = "../support/request.rs"]
mod request;
#[path = "../support/threads.rs"]
mod threads;

mod in_flight;
mod memory;
mod sections;
mod series;
mod throughput;

use std::{error::Error, process::ExitCode};

use self::{
    chart::{Axis, Chart, Curve},
    report::{Options, Report},
    series::{Plan, Section},
};

/// Sections whose charts are shown in `docs/benchmarks/tables.md`. Of the others, one is a flat line, and one has only as many points as
/// the machine has processors.
const SHOWN: [&str; 3] = ["in-flight", "routes", "budgets"];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::new(std::env::args().skip(1))?;
    let plan = if options.quick {
        Plan::QUICK
    } else {
        Plan::FULL
    };
    let mut report = Report::new("scale", &options)?;
    report.paragraph(format_args!(
        "Nanoseconds a request, medians of {} interleaved rounds of {} requests.",
        plan.rounds, plan.requests
    ));
    let mut csv = "section,row,size,figure\n".to_owned();
    for section in sections::all(&plan) {
        if options.wants(section.name) {
            one(section, &plan, &mut report, &mut csv)?;
        }
    }
    if options.wants("memory") {
        memory::report(&plan, &mut report, &mut csv);
    }
    if options.wants("throughput") {
        throughput::report(&plan, &mut report, &mut csv);
    }
    report.close(&csv)
}

fn one(
    section: Section,
    plan: &Plan,
    report: &mut Report,
    csv: &mut String,
) -> Result<(), Box<dyn Error>> {
    let medians = plan.measure(&section);
    let sizes: Vec<_> = section.sizes.iter().map(usize::to_string).collect();
    let mut head = vec![section.title];
    head.extend(sizes.iter().map(String::as_str));
    head.push("last ÷ first");
    let mut rows = Vec::new();
    let mut lines = Vec::new();
    for (series, medians) in section.series.iter().zip(&medians) {
        let mut row = vec![series.name.to_owned()];
        row.extend(medians.iter().map(|median| format!("{median:.0}")));
        row.push(format!("{:.1}", medians[medians.len() - 1] / medians[0]));
        rows.push(row);
        let points = section.sizes.iter().zip(medians);
        for (size, median) in points.clone() {
            csv.push_str(&format!(
                "{},\"{}\",{size},{median:.2}\n",
                section.name, series.name
            ));
        }
        lines.push(Curve {
            name: series.name.to_owned(),
            color: None,
            points: points
                .map(|(&size, &median)| (size as f64, median))
                .collect(),
        });
    }
    report.table(&head, &rows);
    let x = Axis::logarithmic(section.title);
    let chart = Chart::of(section.title, x, "ns a request", lines);
    let file = format!("-{}.svg", section.name);
    let is_drawn = chart.draw(&report.path(&file))?;
    if is_drawn && SHOWN.contains(&section.name) {
        report.copy_to_repository(&file)?;
    }
    Ok(())
}
