//! What becomes of a server that is asked for more than it can carry, under this crate and its alternatives:
//! `cargo bench --bench overload`, or with words behind `--` for the rows with those words in their names. `--quick` is
//! a smoke run: it shows that all works, and its figures mean little.
//!
//! A pool of 8 workers × 10 ms behind axum, on a real socket and in real time. Callers arrive at their own pace
//! (Poisson, open loop), wait for 100 ms, and leave; what the server has begun for them goes on. A good answer is one
//! that comes in time, and goodput is what counts: a server that answers all of them too late does work for nobody.
//!
//! Callers and server share the machine, which is why the loads end at 7,300 requests a second. Each column's cells are
//! measured one after the other, so that what slows the machine for a while slows a column and not a row; a cell in
//! which the callers themselves fell behind is marked.

mod load;
mod random;
mod score;
mod server;
mod variants;

use std::{
    borrow::Borrow,
    env,
    fs::{File, create_dir_all},
    io::Write,
    ops::Range,
    process::ExitCode,
    time::Duration,
};

use tokio::{
    runtime::Builder,
    time::{Instant, sleep_until},
};

use self::{
    load::Load,
    random::ServiceTime,
    score::Score,
    server::{Pool, Server, capacity},
    variants::{ALL, QUICK, Variant},
};

/// Beside `tmp` in the target directory, wherever that is.
const FOLDER: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/../overload");

/// How much to measure.
struct Plan {
    name: &'static str,
    variants: Vec<Variant>,
    /// Shares of the capacity.
    loads: &'static [f64],
    /// Offered before what is scored: limits are learned, queues grow.
    warm_up: Duration,
    scored: Duration,
    /// Of the step, each phase.
    phase: Duration,
}

impl Plan {
    fn from_args() -> Self {
        let args = env::args().skip(1).filter(|word| word != "--bench");
        let (flags, words): (Vec<_>, Vec<_>) = args.partition(|word| word == "--quick");
        let quick = !flags.is_empty();
        let mut variants = ALL.to_vec();
        if !words.is_empty() {
            variants.retain(|variant| words.iter().any(|word| variant.name.contains(word)));
        } else if quick {
            variants.retain(|variant| QUICK.contains(&variant.name));
        }
        if quick {
            return Self::quick(variants);
        }
        Self {
            name: "full",
            variants,
            loads: &[0.5, 1.0, 2.0, 5.0, 10.0],
            warm_up: Duration::from_secs(2),
            scored: Duration::from_secs(6),
            phase: Duration::from_secs(3),
        }
    }

    fn quick(variants: Vec<Variant>) -> Self {
        Self {
            name: "quick",
            variants,
            loads: &[5.0],
            warm_up: Duration::from_millis(500),
            scored: Duration::from_secs(1),
            phase: Duration::from_secs(1),
        }
    }
}

/// One server under one load.
struct Run {
    load: Load,
    /// What is scored, each for itself.
    spans: Vec<Range<Duration>>,
    /// When the pool is slow.
    slow: Option<Range<Duration>>,
}

/// How many times longer the step makes work take.
const SLOWNESS: u32 = 5;

impl Run {
    fn scores(&self, variant: Variant) -> Vec<Score> {
        let server = Server::start(variant.app);
        let callers = Builder::new_current_thread().enable_all().build();
        let callers = callers.expect("the system has threads");
        let seen = callers.block_on(self.load.offer(server.address, |began| {
            if let Some(span) = self.slow.clone() {
                let pool = server.pool.clone();
                tokio::spawn(step(pool, began + span.start, began + span.end));
            }
        }));
        drop(callers);
        server.stop();
        let spans = self.spans.iter();
        spans.map(|span| Score::of(&seen, span)).collect()
    }
}

async fn step(pool: Pool, start: Instant, end: Instant) {
    sleep_until(start).await;
    pool.slow_down(SLOWNESS);
    sleep_until(end).await;
    pool.slow_down(1);
}

/// Where the figures go: tables on the standard output, and all of them in a file.
struct Report {
    csv: File,
    failed: bool,
    /// Of the worst cell.
    lateness: Duration,
}

impl Report {
    fn new(name: &str) -> std::io::Result<Self> {
        create_dir_all(FOLDER)?;
        let mut csv = File::create(format!("{FOLDER}/{name}.csv"))?;
        writeln!(csv, "scenario,variant,column,{}", Score::CSV_HEAD)?;
        Ok(Self {
            csv,
            failed: false,
            lateness: Duration::ZERO,
        })
    }

    /// One line of the file. It is written at once: a whole run takes half an hour.
    fn add(&mut self, scenario: &str, variant: Variant, column: &str, score: &Score) {
        self.failed |= score.failed > 0.0;
        self.lateness = self.lateness.max(score.lateness);
        let line = format!("{scenario},\"{}\",{column},{}", variant.name, score.csv());
        writeln!(self.csv, "{line}").expect("the file can be written");
        eprintln!("{line}");
    }

    fn close(self) -> ExitCode {
        let lateness = self.lateness;
        println!("99 of 100 requests left within {lateness:.1?} of their time, in the worst cell.");
        if self.failed {
            eprintln!("Some were neither answered in time, nor late, nor refused: see `failed`.");
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }
}

fn print_table(columns: &[impl Borrow<str>], rows: &[(Variant, Vec<String>)]) {
    println!("| | {} |", columns.join(" | "));
    println!("|---|{}", "---|".repeat(columns.len()));
    for (variant, cells) in rows {
        println!("| {} | {} |", variant.name, cells.join(" | "));
    }
    println!();
}

/// The pool under several loads: goodput ÷ capacity.
fn loads(plan: &Plan, report: &mut Report, service_time: ServiceTime, capacity: f64) {
    let name = service_time.name();
    let mut rows: Vec<_> = plan.variants.iter().map(|row| (*row, Vec::new())).collect();
    for load in plan.loads {
        let run = Run {
            load: Load {
                rate: load * capacity,
                service_time,
                lasts: plan.warm_up + plan.scored,
            },
            spans: vec![plan.warm_up..plan.warm_up + plan.scored],
            slow: None,
        };
        for (variant, cells) in &mut rows {
            let score = run.scores(*variant)[0];
            report.add(name, *variant, &load.to_string(), &score);
            let share = score.goodput / capacity;
            cells.push(format!("{share:.2} ({})", score.details()));
        }
    }
    println!("Service times: {name}; capacity {capacity:.0}/s. Goodput ÷ capacity.\n");
    let columns: Vec<_> = plan.loads.iter().map(|load| format!("{load} ×")).collect();
    print_table(&columns, &rows);
}

/// A load that the pool carries, but for a while: goodput a second.
fn slow_step(plan: &Plan, report: &mut Report, capacity: f64) {
    let at = |phase| plan.warm_up + plan.phase * phase;
    let run = Run {
        load: Load {
            rate: 0.8 * capacity,
            service_time: ServiceTime::Fixed,
            lasts: at(4),
        },
        spans: (0..4).map(|phase| at(phase)..at(phase + 1)).collect(),
        slow: Some(at(1)..at(2)),
    };
    let columns = ["before", "during", "just after", "later"];
    let mut rows = Vec::new();
    for variant in &plan.variants {
        let mut cells = Vec::new();
        for (score, column) in run.scores(*variant).iter().zip(columns) {
            report.add("step", *variant, column, score);
            cells.push(format!("{:.0} ({})", score.goodput, score.details()));
        }
        rows.push((*variant, cells));
    }
    println!(
        "Work takes {SLOWNESS} times longer for {:?}; {:.0}/s offered. Goodput a second, in phases of that length.\n",
        plan.phase, run.load.rate
    );
    print_table(&columns, &rows);
}

fn main() -> ExitCode {
    let plan = Plan::from_args();
    if plan.variants.is_empty() {
        eprintln!("No row has one of these words in its name.");
        return ExitCode::FAILURE;
    }
    let mut report = Report::new(plan.name).expect("the target directory can be written");
    println!("In parentheses: p50/p99 of the good answers, and the share that was refused.");
    println!("(!): one in a hundred requests was sent more than 5 ms late.\n");
    let fixed = capacity(ServiceTime::Fixed, plan.scored);
    loads(&plan, &mut report, ServiceTime::Fixed, fixed);
    let exponential = capacity(ServiceTime::Exponential, plan.scored);
    loads(&plan, &mut report, ServiceTime::Exponential, exponential);
    slow_step(&plan, &mut report, fixed);
    report.close()
}
