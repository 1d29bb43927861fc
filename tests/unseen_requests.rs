//! A layer that admits requests without a look at them decides as a layer that looks at each.

// With figures of each route, each request is looked up.
#![cfg(not(feature = "metrics"))]

use std::{
    convert::Infallible,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use loadshed::{Budget, Criticality, Handle, LoadShed, ResponseBody, Threshold};
use proptest::prelude::*;
use tokio::time::sleep;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

type Answer = Response<ResponseBody<Full<Bytes>>>;

/// The settings that tell requests apart.
#[derive(Clone, Copy, Debug)]
struct Rules {
    routes: bool,
    only: bool,
    classes: bool,
    key: bool,
    /// In twentieths.
    ratio: usize,
    limit: usize,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    /// A request for one of the paths, of one of the classes, by one of the callers.
    Arrive(usize, usize, usize),
    /// One of the requests in flight ends.
    End(usize),
    /// As many requests arrive and end, one after the other.
    Idle(usize),
    SetRatio(usize),
    SetAt(usize),
    SetLimit(usize),
    SetDryRun(bool),
}

const CLASSES: [Criticality; 4] = [
    Criticality::Sheddable,
    Criticality::SheddablePlus,
    Criticality::Critical,
    Criticality::CriticalPlus,
];
const PATHS: [&str; 4] = ["/export", "/mail", "/free", "/other"];

fn rules() -> impl Strategy<Value = Rules> {
    let bits = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (bits, 8_usize..=20, 1_usize..60).prop_map(|((routes, only, classes, key), ratio, limit)| {
        Rules {
            routes,
            only: only && routes,
            classes,
            key,
            ratio,
            limit,
        }
    })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        16 => (0..PATHS.len(), 0..4_usize, 0..6_usize).prop_map(|(path, class, key)| Op::Arrive(path, class, key)),
        10 => any::<usize>().prop_map(Op::End),
        2 => (60_usize..300).prop_map(Op::Idle),
        1 => (1_usize..=20).prop_map(Op::SetRatio),
        1 => (1_usize..=20).prop_map(Op::SetAt),
        1 => (1_usize..60).prop_map(Op::SetLimit),
        1 => any::<bool>().prop_map(Op::SetDryRun),
    ]
}

fn number(head: &Request<()>, name: &str) -> usize {
    let number = head.headers().get(name);
    number.map_or(0, |number| number.to_str().unwrap().parse().unwrap())
}

fn layer(rules: Rules, asked: &Arc<AtomicUsize>) -> (LoadShed, Budget) {
    let budget = Budget::fixed(rules.limit);
    let mut layer = LoadShed::ratio(rules.ratio as f64 / 20.0).budget(&budget);
    if rules.routes {
        layer = layer.at("/export", 0.6).except(["/free"]);
    }
    if rules.only {
        layer = layer.only(["/mail"]);
    }
    if rules.classes {
        let asked = Arc::clone(asked);
        layer = layer.classify(move |head| {
            asked.fetch_add(1, Ordering::Relaxed);
            CLASSES[number(head, "x-class")]
        });
    }
    if rules.key {
        let asked = Arc::clone(asked);
        let key = move |head: &Request<()>| {
            asked.fetch_add(1, Ordering::Relaxed);
            number(head, "x-key")
        };
        layer = layer.key_with_rotation(key, || 0);
    }
    (layer, budget)
}

struct System {
    call: Box<dyn FnMut(Request<Full<Bytes>>) -> Answer>,
    handle: Handle,
    budget: Budget,
    in_flight: Vec<Answer>,
}

impl System {
    fn new((layer, budget): (LoadShed, Budget)) -> Self {
        let handle = layer.handle();
        // The body is not at its end with the head, so the request stays in flight.
        let inner = |_| {
            ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(
                "done",
            )))))
        };
        let mut service = layer.layer(service_fn(inner));
        let call = move |request| {
            let mut cx = Context::from_waker(Waker::noop());
            match Box::pin(service.call(request)).as_mut().poll(&mut cx) {
                Poll::Ready(response) => response.unwrap(),
                Poll::Pending => unreachable!("the inner service is ready"),
            }
        };
        Self {
            call: Box::new(call),
            handle,
            budget,
            in_flight: Vec::new(),
        }
    }

    /// Returns how many requests were refused, or whether the change was accepted.
    fn apply(&mut self, op: Op) -> usize {
        match op {
            Op::Arrive(path, class, key) => {
                let request = Request::get(PATHS[path])
                    .header("x-class", class)
                    .header("x-key", key);
                let answer = (self.call)(request.body(Full::default()).unwrap());
                let is_refused = answer.status() == StatusCode::TOO_MANY_REQUESTS;
                if !is_refused {
                    self.in_flight.push(answer);
                }
                usize::from(is_refused)
            }
            Op::End(nth) => {
                if !self.in_flight.is_empty() {
                    self.in_flight.swap_remove(nth % self.in_flight.len());
                }
                0
            }
            Op::Idle(requests) => (0..requests)
                .filter(|nth| {
                    let request = Request::get(PATHS[nth % PATHS.len()]).body(Full::default());
                    let answer = (self.call)(request.unwrap());
                    answer.status() == StatusCode::TOO_MANY_REQUESTS
                })
                .count(),
            Op::SetRatio(ratio) => self.handle.set_ratio(ratio as f64 / 20.0).is_ok().into(),
            Op::SetAt(ratio) => {
                let set = self.handle.set_at("/export", ratio as f64 / 20.0);
                set.is_ok().into()
            }
            Op::SetLimit(limit) => self.budget.set_limit(limit).is_ok().into(),
            Op::SetDryRun(dry_run) => {
                self.handle.set_dry_run(dry_run);
                0
            }
        }
    }

    fn figures(&self) -> [usize; 4] {
        let seen = self.budget.snapshot();
        [seen.in_flight, seen.marked, seen.admitted, seen.refused]
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn p10_a_request_that_is_not_looked_at_is_decided_upon_as_one_that_is(
        rules in rules(),
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let asked = Arc::new(AtomicUsize::new(0));
        let mut unseen = System::new(layer(rules, &asked));
        let (layer, budget) = layer(rules, &Arc::default());
        // A cost has to be asked for in each request.
        let mut seen = System::new((layer.cost(|_| 1), budget));
        for op in ops {
            prop_assert_eq!(unseen.apply(op), seen.apply(op), "{:?}", op);
            prop_assert_eq!(unseen.figures(), seen.figures(), "{:?}", op);
        }
    }
}

/// Returns how often the classifier is asked for 1,000 requests, with `held` requests in flight under a limit of 200.
fn asked_in_1_000(held: usize, change: impl FnOnce(LoadShed) -> LoadShed) -> usize {
    let rules = Rules {
        routes: true,
        only: false,
        classes: true,
        key: false,
        ratio: 17,
        limit: 200,
    };
    let asked = Arc::new(AtomicUsize::new(0));
    let (layer, budget) = layer(rules, &asked);
    let mut system = System::new((change(layer), budget));
    system.apply(Op::Idle(1_000));
    for _ in 0..held {
        system.apply(Op::Arrive(1, 0, 0));
    }
    system.apply(Op::Idle(1_000));
    let before = asked.swap(0, Ordering::Relaxed);
    assert!(before > 0);
    for _ in 0..1_000 {
        system.apply(Op::Arrive(1, 0, 0));
        system.apply(Op::End(held));
    }
    asked.load(Ordering::Relaxed)
}

#[test]
fn far_from_full_the_classifier_is_asked_for_few_requests() {
    assert!(asked_in_1_000(0, |layer| layer) < 20);
    assert!(asked_in_1_000(40, |layer| layer) < 20);
}

#[test]
fn the_classifier_is_asked_for_each_request_where_the_answer_matters() {
    assert_eq!(asked_in_1_000(120, |layer| layer), 1_000);
    for change in [
        |layer: LoadShed| layer.expose_class(true),
        |layer: LoadShed| layer.exempt(["/healthz"]),
        |layer: LoadShed| layer.at("/batch", 0.49),
        |layer: LoadShed| layer.fair_by(|_| 0),
    ] {
        assert_eq!(asked_in_1_000(0, change), 1_000);
    }
}

#[tokio::test(start_paused = true)]
async fn p09_a_stalled_response_that_is_never_shed_goes_on_however_its_request_was_admitted() {
    let budget = Budget::fixed(200);
    let inner = service_fn(|_| async {
        let frame = || Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"more")));
        let frames = stream::iter(std::iter::repeat_with(frame));
        Ok::<_, Infallible>(Response::new(StreamBody::new(frames)))
    });
    let layer = LoadShed::ratio(0.5).except(["/login"]).budget(&budget);
    let service = layer.layer(inner);
    // One in 4,096 looks for a layer that is nested in itself.
    let mut bodies = Vec::new();
    for nth in 0..5_000 {
        let login = Request::get("/login").body(Full::<Bytes>::default());
        let response = service.clone().oneshot(login.unwrap()).await.unwrap();
        if nth % 1_024 < 2 {
            let mut body = response.into_body();
            assert!(body.frame().await.unwrap().is_ok());
            bodies.push(body);
        }
    }
    for _ in 0..75 {
        sleep(Duration::from_secs(1)).await;
        drop(budget.try_acquire_many(200, Threshold::ratio(0.05)));
    }
    assert_eq!(budget.snapshot().stalled, bodies.len());
    let all = [(); 200].map(|()| budget.try_acquire(Threshold::ratio(1.0)).unwrap());
    for body in &mut bodies {
        assert!(body.frame().await.unwrap().is_ok());
    }
    assert_eq!(budget.in_flight(), all.len() + bodies.len());
}
