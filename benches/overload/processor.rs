//! Time on the processor.

use std::{fs, hint::black_box, path::Path, sync::OnceLock, time::Duration};

use tokio::{task::yield_now, time::Instant};

/// What the server's threads are called.
pub(crate) const SERVER: &str = "server";

/// What all threads of this name have used so far; none where the system does not tell (it is Linux that does).
pub(crate) fn used() -> Duration {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten();
    let used = threads.filter_map(|thread| used_by(&thread.ok()?.path()));
    used.sum()
}

fn used_by(thread: &Path) -> Option<Duration> {
    let name = fs::read_to_string(thread.join("comm")).ok()?;
    if name.trim() != SERVER {
        return None;
    }
    // Nanoseconds on the processor, nanoseconds waiting for it, time slices.
    let schedule = fs::read_to_string(thread.join("schedstat")).ok()?;
    let nanos = schedule.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

/// So long a handler computes before it lets others have a turn.
const SLICE: Duration = Duration::from_micros(500);

/// Keeps the processor busy for so long, if it has it for itself: what is fixed is the number of steps.
pub(crate) async fn burn(time: Duration) {
    let mut left = time;
    while !left.is_zero() {
        let slice = left.min(SLICE);
        steps((slice.as_secs_f64() * steps_a_second()) as u64);
        left -= slice;
        yield_now().await;
    }
}

pub(crate) fn steps_a_second() -> f64 {
    static STEPS: OnceLock<f64> = OnceLock::new();
    *STEPS.get_or_init(|| {
        const TRIED: u64 = 100_000;
        let try_once = |_| {
            let start = Instant::now();
            steps(TRIED);
            start.elapsed()
        };
        // The quickest was disturbed least.
        let quickest = (0..100).map(try_once).min().unwrap_or_default();
        TRIED as f64 / quickest.as_secs_f64()
    })
}

fn steps(count: u64) {
    let mut value = 1_u64;
    for step in 0..count {
        value = black_box(value.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ step);
    }
}
