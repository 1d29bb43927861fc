//! Processor time of the server.

use std::{fs, hint::black_box, path::Path, sync::OnceLock, time::Duration};

use tokio::{task::yield_now, time::Instant};

/// Name of the server's threads.
pub(crate) const SERVER: &str = "server";

/// Returns the processor time of all threads of this name so far; zero where the system is not Linux.
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

/// A handler yields after computing for this long.
const SLICE: Duration = Duration::from_micros(500);

/// Computes a fixed number of steps, which takes this long on a processor of its own.
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
        // The shortest time had the least disturbance.
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
