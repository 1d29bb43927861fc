//! What a bench leaves behind: its tables in Markdown, and the raw figures as CSV, in `target/benches/`; with `--write`,
//! the tables in `BENCHMARKS.md` as well, and the files behind them in `docs/benchmarks/`.
//!
//! Only a whole run is written there: what is left of a smoke run is in `target/benches/quick/`, and of a part of a bench in
//! `target/benches/part/`, so that neither takes the place of figures that mean more.

use std::{
    env,
    error::Error,
    fmt::Display,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// Where the files behind `BENCHMARKS.md` are.
pub(crate) const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks");

/// What stands behind `--` on the command line.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// A smoke run: it shows that all works, and its figures mean little.
    pub(crate) quick: bool,
    pub(crate) write: bool,
    pub(crate) words: Vec<String>,
}

impl Options {
    /// # Errors
    ///
    /// If there is a flag that no bench has.
    pub(crate) fn new(words: impl IntoIterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut options = Self::default();
        for word in words {
            match word.as_str() {
                // From cargo.
                "--bench" => {}
                "--quick" => options.quick = true,
                "--write" => options.write = true,
                flag if flag.starts_with("--") => {
                    return Err(format!("{flag} is neither --quick nor --write").into());
                }
                _ => options.words.push(word),
            }
        }
        if options.write && (options.quick || options.is_part()) {
            return Err("--write is for the whole of it, and not for a smoke run".into());
        }
        Ok(options)
    }

    fn is_part(&self) -> bool {
        let chooses = |word: &String| !word.contains('=') || word.starts_with("only=");
        self.words.iter().any(chooses)
    }

    fn folder(&self) -> PathBuf {
        match self {
            Self { quick: true, .. } => folder().join("quick"),
            _ if self.is_part() => folder().join("part"),
            _ => folder(),
        }
    }

    /// Whether the name has one of the words in it, or there are none.
    #[allow(dead_code, reason = "instructions are always all of them")]
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word))
    }
}

/// The report of the bench with this name.
#[derive(Debug)]
pub(crate) struct Report {
    name: &'static str,
    folder: PathBuf,
    markdown: String,
    write: bool,
}

impl Report {
    /// Where it was run stands at its head.
    ///
    /// # Errors
    ///
    /// If the target directory cannot be written.
    pub(crate) fn new(name: &'static str, options: &Options) -> Result<Self, Box<dyn Error>> {
        let folder = options.folder();
        fs::create_dir_all(&folder)?;
        let mut report = Self {
            name,
            folder,
            markdown: String::new(),
            write: options.write,
        };
        report.paragraph(machine());
        Ok(report)
    }

    /// Of a file of this report, such as `scale-routes.svg`.
    pub(crate) fn path(&self, rest: &str) -> PathBuf {
        self.folder.join(format!("{}{rest}", self.name))
    }

    pub(crate) fn paragraph(&mut self, text: impl Display) {
        println!("{text}\n");
        self.markdown.push_str(&format!("{text}\n\n"));
    }

    /// The first column is text, the others are figures.
    pub(crate) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let head: Vec<_> = head.iter().map(|&cell| cell.to_owned()).collect();
        let mut table = line(&head);
        table.push_str(&format!("|---|{}\n", "---:|".repeat(head.len() - 1)));
        table.extend(rows.iter().map(|row| line(row)));
        self.paragraph(table.trim_end());
    }

    /// Leaves a file of this report, and with `--write` in the repository, too.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn leave(&self, rest: &str, text: &str) -> io::Result<()> {
        fs::write(self.path(rest), text)?;
        self.keep(rest)
    }

    /// With `--write`: a file of this report is for the repository.
    ///
    /// # Errors
    ///
    /// If it cannot be copied.
    pub(crate) fn keep(&self, rest: &str) -> io::Result<()> {
        if self.write {
            fs::create_dir_all(KEPT)?;
            let kept = Path::new(KEPT).join(format!("{}{rest}", self.name));
            fs::copy(self.path(rest), kept)?;
        }
        Ok(())
    }

    /// # Errors
    ///
    /// If a file cannot be written, or `BENCHMARKS.md` has no place for it.
    pub(crate) fn close(self, csv: &str) -> Result<ExitCode, Box<dyn Error>> {
        self.leave(".csv", csv)?;
        fs::write(self.path(".md"), &self.markdown)?;
        if self.write {
            let file = Path::new(REPOSITORY).join("BENCHMARKS.md");
            let text = fs::read_to_string(&file)?;
            fs::write(&file, self.placed(&text)?)?;
        }
        eprintln!("{} and .csv have it.", self.path(".md").display());
        Ok(ExitCode::SUCCESS)
    }

    /// The tables in the place of those that are between the markers.
    fn placed(&self, text: &str) -> Result<String, String> {
        let (from, to) = (
            format!("<!-- {} -->\n", self.name),
            format!("<!-- /{} -->", self.name),
        );
        let missing = || format!("BENCHMARKS.md has no {from}… {to}");
        let (before, rest) = text.split_once(&from).ok_or_else(missing)?;
        let (_, after) = rest.split_once(&to).ok_or_else(missing)?;
        Ok(format!("{before}{from}\n{}{to}{after}", self.markdown))
    }
}

/// Of whole runs, beside `tmp` in the target directory, wherever that is.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("benches")
}

/// On what, with what and when.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpus.lines().find(|line| line.starts_with("model name"));
    let cpu = cpu.and_then(|line| line.split(": ").nth(1));
    let rustc = said("rustc", &["--version"]);
    // `rustc 1.95.0 (0123abcd 2026-01-01)`
    let rustc: Vec<_> = rustc.split(' ').take(2).collect();
    format!(
        "{cores} × {}, {} {}, {}, {}, commit {}.",
        cpu.unwrap_or(env::consts::ARCH),
        said("uname", &["-s"]),
        said("uname", &["-r"]),
        rustc.join(" "),
        said("date", &["-u", "+%F"]),
        commit(),
    )
}

/// Of what is measured: this report may have changed since.
fn commit() -> String {
    const MEASURED: [&str; 4] = ["src", "benches", "Cargo.toml", "Cargo.lock"];
    let head = said("git", &["rev-parse", "--short", "HEAD"]);
    let changed = said(
        "git",
        &[&["status", "--short", "--"], &MEASURED[..]].concat(),
    );
    match changed.as_str() {
        "" => head,
        _ => format!("{head} and changes"),
    }
}

fn said(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    let output = command
        .args(arguments)
        .current_dir(REPOSITORY)
        .output()
        .ok();
    let output = output.filter(|output| output.status.success());
    let words = output.and_then(|output| String::from_utf8(output.stdout).ok());
    words.map_or_else(|| "?".into(), |words| words.trim().to_owned())
}
