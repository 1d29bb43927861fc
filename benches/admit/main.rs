//! What one request costs: `cargo bench --bench admit`, or `-- refuse fixed` behind it for the rows with those words.
//! `-- --quick` is a smoke run, `-- --write` puts the tables into `BENCHMARKS.md`.
//!
//! All rows run in one process, in interleaved rounds, so that what slows the machine slows them all; each figure is
//! the median of the rounds. criterion and divan measure one row after the other, and a noisy machine then shifts the
//! ratios, which are the point here.
//!
//! With `--features metrics`, `--features tracing` there are rows for what those add, in the same run. What they add to
//! the other rows shows beside a run without: over bare, in raw.
//!
//! Two things are against this crate, and the first against all that allocate: allocations are counted, which costs each
//! some nanoseconds, and tokio's clock is one that a test could pause (its `test-util`, on which the tests depend). How
//! much slower that is than std's, which peers read, shows in two rows.

#[path = "../support/every.rs"]
mod every;
#[path = "../support/later.rs"]
mod later;
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
    // And what all are compared to.
    let compared = [ours::BARE, ours::RAW, ours::BARE_AND_RAW];
    rows.retain(|row| compared.contains(&row.name) || options.wants(row.name));
    let measured = plan.measure(&rows);

    let mut report = Report::new("admit", &options)?;
    report.paragraph(format_args!(
        "Nanoseconds a request, medians of {} interleaved rounds of {} requests a thread; 2 threads share one limit. \
         *Over bare, in raw*: (it − the bare service) ÷ raw atomics alone.",
        plan.rounds, plan.requests
    ));
    let all: Vec<_> = rows.iter().zip(&measured).collect();
    let bars = Bars::of(&all);
    bars.print(&mut report, &all, Table::Admit);
    report.paragraph("Refusals:");
    bars.print(&mut report, &all, Table::Refuse);
    if options.words.is_empty() {
        report.paragraph("What was aimed at, in this run:");
        report.table(&["", "is", "aim", "met"], &goals::rows(&bars, &all));
    }
    let spread = measured.iter().map(Figures::spread).fold(0.0, f64::max);
    report.paragraph(format_args!(
        "Half of the rounds of a row lie within ± {:.0} % of its median or closer, in the noisiest row.",
        spread * 100.0
    ));
    report.close(&csv(&all))
}

/// What all rows are compared to.
struct Bars {
    bare: [f64; 2],
    raw: [f64; 2],
    bare_and_raw: f64,
}

impl Bars {
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

/// What is refused is cheaper than what is served, so it is told where there are any.
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
    at.expect("it is in the table").1
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
