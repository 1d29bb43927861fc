//! A million requests that end in every way there is, and nothing is left behind.

mod support;

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use http::Response;
use http_body::Body;
use loadshed::{Budget, LoadShed, Measure, Permit, ResponseBody, Threshold};
use tower::{Layer, Service};

use support::{Broken, FnController, Scripted, Step, body, get, next_frame, quiet};

const REQUESTS: usize = 1_000_000;
const THREADS: usize = 2;

struct Random(fastrand::Rng);

impl Random {
    fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    fn below(&mut self, n: usize) -> usize {
        self.0.usize(..n)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn script(&mut self, usual: Step, most: usize) -> Vec<Step> {
        let mut steps = vec![usual; self.below(most + 1)];
        if self.one_in(30) {
            steps.push(Step::Fail);
        } else if self.one_in(100) {
            steps.push(Step::Panic);
        }
        steps
    }

    fn inner(&mut self) -> Scripted {
        let mut inner = Scripted {
            poll: self.script(Step::Wait, 2).into(),
            call_panics: self.one_in(400),
            body: body(self.script(Step::Data, 3)),
            ..Scripted::default()
        };
        inner.body.tells_its_end = self.one_in(2);
        if self.one_in(5) {
            inner.ready = self.script(Step::Wait, 2).into();
        }
        if self.one_in(400) {
            // Not both, nor with another panic: the second one would end the process.
            (inner.drop_panics, inner.body_drop_panics) = (self.one_in(2), false);
            inner.body_drop_panics = !inner.drop_panics;
            inner.poll.retain(|step| *step != Step::Panic);
            inner.ready.retain(|step| *step != Step::Panic);
            inner.body.steps.retain(|step| *step != Step::Panic);
        }
        inner
    }
}

/// What is kept for a while, to be dropped by whichever thread comes by.
type Kept = Box<dyn Any + Send>;

/// Polls the request and reads its answer for as long as the client has patience.
fn follow<F, B>(future: F, patience: usize, random: &mut Random) -> Option<Kept>
where
    F: Future<Output = Result<Response<ResponseBody<B>>, Broken>> + Send + 'static,
    B: Body<Data = bytes::Bytes, Error = Broken> + Unpin + Send + 'static,
{
    let mut future = Box::pin(future);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..patience {
        let Poll::Ready(answered) = Pin::as_mut(&mut future).poll(&mut cx) else {
            continue;
        };
        let mut response = answered.ok()?;
        for _ in 0..random.below(6) {
            if matches!(next_frame(&mut response), Poll::Ready(None | Some(Err(_)))) {
                break;
            }
        }
        // By hand: what a function is about to return is leaked where a local's drop panics (rust-lang/rust#47949).
        drop(future);
        return random.one_in(2).then(|| Box::new(response) as Kept);
    }
    random.one_in(2).then(|| Box::new(future) as Kept)
}

struct Soak {
    budget: Budget,
    alone: LoadShed,
    outer: LoadShed,
    by_path: LoadShed,
    kept: Mutex<Vec<Kept>>,
}

impl Soak {
    fn request(&self, random: &mut Random) {
        let inner = random.inner();
        let patience = random.below(5);
        let kept = catch_unwind(AssertUnwindSafe(|| match random.below(8) {
            0 => follow(
                self.by_path.layer(inner).call(get("/exempt")),
                patience,
                random,
            ),
            1 => follow(
                self.by_path.layer(inner).call(get("/never")),
                patience,
                random,
            ),
            2 => {
                let permit: Result<Permit, _> = self.budget.try_acquire(Threshold::ratio(0.9));
                if random.one_in(50) {
                    support::panic_on_purpose();
                }
                permit.ok().map(|permit| Box::new(permit) as Kept)
            }
            3 | 4 => follow(
                self.outer.layer(self.alone.layer(inner)).call(get("/")),
                patience,
                random,
            ),
            _ => follow(self.alone.layer(inner).call(get("/")), patience, random),
        }));
        let mut all_kept = self.kept.lock().unwrap();
        all_kept.extend(kept.ok().flatten());
        let gone = (all_kept.len() > random.below(12)).then(|| {
            let nth = random.below(all_kept.len());
            all_kept.swap_remove(nth)
        });
        drop(all_kept);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(gone)));
    }
}

fn soak(budget: Budget, requests: usize) {
    quiet();
    let alone = LoadShed::ratio(0.75).budget(&budget);
    let by_path = |head: &http::Request<()>| match head.uri().path() {
        "/exempt" => Threshold::EXEMPT,
        _ => Threshold::NEVER_SHED,
    };
    let soak = Soak {
        outer: LoadShed::observe().budget(&budget),
        by_path: alone.clone().measure(Measure::Body).threshold(by_path),
        alone,
        kept: Mutex::new(Vec::new()),
        budget: budget.clone(),
    };
    thread::scope(|scope| {
        for seed in 0..THREADS as u64 {
            let soak = &soak;
            scope.spawn(move || {
                let mut random = Random::new(seed);
                for _ in 0..requests / THREADS {
                    soak.request(&mut random);
                }
            });
        }
    });
    for kept in soak.kept.into_inner().unwrap() {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(kept)));
    }
    let figures = budget.snapshot();
    assert_eq!(figures.in_flight, 0, "{figures:?}");
    assert_eq!(
        figures.admitted + figures.refused + figures.exempt,
        requests,
        "{figures:?}"
    );
    // It was about something.
    for figure in [figures.admitted, figures.refused, figures.exempt] {
        assert!(figure > requests / 20, "{figures:?}");
    }
}

#[test]
fn p03_after_a_million_requests_on_two_threads_nothing_is_in_flight_and_none_is_missing() {
    soak(Budget::fixed(8), REQUESTS);
}

#[test]
fn p03_the_same_while_a_controller_moves_the_limit_all_the_time() {
    let moves = Arc::new(AtomicUsize::new(0));
    let controller = FnController::new(1..=12, 8, {
        let moves = Arc::clone(&moves);
        move |_| moves.fetch_add(1, Ordering::Relaxed) * 7 % 13
    });
    soak(
        Budget::new(controller.every(Duration::from_micros(100))),
        REQUESTS / 10,
    );
    assert!(moves.load(Ordering::Relaxed) > 10, "{moves:?}");
}

/// Or all of the above says nothing.
#[test]
fn the_scripts_have_every_way_to_end_in_them() {
    let mut random = Random::new(0);
    let inners: Vec<_> = (0..10_000).map(|_| random.inner()).collect();
    for step in [Step::Fail, Step::Panic] {
        assert!(inners.iter().any(|inner| inner.ready.contains(&step)));
        assert!(inners.iter().any(|inner| inner.poll.contains(&step)));
        assert!(inners.iter().any(|inner| inner.body.steps.contains(&step)));
    }
    assert!(inners.iter().any(|inner| inner.call_panics));
    assert!(
        inners.iter().any(|inner| inner.drop_panics)
            && inners.iter().any(|inner| inner.body_drop_panics)
    );
}
