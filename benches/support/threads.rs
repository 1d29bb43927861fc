//! The same work on several threads at once.

// The bench measures wall-clock time.
#![expect(clippy::disallowed_methods)]

use std::{
    iter::repeat,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

/// Runs one request; returns whether it was served.
pub(crate) type Once = Box<dyn FnMut() -> bool + Send>;

/// Returns nanoseconds per request on each thread, and the share that was served. Each item of `threads` is the work of one thread.
pub(crate) fn time(threads: &mut [Once], requests: usize) -> (f64, f64) {
    let count = threads.len();
    let (ready, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let run = |request: &mut Once| {
        for _ in 0..requests / 20 {
            request();
        }
        // Not a barrier: a thread that sleeps at a barrier may wake after the others have finished.
        ready.fetch_add(1, Ordering::AcqRel);
        while ready.load(Ordering::Acquire) < count {
            thread::yield_now();
        }
        let start = Instant::now();
        let served: usize = (0..requests).map(|_| usize::from(request())).sum();
        let took = start.elapsed().as_nanos() as f64;
        // The other threads contend until the last of them has finished.
        done.fetch_add(1, Ordering::AcqRel);
        while done.load(Ordering::Acquire) < count {
            for _ in 0..100 {
                request();
            }
        }
        (took, served)
    };
    let each: Vec<_> = match threads {
        [request] => vec![run(request)],
        _ => thread::scope(|scope| {
            // Each on its own processor: on a shared one, the threads would alternate and never contend.
            let processors = core_affinity::get_core_ids().unwrap_or_default();
            let processors = processors.into_iter().map(Some).chain(repeat(None));
            let running = threads
                .iter_mut()
                .zip(processors)
                .map(|(request, processor)| {
                    let run = &run;
                    scope.spawn(move || {
                        processor.map(core_affinity::set_for_current);
                        run(request)
                    })
                });
            let running: Vec<_> = running.collect();
            let results = running.into_iter().map(|thread| thread.join().unwrap());
            results.collect()
        }),
    };
    let all = (count * requests) as f64;
    let took: f64 = each.iter().map(|(took, _)| took).sum();
    let served: usize = each.iter().map(|(_, served)| served).sum();
    (took / all, served as f64 / all)
}
