//! Runs this program under callgrind, once for each row.

use std::{env, error::Error, fs, path::Path, process::Command};

/// The flag with which the program runs itself.
pub(crate) const COUNT: &str = "--count";

/// Requests in [`counted`]. The instructions of that function and of its callees are counted.
pub(crate) const REQUESTS: u64 = 1_000;

#[inline(never)]
pub(crate) fn counted(request: &mut dyn FnMut()) {
    for _ in 0..REQUESTS {
        request();
    }
}

/// Returns the instructions per request.
///
/// # Errors
///
/// If valgrind is missing or fails.
pub(crate) fn count(name: &str) -> Result<f64, Box<dyn Error>> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("callgrind.out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*::callgrind::counted"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(env::current_exe()?)
        .args([COUNT, name])
        .output()
        .map_err(|error| format!("valgrind: {error}; benches/instructions/run installs it"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let text = fs::read_to_string(&file)?;
    let summary = text.lines().find_map(|line| line.strip_prefix("summary: "));
    let all: f64 = summary.ok_or("callgrind has written no summary")?.parse()?;
    if all == 0.0 {
        return Err("callgrind did not see the loop".into());
    }
    Ok(all / REQUESTS as f64)
}
