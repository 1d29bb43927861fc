//! The ratios of a run, from its raw figures.
//!
//! They are what a bench is read for: its nanoseconds and requests a second are another machine's tomorrow. What is a
//! difference, as is what a row costs over the bare service, is not among them: it has the noise of two figures, and less
//! of the signal. Nor is what is divided by itself.

use std::error::Error;

use crate::csv::{Csv, Line};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ratio {
    /// In which it is printed, and what it is.
    pub(crate) table: String,
    pub(crate) row: String,
    pub(crate) value: f64,
    /// The callers fell behind: it is no verdict on the server.
    pub(crate) late: bool,
}

type Ratios = Result<Vec<Ratio>, Box<dyn Error>>;

type Read = fn(&Csv<'_>) -> Ratios;

/// Which files there are, and how each is read.
const FILES: [(&str, Read); 4] = [
    ("admit.csv", admit),
    ("scale.csv", scale),
    ("overload.csv", overload),
    ("overload-saturated.csv", saturated),
];

/// Above it, a cell of the bench has its mark. One that it leaves void is later still.
const LATE_MS: f64 = 5.0;

/// All of a run, of whose files `read` has the text.
///
/// # Errors
///
/// If one cannot be read, lacks something, or has no ratio.
pub(crate) fn all(read: impl Fn(&str) -> Result<String, Box<dyn Error>>) -> Ratios {
    let mut ratios = Vec::new();
    for (file, of) in FILES {
        let in_file = |error| format!("{file}: {error}");
        let text = read(file).map_err(in_file)?;
        let found = of(&Csv::new(&text)).map_err(in_file)?;
        if found.is_empty() {
            return Err(in_file("there is no ratio".into()).into());
        }
        ratios.extend(found);
    }
    Ok(ratios)
}

/// Of reused services, as in the tables: each row on one thread ÷ (bare + raw), and its two threads ÷ one.
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
        let missing = || format!("there is no {row} on {threads} thread");
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

/// Section, row, and the figure at each size.
type Series<'a> = (&'a str, &'a str, Vec<(&'a str, f64)>);

/// Last ÷ first of each series, with their sizes: a smoke run has other ones. Bytes are counted, and not compared.
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
    let ratio = |line: Line<'_>| {
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

/// A load, or a phase.
fn column(line: Line<'_>) -> Result<String, String> {
    let column = line.text("column")?;
    Ok(match column.parse::<f64>() {
        Ok(load) => format!("{load} ×"),
        Err(_) => column.to_owned(),
    })
}

fn saturated(csv: &Csv<'_>) -> Ratios {
    let mut ratios = Vec::new();
    // The first one is the bare server.
    for line in csv.lines().skip(1) {
        let row = line.text("row")?;
        let mut push = |table, column| {
            let value = line.number(column)?;
            ratios.push(Ratio::new(table, row, value));
            Ok::<_, String>(())
        };
        push("overload, saturated: answers/s ÷ bare", "answers_over_bare")?;
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
