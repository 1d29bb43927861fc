//! The cost of one request: `cargo bench --bench admit`. Words after `--` choose the rows with these words in their names.
//! `-- --quick` is a smoke run, `-- --write` puts the tables into `docs/benchmarks/tables.md`.
//!
//! All rows run in one process, in interleaved rounds, so that a slow phase of the machine slows all rows. Each figure is
//! the median of the rounds. criterion and divan measure one row after the other; on a noisy machine, that shifts the
//! ratios, which are the result here.
//!
//! With `--features metrics` and `--features tracing` there are rows for the cost of these features. To see what a feature
//! adds to the other rows, compare a run with it and a run without it: over bare, in raw.
//!
//! Two conditions are to this crate's disadvantage:
//!
//! - Allocations are counted, which adds some nanoseconds to each, in all rows.
//! - tokio's clock is built with `test-util`, as the tests depend on it, so that reads check whether it is paused. Two rows
//!   show how much slower that is than std's clock, which the peers read.

#[path = "../support/grpc.rs"]
mod grpc;
#[path = "../support/later.rs"]
mod later;
#[path = "../support/loaded_429.rs"]
mod loaded_429;
#[path = "../support/measure_all.rs"]
mod measure_all;
#[path = "../support/report.rs"]
mod report;
#[path = "../support/request.rs"]
mod request;
#[path = "../support/threads.rs"]
mod threads;

mod goals;
mod measure;
mod ours;
mod peers;
mod row;
mod waits;
mod yardsticks;

use std::{error::Error, process::ExitCode};

use self::{
    measure::{Cell, Figures, Plan},
    report::{Options, Report},
    row::{Row, Table},
};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::new(std::env::args().skip(1))?;
    let plan = if options.quick {
        Plan::QUICK
    } else {
        Plan::FULL
    };
    let mut rows = ours::rows();
    rows.extend(peers::rows());
    // And the rows to which all are compared.
    let compared = [ours::BARE, ours::RAW, ours::BARE_AND_RAW];
    rows.retain(|row| compared.contains(&row.name) || options.wants(row.name));
    let measured = plan.measure(&rows);

    let mut report = Report::new("admit", &options)?;
    report.paragraph(format_args!(
        "Nanoseconds a request, medians of {} interleaved rounds of {} requests a thread; 2 threads share one limit. \
         *Over bare, in raw*: (row − bare service) ÷ raw atomics alone.",
        plan.rounds, plan.requests
    ));
    let all: Vec<_> = rows.iter().zip(&measured).collect();
    let baselines = Baselines::of(&all);
    baselines.print(&mut report, &all, Table::Admit);
    report.paragraph("Refusals:");
    baselines.print(&mut report, &all, Table::Refuse);
    if options.words.is_empty() {
        report.paragraph("Goals, in this run:");
        report.table(&["", "is", "aim", "met"], &goals::rows(&baselines, &all));
    }
    let spread = measured.iter().map(Figures::spread).fold(0.0, f64::max);
    report.paragraph(format_args!(
        "Half of the rounds of a row lie within ± {:.0} % of its median or closer, in the noisiest row.",
        spread * 100.0
    ));
    report.close(&csv(&all))
}

/// The rows to which all rows are compared.
struct Baselines {
    bare: [f64; 2],
    raw: [f64; 2],
    bare_and_raw: f64,
}

impl Baselines {
    fn of(all: &[(&Row, &Figures)]) -> Self {
        let both = |name| figures(all, name).reused().map(|cell| cell.median);
        Self {
            bare: both(ours::BARE),
            raw: both(ours::RAW),
            bare_and_raw: both(ours::BARE_AND_RAW)[0],
        }
    }

    fn over(&self, figures: &Figures, threads: usize) -> f64 {
        (figures.reused()[threads].median - self.bare[threads]) / self.raw[threads]
    }

    fn print(&self, report: &mut Report, all: &[(&Row, &Figures)], table: Table) {
        let rows = all.iter().filter(|(row, _)| row.table == table);
        let cells = rows.map(|(row, figures)| {
            let [one, two] = figures.reused();
            let text = |cell: &Cell| format!("{:.0}{}", cell.median, unexpected(table, cell));
            let cloned = |threads: usize| {
                let cells = figures.cloned();
                cells.map_or(String::new(), |cells| text(&cells[threads]))
            };
            vec![
                row.name.to_owned(),
                text(&one),
                cloned(0),
                format!("{:.2}", self.over(figures, 0)),
                format!("{:.2}", one.median / self.bare_and_raw),
                text(&two),
                cloned(1),
                format!("{:.2}", self.over(figures, 1)),
                format!("{:.1}", two.median / one.median),
                figures.allocations.to_string(),
                figures.bytes.to_string(),
            ]
        });
        let head = [
            "",
            "1 thread",
            "cloned",
            "over bare, in raw",
            "÷ (bare + raw)",
            "2 threads",
            "cloned",
            "over bare, in raw",
            "÷ 1 thread",
            "allocations",
            "bytes",
        ];
        report.table(&head, &cells.collect::<Vec<_>>());
    }
}

/// Returns a note on requests with the other outcome, if there are any: a refusal is cheaper than a served request.
fn unexpected(table: Table, cell: &Cell) -> String {
    let (share, what) = match table {
        Table::Admit => (1.0 - cell.served, "refused"),
        Table::Refuse => (cell.served, "served"),
    };
    match share {
        0.0 => String::new(),
        share => format!(" ({:.0} % {what})", (share * 100.0).ceil()),
    }
}

fn figures<'a>(all: &[(&Row, &'a Figures)], name: &str) -> &'a Figures {
    let at = all.iter().find(|(row, _)| row.name == name);
    at.expect("the row is in the table").1
}

fn csv(all: &[(&Row, &Figures)]) -> String {
    let mut csv =
        "table,row,service,threads,ns_p25,ns_median,ns_p75,served,allocations,bytes\n".to_owned();
    for (row, figures) in all {
        for (use_, threads, cell) in figures.cells() {
            csv.push_str(&format!(
                "{:?},\"{}\",{use_},{threads},{:.2},{:.2},{:.2},{:.4},{},{}\n",
                row.table,
                row.name,
                cell.quarter,
                cell.median,
                cell.three_quarters,
                cell.served,
                figures.allocations,
                figures.bytes,
            ));
        }
    }
    csv
}
