//! The same work on several threads at once.

// The wall clock is what is measured.
#![expect(clippy::disallowed_methods)]

use std::{
    iter::repeat,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

/// One request: whether it was served.
pub(crate) type Once = Box<dyn FnMut() -> bool + Send>;

/// Nanoseconds a request on each thread, and the share that was served. Each of `threads` is one's work.
pub(crate) fn time(threads: &mut [Once], requests: usize) -> (f64, f64) {
    let count = threads.len();
    let (ready, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let run = |request: &mut Once| {
        for _ in 0..requests / 20 {
            request();
        }
        // Not a barrier: who sleeps at one may wake after the others have finished, and has met none of them.
        ready.fetch_add(1, Ordering::AcqRel);
        while ready.load(Ordering::Acquire) < count {
            thread::yield_now();
        }
        let start = Instant::now();
        let served: usize = (0..requests).map(|_| usize::from(request())).sum();
        let took = start.elapsed().as_nanos() as f64;
        // The others are in the way of one another to the end.
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
            // Each on a processor of its own: on one, they would take turns and never meet.
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
