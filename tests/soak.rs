//! A million requests that end in all possible ways. Afterwards none is in flight.

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
            // Not both, nor with another panic: a second panic would abort the process.
            (inner.drop_panics, inner.body_drop_panics) = (self.one_in(2), false);
            inner.body_drop_panics = !inner.drop_panics;
            inner.poll.retain(|step| *step != Step::Panic);
            inner.ready.retain(|step| *step != Step::Panic);
            inner.body.steps.retain(|step| *step != Step::Panic);
        }
        inner
    }
}

/// A future, a response or a permit that a later request drops, on any thread.
type Held = Box<dyn Any + Send>;

/// Polls the request up to `polls` times, and reads a part of its response. Then the client cancels.
fn follow<F, B>(future: F, polls: usize, random: &mut Random) -> Option<Held>
where
    F: Future<Output = Result<Response<ResponseBody<B>>, Broken>> + Send + 'static,
    B: Body<Data = bytes::Bytes, Error = Broken> + Unpin + Send + 'static,
{
    let mut future = Box::pin(future);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..polls {
        let Poll::Ready(result) = Pin::as_mut(&mut future).poll(&mut cx) else {
            continue;
        };
        let mut response = result.ok()?;
        for _ in 0..random.below(6) {
            if matches!(next_frame(&mut response), Poll::Ready(None | Some(Err(_)))) {
                break;
            }
        }
        // By hand: a return value is leaked where the drop of a local panics (rust-lang/rust#47949).
        drop(future);
        return random.one_in(2).then(|| Box::new(response) as Held);
    }
    random.one_in(2).then(|| Box::new(future) as Held)
}

struct Soak {
    budget: Budget,
    alone: LoadShed,
    outer: LoadShed,
    by_path: LoadShed,
    held: Mutex<Vec<Held>>,
}

impl Soak {
    fn request(&self, random: &mut Random) {
        let inner = random.inner();
        let polls = random.below(5);
        let held = catch_unwind(AssertUnwindSafe(|| match random.below(8) {
            0 => follow(
                self.by_path.layer(inner).call(get("/exempt")),
                polls,
                random,
            ),
            1 => follow(self.by_path.layer(inner).call(get("/never")), polls, random),
            2 => {
                let permit: Result<Permit, _> = self.budget.try_acquire(Threshold::ratio(0.9));
                if random.one_in(50) {
                    support::panic_on_purpose();
                }
                permit.ok().map(|permit| Box::new(permit) as Held)
            }
            3 | 4 => follow(
                self.outer.layer(self.alone.layer(inner)).call(get("/")),
                polls,
                random,
            ),
            _ => follow(self.alone.layer(inner).call(get("/")), polls, random),
        }));
        let mut all_held = self.held.lock().unwrap();
        all_held.extend(held.ok().flatten());
        let gone = (all_held.len() > random.below(12)).then(|| {
            let nth = random.below(all_held.len());
            all_held.swap_remove(nth)
        });
        drop(all_held);
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
        held: Mutex::new(Vec::new()),
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
    for held in soak.held.into_inner().unwrap() {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(held)));
    }
    let figures = budget.snapshot();
    assert_eq!(figures.in_flight, 0, "{figures:?}");
    assert_eq!(
        figures.admitted + figures.refused + figures.exempt,
        requests,
        "{figures:?}"
    );
    // Each kind of decision occurred.
    for figure in [figures.admitted, figures.refused, figures.exempt] {
        assert!(figure > requests / 20, "{figures:?}");
    }
}

#[test]
fn p03_after_a_million_requests_on_two_threads_none_is_in_flight_and_none_is_missing() {
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

/// Otherwise the tests above would prove nothing.
#[test]
fn the_scripts_contain_each_way_to_end() {
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
