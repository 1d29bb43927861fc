//! The output of a bench: tables in Markdown and raw figures as CSV, in `target/benches/`. With `--write`, the tables go
//! into `docs/benchmarks/tables.md` as well, and the raw files into that folder.
//!
//! Only a whole run is written there. The output of a smoke run is in `target/benches/quick/`, and of a part of a bench in
//! `target/benches/part/`, so that neither replaces the figures of a whole run.

use std::{
    env,
    error::Error,
    fmt::Display,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// The folder of the tables, of their charts and of their raw files.
pub(crate) const REPOSITORY_FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks");

/// The arguments after `--` on the command line.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// A smoke run: it shows that the bench works; its figures are noise.
    pub(crate) quick: bool,
    pub(crate) write: bool,
    pub(crate) words: Vec<String>,
}

impl Options {
    /// # Errors
    ///
    /// If a flag is unknown.
    pub(crate) fn new(words: impl IntoIterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut options = Self::default();
        for word in words {
            match word.as_str() {
                // From cargo.
                "--bench" => {}
                "--quick" => options.quick = true,
                "--write" => options.write = true,
                flag if flag.starts_with("--") => {
                    return Err(format!("unknown flag {flag}: must be --quick or --write").into());
                }
                _ => options.words.push(word),
            }
        }
        if options.write && (options.quick || options.is_part()) {
            return Err(
                "--write needs a whole run: no --quick, and no words that choose rows".into(),
            );
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

    /// Returns whether the name contains one of the words, or there are no words.
    #[allow(dead_code, reason = "the bench of instructions always runs all rows")]
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word))
    }
}

/// The report of one bench.
#[derive(Debug)]
pub(crate) struct Report {
    name: &'static str,
    folder: PathBuf,
    markdown: String,
    write_to_repository: bool,
}

impl Report {
    /// Creates the report, which begins with a line about the machine.
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
            write_to_repository: options.write,
        };
        report.paragraph(machine());
        Ok(report)
    }

    /// Returns the path of a file of this report, such as `scale-routes.svg`.
    pub(crate) fn path(&self, rest: &str) -> PathBuf {
        self.folder.join(format!("{}{rest}", self.name))
    }

    pub(crate) fn paragraph(&mut self, text: impl Display) {
        println!("{text}\n");
        self.markdown.push_str(&format!("{text}\n\n"));
    }

    /// Adds a table. The first column is text, the others are numbers.
    pub(crate) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let head: Vec<_> = head.iter().map(|&cell| cell.to_owned()).collect();
        let mut table = line(&head);
        table.push_str(&format!("|---|{}\n", "---:|".repeat(head.len() - 1)));
        table.extend(rows.iter().map(|row| line(row)));
        self.paragraph(table.trim_end());
    }

    /// Writes a file of this report; with `--write`, into the repository as well.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) fn write(&self, rest: &str, text: &str) -> io::Result<()> {
        fs::write(self.path(rest), text)?;
        self.copy_to_repository(rest)
    }

    /// With `--write`, copies a file of this report into the repository.
    ///
    /// # Errors
    ///
    /// If it cannot be copied.
    pub(crate) fn copy_to_repository(&self, rest: &str) -> io::Result<()> {
        if self.write_to_repository {
            fs::create_dir_all(REPOSITORY_FOLDER)?;
            let kept = Path::new(REPOSITORY_FOLDER).join(format!("{}{rest}", self.name));
            fs::copy(self.path(rest), kept)?;
        }
        Ok(())
    }

    /// # Errors
    ///
    /// If a file cannot be written, or `tables.md` lacks the markers.
    pub(crate) fn close(self, csv: &str) -> Result<ExitCode, Box<dyn Error>> {
        self.write(".csv", csv)?;
        fs::write(self.path(".md"), &self.markdown)?;
        if self.write_to_repository {
            let file = Path::new(REPOSITORY_FOLDER).join("tables.md");
            let text = fs::read_to_string(&file)?;
            fs::write(&file, self.replace_section(&text)?)?;
        }
        eprintln!("written: {} and .csv", self.path(".md").display());
        Ok(ExitCode::SUCCESS)
    }

    /// Replaces the text between the markers by the tables.
    fn replace_section(&self, text: &str) -> Result<String, String> {
        let (from, to) = (
            format!("<!-- {} -->\n", self.name),
            format!("<!-- /{} -->", self.name),
        );
        let missing = || format!("tables.md has no {from}… {to}");
        let (before, rest) = text.split_once(&from).ok_or_else(missing)?;
        let (_, after) = rest.split_once(&to).ok_or_else(missing)?;
        Ok(format!("{before}{from}\n{}{to}{after}", self.markdown))
    }
}

/// Returns the folder of whole runs, beside `tmp` in the target directory.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("benches")
}

/// Describes the machine, the compiler, the date and the commit.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpus.lines().find(|line| line.starts_with("model name"));
    let cpu = cpu.and_then(|line| line.split(": ").nth(1));
    let rustc = output_of("rustc", &["--version"]);
    // `rustc 1.95.0 (0123abcd 2026-01-01)`
    let rustc: Vec<_> = rustc.split(' ').take(2).collect();
    format!(
        "{cores} × {}, {} {}, {}, {}, commit {}.",
        cpu.unwrap_or(env::consts::ARCH),
        output_of("uname", &["-s"]),
        output_of("uname", &["-r"]),
        rustc.join(" "),
        output_of("date", &["-u", "+%F"]),
        commit(),
    )
}

/// Returns the commit, and whether measured files have changes. Changes of other files, such as this report, do not count.
fn commit() -> String {
    const MEASURED: [&str; 4] = ["src", "benches", "Cargo.toml", "Cargo.lock"];
    let head = output_of("git", &["rev-parse", "--short", "HEAD"]);
    let changed = output_of(
        "git",
        &[&["status", "--short", "--"], &MEASURED[..]].concat(),
    );
    match changed.as_str() {
        "" => head,
        _ => format!("{head} and changes"),
    }
}

fn output_of(program: &str, arguments: &[&str]) -> String {
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
