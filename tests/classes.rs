//! Which requests go first, told by their class.

mod support;

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, thread};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderName, Request, Response};
use http_body_util::{Empty, Full};
use loadshed::{
    Budget,
    Criticality::{self, Critical, CriticalPlus, Sheddable, SheddablePlus},
    LoadShed, Shed, Threshold,
};
use proptest::prelude::*;
use tower::{Layer, Service, service_fn};

use support::{Req, all, answer, get, holding, is_refused, panic_on_purpose, quiet};

const ALL: [Criticality; 4] = [Sheddable, SheddablePlus, Critical, CriticalPlus];

/// Of the class that its path names.
fn of(class: Criticality) -> Req {
    get(&format!("/{class}"))
}

fn by_path(shed: LoadShed) -> LoadShed {
    shed.classify(|head| head.uri().path()[1..].parse().unwrap())
}

fn shed_of<B>(response: &Response<B>) -> &Shed {
    response
        .extensions()
        .get()
        .expect("a refusal has its reason")
}

/// How many of a class are admitted, if nothing else comes.
fn room(shed: &LoadShed, limit: usize, class: Criticality) -> usize {
    let budget = Budget::fixed(limit);
    let mut service = shed.clone().budget(&budget).layer(holding());
    let admitted = (0..=limit).map(|_| answer(&mut service, of(class)));
    let admitted: Vec<_> = admitted
        .take_while(|response| !is_refused(response))
        .collect();
    admitted.len()
}

fn rooms(shed: &LoadShed, limit: usize) -> [usize; 4] {
    ALL.map(|class| room(shed, limit, class))
}

#[test]
fn the_ratio_is_where_the_lowest_class_stops_and_the_others_divide_the_rest() {
    assert_eq!(
        rooms(&by_path(LoadShed::ratio(0.29)), 300),
        [87, 158, 229, 300]
    );
    assert_eq!(
        rooms(&by_path(LoadShed::ratio(0.85)), 200),
        [170, 180, 190, 200]
    );
    assert_eq!(rooms(&by_path(LoadShed::ratio(0.85)), 1), [1; 4]);
    assert_eq!(rooms(&by_path(LoadShed::ratio(1.0)), 10), [10; 4]);
}

#[test]
fn each_class_can_be_set_and_the_others_move_with_the_ratio() {
    let shed = by_path(LoadShed::ratio(0.5)).class_ratios([(SheddablePlus, 0.8), (Critical, 0.98)]);
    assert_eq!(rooms(&shed, 100), [50, 80, 98, 100]);
    shed.handle().set_ratio(0.6).unwrap();
    assert_eq!(rooms(&shed, 100), [60, 80, 98, 100]);

    let shed = by_path(LoadShed::ratio(0.5)).class_ratios([(CriticalPlus, 0.95), (Sheddable, 0.4)]);
    assert_eq!(rooms(&shed, 100), [40, 60, 80, 95]);

    let shed = by_path(LoadShed::ratio(0.7));
    shed.handle().set_ratio(0.1).unwrap();
    assert_eq!(rooms(&shed, 100), [10, 40, 70, 100]);

    // An observer has no ladder until it is given a ratio.
    let shed = by_path(LoadShed::observe()).class_ratios([(Critical, 0.9)]);
    assert_eq!(rooms(&shed, 10), [11; 4]);
    shed.handle().set_ratio(0.1).unwrap();
    assert_eq!(rooms(&shed, 10), [1, 4, 9, 10]);
}

#[test]
fn a_ladder_out_of_order_is_refused_with_both_classes_named() {
    let told = |ratios: &[_]| {
        let set = LoadShed::ratio(0.85).try_class_ratios(ratios.iter().copied());
        set.unwrap_err().to_string()
    };
    assert_eq!(
        told(&[(Critical, 0.88)]),
        "class ratios: CRITICAL at 0.88 was given, allowed is no class above a higher one, and \
         SHEDDABLE_PLUS would be at 0.85 + 1/3 of the rest, CRITICAL at 0.88"
    );
    assert_eq!(
        told(&[(Critical, 0.95), (SheddablePlus, 0.96)]),
        "class ratios: CRITICAL at 0.95, SHEDDABLE_PLUS at 0.96 was given, allowed is no class above a higher one, \
         and SHEDDABLE_PLUS would be at 0.96, CRITICAL at 0.95"
    );
    assert_eq!(
        told(&[(Critical, 1.5)]),
        "ratio: 1.5 was given, allowed is more than 0 and at most 1"
    );

    let shed = by_path(LoadShed::ratio(0.5)).class_ratios([(SheddablePlus, 0.8)]);
    assert_eq!(
        shed.handle().set_ratio(0.81).unwrap_err().to_string(),
        "ratio: 0.81 was given, allowed is no class above a higher one, and SHEDDABLE would be at 0.81, \
         SHEDDABLE_PLUS at 0.8"
    );
    assert_eq!(room(&shed, 100, Sheddable), 50, "the old one stays");
    shed.handle().set_ratio(0.8).unwrap();
}

#[test]
fn the_class_of_a_refused_request_is_told() {
    for class in ALL {
        let budget = Budget::fixed(1);
        let _held = budget.try_acquire(all()).unwrap();
        let service = |shed: LoadShed| by_path(shed).budget(&budget).layer(holding());
        let mut laddered = service(LoadShed::ratio(0.5));
        let refused = answer(&mut laddered, of(class));
        assert_eq!(shed_of(&refused).criticality(), class);
        // Also where it is not the class that decides.
        let mut routed = service(LoadShed::ratio(1.0).at("/{class}", 0.5));
        assert_eq!(
            shed_of(&answer(&mut routed, of(class))).criticality(),
            class
        );
        let mut decided = service(LoadShed::ratio(1.0).threshold(|_| Threshold::ratio(0.5)));
        assert_eq!(
            shed_of(&answer(&mut decided, of(class))).criticality(),
            class
        );
    }
    let budget = Budget::fixed(1);
    let _held = budget.try_acquire(all()).unwrap();
    let mut plain = LoadShed::ratio(1.0).budget(&budget).layer(holding());
    assert_eq!(
        shed_of(&answer(&mut plain, get("/"))).criticality(),
        Sheddable
    );
}

#[tokio::test(start_paused = true)]
async fn lower_classes_are_told_to_wait_longer() {
    let budget = Budget::fixed(1);
    let _held = budget.try_acquire(all()).unwrap();
    let mut service = by_path(LoadShed::ratio(0.5))
        .budget(&budget)
        .layer(holding());
    let mut wait = |class| shed_of(&answer(&mut service, of(class))).retry_after();
    let mut last = ALL.map(|_| std::time::Duration::ZERO);
    for _ in 0..20 {
        last = ALL.map(&mut wait);
    }
    assert!(
        last.is_sorted_by(|lower, higher| lower > higher),
        "{last:?}"
    );
}

#[test]
fn a_closure_for_thresholds_decides_whatever_the_class() {
    let shed = by_path(LoadShed::ratio(1.0)).threshold(|_| Threshold::ratio(0.3));
    assert_eq!(rooms(&shed, 10), [3; 4]);
}

#[test]
fn p09_a_panic_in_a_classifier_counts_as_never() {
    quiet();
    let budget = Budget::fixed(1);
    let shed = LoadShed::ratio(0.5)
        .budget(&budget)
        .classify(|_| panic_on_purpose());
    let mut service = shed.layer(holding());
    let running: Vec<_> = (0..3).map(|_| answer(&mut service, get("/"))).collect();
    assert!(!running.iter().any(is_refused));
    assert_eq!(budget.in_flight(), 3);
}

fn class() -> impl Strategy<Value = Criticality> {
    proptest::sample::select(ALL.to_vec())
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Comes(Criticality),
    /// The nth of those that run.
    Goes(usize),
    Limit(usize),
    Ratio(u32),
    ClassRatio(Criticality, u32),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        10 => class().prop_map(Event::Comes),
        5 => (0_usize..100).prop_map(Event::Goes),
        1 => (1_usize..40).prop_map(Event::Limit),
        1 => (1_u32..=100).prop_map(Event::Ratio),
        1 => (class(), 1_u32..=100).prop_map(|(class, percent)| Event::ClassRatio(class, percent)),
    ];
    proptest::collection::vec(event, 1..200)
}

proptest! {
    /// After each event, one of each class is asked about at the same moment: tried, and given back.
    #[test]
    fn p10_no_class_is_refused_at_a_moment_at_which_a_lower_one_is_admitted(
        ratio in (1_u32..=1_000).prop_map(|n| f64::from(n) / 1_000.0),
        set in proptest::collection::btree_map(class(), (1_u32..=100).prop_map(|n| f64::from(n) / 100.0), 0..3),
        limit in 1_usize..40,
        events in events(),
    ) {
        let budget = Budget::fixed(limit);
        let shed = by_path(LoadShed::ratio(ratio)).budget(&budget);
        // One that is out of order is refused, and the even ladder stays.
        let shed = shed.clone().try_class_ratios(set).unwrap_or(shed);
        let handle = shed.handle();
        let mut service = shed.layer(holding());
        let mut running = Vec::new();
        for event in events {
            match event {
                Event::Comes(class) => {
                    let response = answer(&mut service, of(class));
                    if !is_refused(&response) {
                        running.push(response);
                    }
                }
                Event::Goes(nth) if !running.is_empty() => drop(running.swap_remove(nth % running.len())),
                Event::Goes(_) => {}
                Event::Limit(limit) => budget.set_limit(limit).unwrap(),
                // It may be above a class that was set.
                Event::Ratio(percent) => { let _ = handle.set_ratio(f64::from(percent) / 100.0); }
                Event::ClassRatio(class, percent) => {
                    let _ = handle.set_class_ratios([(class, f64::from(percent) / 100.0)]);
                }
            }
            let before = budget.in_flight();
            let admitted = ALL.map(|class| !is_refused(&answer(&mut service, of(class))));
            prop_assert_eq!(budget.in_flight(), before);
            prop_assert!(admitted.is_sorted(), "{:?} with {} of {}", admitted, before, budget.limit());
        }
        drop(running);
        prop_assert_eq!(budget.in_flight(), 0);
    }

    /// A sequence of classes, and how many of which run: what a class below its ratio is refused for is never those below.
    #[test]
    fn a_class_below_its_ratio_is_never_refused_because_of_a_class_below_it(
        percent in 1_u32..=100,
        limit in 1_usize..60,
        flood in proptest::collection::vec(class(), 0..200),
        top in class(),
    ) {
        let shed = by_path(LoadShed::ratio(f64::from(percent) / 100.0));
        let room_of = |class| room(&shed, limit, class);
        let budget = Budget::fixed(limit);
        let mut service = shed.clone().budget(&budget).layer(holding());
        let lower: Vec<_> = flood.into_iter().filter(|class| *class < top).collect();
        let mut admitted: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for class in lower {
            let response = answer(&mut service, of(class));
            if !is_refused(&response) {
                admitted.entry(class).or_default().push(response);
            }
        }
        let held = budget.in_flight();
        // However many of the lower ones came, they hold no more than the next lower class may, and the rest is free.
        let below = ALL.into_iter().rfind(|class| *class < top);
        prop_assert!(held <= below.map_or(0, room_of));
        let free = room_of(top) - held;
        let ours: Vec<_> = (0..free).map(|_| answer(&mut service, of(top))).collect();
        prop_assert!(!ours.iter().any(is_refused));
        prop_assert!(is_refused(&answer(&mut service, of(top))));
    }
}

#[test]
fn p10_the_room_above_a_class_is_there_for_the_next_while_threads_flood_the_lower_ones() {
    const LIMIT: usize = 20;
    let budget = Budget::fixed(LIMIT);
    let shed = Arc::new(by_path(LoadShed::ratio(0.4)).budget(&budget));
    // 8, 12, 16 and 20. Two threads flood what may take up to 16.
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for classes in [[Sheddable, Critical], [SheddablePlus, Critical]] {
            let (shed, stop) = (&shed, &stop);
            scope.spawn(move || {
                let mut service = shed.layer(holding());
                let mut running = std::collections::VecDeque::new();
                for class in classes.into_iter().cycle() {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                    let response = answer(&mut service, of(class));
                    if !is_refused(&response) {
                        running.push_back(response);
                    }
                    if running.len() > 12 {
                        running.pop_front();
                    }
                }
            });
        }
        let mut service = shed.layer(holding());
        for _ in 0..20_000 {
            let four: Vec<_> = (0..4)
                .map(|_| answer(&mut service, of(CriticalPlus)))
                .collect();
            if four.iter().any(is_refused) {
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
                panic!("the four places above CRITICAL are there");
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(budget.snapshot().refused > 0, "they did flood it");
    assert_eq!(budget.in_flight(), 0);
}

const HEADER: HeaderName = HeaderName::from_static("x-criticality");

/// The class that `believed` and the headers come to.
fn by_header(believed: Criticality, claims: &[&str]) -> Criticality {
    let mut request = get("/");
    for claim in claims {
        request.headers_mut().append(HEADER, claim.parse().unwrap());
    }
    let budget = Budget::fixed(1);
    let _held = budget.try_acquire(all()).unwrap();
    let shed = LoadShed::ratio(0.5)
        .budget(&budget)
        .classify_by_header(HEADER, move |_| believed);
    shed_of(&answer(&mut shed.layer(holding()), request)).criticality()
}

#[test]
fn a_header_is_believed_up_to_what_the_caller_is_allowed() {
    for believed in ALL {
        for claimed in ALL {
            let class = by_header(believed, &[&claimed.to_string()]);
            assert_eq!(class, claimed.min(believed));
        }
    }
    for nothing in [
        &[][..],
        &[""],
        &["critical"],
        &["CRITICAL,CRITICAL"],
        &["4"],
    ] {
        assert_eq!(by_header(CriticalPlus, nothing), Sheddable, "{nothing:?}");
    }
    // A proxy that adds its own is not outbid by the caller.
    assert_eq!(
        by_header(CriticalPlus, &["CRITICAL_PLUS", "SHEDDABLE_PLUS"]),
        SheddablePlus
    );
    assert_eq!(
        by_header(CriticalPlus, &["CRITICAL", "none of them"]),
        Sheddable
    );
}

/// What a handler finds in the extensions.
fn exposed(shed: LoadShed, request: Req) -> Option<Criticality> {
    let inner = service_fn(|request: Req| {
        let mut response = Response::new(Full::<Bytes>::default());
        if let Some(class) = request.extensions().get::<Criticality>() {
            response.extensions_mut().insert(*class);
        }
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let response = shed
        .layer(inner)
        .call(request)
        .now_or_never()
        .unwrap()
        .unwrap();
    response.extensions().get().copied()
}

#[test]
fn a_handler_reads_the_class_where_it_is_asked_for() {
    let shed = || {
        by_path(LoadShed::ratio(0.5))
            .exempt(["/SHEDDABLE"])
            .except(["/CRITICAL"])
    };
    assert_eq!(exposed(shed(), of(Critical)), None);
    let exposing = || shed().expose_class(true);
    assert_eq!(exposed(exposing(), of(SheddablePlus)), Some(SheddablePlus));
    assert_eq!(exposed(exposing(), of(Critical)), Some(Critical));
    assert_eq!(exposed(exposing(), of(Sheddable)), None, "exempt");
    let unclassified = LoadShed::ratio(0.5).expose_class(true);
    assert_eq!(exposed(unclassified, get("/")), Some(Sheddable));
}

#[test]
fn to_classify_costs_no_allocation_and_to_expose_the_class_a_few() {
    let cost = |shed: LoadShed, known: bool| {
        let inner = service_fn(|_: Request<Empty<Bytes>>| {
            std::future::ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
        });
        let mut service = shed.budget(Budget::fixed(9)).layer(inner);
        let mut request = get("/");
        if known {
            request.extensions_mut().insert(7_u8);
        }
        let mut request = Some(request);
        let mut call = || drop(service.call(request.take().unwrap()).now_or_never());
        allocation_counter::measure(&mut call).count_total
    };
    let classify = || LoadShed::ratio(0.85).classify(|_| Critical);
    let by_header = || LoadShed::ratio(0.85).classify_by_header(HEADER, |_| Critical);
    assert_eq!(cost(classify(), false), 0);
    assert_eq!(cost(by_header(), false), 0);
    assert_eq!(cost(classify().threshold(|_| Threshold::NEVER), false), 0);
    assert_eq!(cost(classify().expose_class(true), false), 3);
    assert_eq!(cost(classify().expose_class(true), true), 1);
}

/// The class comes in by a header, is read by the handler, and goes out by a header to the next server.
#[cfg(feature = "client")]
#[test]
fn a_class_goes_along_to_the_next_server() {
    let server = || {
        LoadShed::ratio(0.5)
            .classify_by_header(HEADER, |_| Critical)
            .expose_class(true)
    };
    for (claimed, passed_on) in [
        ("SHEDDABLE_PLUS", SheddablePlus),
        ("CRITICAL_PLUS", Critical),
        ("", Sheddable),
    ] {
        let next = server().layer(service_fn(|request: Req| {
            let class = request.extensions().get::<Criticality>().copied();
            let mut response = Response::new(Full::<Bytes>::default());
            response.extensions_mut().insert(class);
            std::future::ready(Ok::<_, Infallible>(response))
        }));
        let calls = loadshed::client::Backpressure::new().layer(next);
        let mut first = server().layer(service_fn(move |request: Req| {
            let mut call = get("/next");
            call.extensions_mut()
                .insert(*request.extensions().get::<Criticality>().unwrap());
            let mut calls = calls.clone();
            async move {
                Ok::<_, Infallible>(
                    calls
                        .call(call)
                        .await
                        .unwrap()
                        .map(|_| Full::<Bytes>::default()),
                )
            }
        }));
        let mut request = get("/");
        request
            .headers_mut()
            .insert(HEADER, claimed.parse().unwrap());
        let response = first.call(request).now_or_never().unwrap().unwrap();
        assert_eq!(
            response.extensions().get(),
            Some(&Some(passed_on)),
            "{claimed}"
        );
    }
}

#[test]
fn a_class_is_read_as_it_is_written() {
    for class in ALL {
        assert_eq!(class.to_string().parse(), Ok(class));
        assert_eq!(format!("{class:>14}").trim_start(), class.to_string());
    }
    let told = "critical".parse::<Criticality>().unwrap_err().to_string();
    let expected = "criticality: \"critical\" was given, allowed is SHEDDABLE, SHEDDABLE_PLUS, CRITICAL or CRITICAL_PLUS";
    assert_eq!(told, expected);
    assert!(ALL.is_sorted());
}
