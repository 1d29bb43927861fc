//! The same work on several threads at once.

// The bench measures wall-clock time.
#![expect(clippy::disallowed_methods)]

use std::{
    hint::black_box,
    iter::repeat,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

/// Runs one request; returns whether it was served.
pub(crate) type Once = Box<dyn FnMut() -> bool + Send>;

/// The stack offsets at which requests run. Where the frames of one and the same code lie decides over up to 30 % of its time.
const OFFSETS: usize = 16;

/// Runs `work` some 200 bytes deeper in the stack for each of `levels`.
#[inline(never)]
fn deeper(levels: usize, work: &mut dyn FnMut()) {
    // Of an odd number of 16 bytes, the alignment of a stack: so that frames begin everywhere in a cache line.
    let pad = black_box([0_u8; 208]);
    match levels {
        0 => work(),
        _ => deeper(levels - 1, work),
    }
    black_box(pad);
}

/// Returns nanoseconds per request on each thread, over 16 stack offsets, and the share that was served. Each item of `threads` is the work of one thread.
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
        let mut served = 0;
        for offset in 0..OFFSETS {
            deeper(offset, &mut || {
                served += (0..requests / OFFSETS).filter(|_| request()).count();
            });
        }
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
    let all = (count * (requests / OFFSETS) * OFFSETS) as f64;
    let took: f64 = each.iter().map(|(took, _)| took).sum();
    let served: usize = each.iter().map(|(_, served)| served).sum();
    (took / all, served as f64 / all)
}
