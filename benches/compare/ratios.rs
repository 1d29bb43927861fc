//! Computes the ratios of a run from its raw figures.
//!
//! Ratios are the results of a bench: nanoseconds and requests a second change with the machine. Differences, such as the
//! cost of a row over the bare service, are not compared: they have the noise of two figures and less signal. A figure
//! divided by itself is left out as well.

use std::error::Error;

use crate::csv::{Csv, Record};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ratio {
    /// The table in which the ratio is printed.
    pub(crate) table: String,
    /// The row of the table.
    pub(crate) row: String,
    pub(crate) value: f64,
    /// Whether the callers were late, so that the ratio is no verdict on the server.
    pub(crate) late: bool,
}

type Ratios = Result<Vec<Ratio>, Box<dyn Error>>;

type Read = fn(&Csv<'_>) -> Ratios;

/// The files of a run, and the function that reads each.
const FILES: [(&str, Read); 4] = [
    ("admit.csv", admit),
    ("scale.csv", scale),
    ("overload.csv", overload),
    ("overload-saturated.csv", saturated),
];

/// The lateness above which the bench marks a cell. Cells that it leaves void are later still.
const LATE_MS: f64 = 5.0;

/// Returns all ratios of a run; `read` returns the text of a file.
///
/// # Errors
///
/// If a file cannot be read, lacks a column or a row, or has no ratio.
pub(crate) fn all(read: impl Fn(&str) -> Result<String, Box<dyn Error>>) -> Ratios {
    let mut ratios = Vec::new();
    for (file, of) in FILES {
        let in_file = |error| format!("{file}: {error}");
        let text = read(file).map_err(in_file)?;
        let found = of(&Csv::new(&text)).map_err(in_file)?;
        if found.is_empty() {
            return Err(in_file("no ratio in the file".into()).into());
        }
        ratios.extend(found);
    }
    Ok(ratios)
}

/// Ratios of reused services, as in the tables: one thread ÷ (bare + raw), and two threads ÷ one.
fn admit(csv: &Csv<'_>) -> Ratios {
    let reused = csv
        .lines()
        .filter(|line| line.text("service") == Ok("reused"));
    let mut cells = Vec::new();
    for line in reused {
        let (row, threads) = (line.text("row")?, line.text("threads")?);
        cells.push((row, threads, line.number("ns_median")?));
    }
    let median = |row, threads| {
        let cell = cells.iter().find(|cell| (cell.0, cell.1) == (row, threads));
        let missing = || format!("no row {row} on {threads} thread");
        cell.map(|cell| cell.2).ok_or_else(missing)
    };
    let base = ("bare + raw atomics", "1");
    let bare_and_raw = median(base.0, base.1)?;
    let mut ratios = Vec::new();
    for &(row, threads, nanos) in cells.iter().filter(|cell| (cell.0, cell.1) != base) {
        ratios.push(match threads {
            "1" => Ratio::new("admit: ÷ (bare + raw)", row, nanos / bare_and_raw),
            _ => Ratio::new("admit: 2 threads ÷ 1", row, nanos / median(row, "1")?),
        });
    }
    Ok(ratios)
}

/// A section, a row, and the figure at each size.
type Series<'a> = (&'a str, &'a str, Vec<(&'a str, f64)>);

/// Last ÷ first of each series, with both sizes in the name, as a smoke run has other sizes. Bytes are not compared.
fn scale(csv: &Csv<'_>) -> Ratios {
    let mut series: Vec<Series<'_>> = Vec::new();
    let grows = csv
        .lines()
        .filter(|line| line.text("section") != Ok("memory"));
    for line in grows {
        let (section, row) = (line.text("section")?, line.text("row")?);
        let point = (line.text("size")?, line.number("figure")?);
        match series.last_mut() {
            Some(last) if (last.0, last.1) == (section, row) => last.2.push(point),
            _ => series.push((section, row, vec![point])),
        }
    }
    let ratio = |(section, row, points): Series<'_>| {
        let [first, .., last] = points[..] else {
            return None;
        };
        let table = format!("scale, {section}: last ÷ first");
        let row = format!("{row}, {} → {}", first.0, last.0);
        Some(Ratio::new(&table, &row, last.1 / first.1))
    };
    Ok(series.into_iter().filter_map(ratio).collect())
}

fn overload(csv: &Csv<'_>) -> Ratios {
    let ratio = |line: Record<'_>| {
        let table = format!("overload, {}: goodput ÷ capacity", line.text("scenario")?);
        let row = format!("{}, {}", line.text("variant")?, column(line)?);
        let share = line.number("goodput_per_s")? / line.number("capacity_per_s")?;
        Ok(Ratio {
            late: line.number("lateness_p99_ms")? > LATE_MS,
            ..Ratio::new(&table, &row, share)
        })
    };
    csv.lines().map(ratio).collect()
}

/// Returns the name of a column: a load, or a phase.
fn column(line: Record<'_>) -> Result<String, String> {
    let column = line.text("column")?;
    Ok(match column.parse::<f64>() {
        Ok(load) => format!("{load} ×"),
        Err(_) => column.to_owned(),
    })
}

fn saturated(csv: &Csv<'_>) -> Ratios {
    let mut ratios = Vec::new();
    // The first line is the bare server.
    for line in csv.lines().skip(1) {
        let row = line.text("row")?;
        let mut push = |table, column| {
            let value = line.number(column)?;
            ratios.push(Ratio::new(table, row, value));
            Ok::<_, String>(())
        };
        push(
            "overload, saturated: responses/s ÷ bare",
            "responses_over_bare",
        )?;
        push(
            "overload, saturated: server's µs ÷ bare",
            "server_cpu_over_bare",
        )?;
    }
    Ok(ratios)
}

impl Ratio {
    fn new(table: &str, row: &str, value: f64) -> Self {
        Self {
            table: table.to_owned(),
            row: row.to_owned(),
            value,
            late: false,
        }
    }
}
