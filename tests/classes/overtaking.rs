//! Promise 10: no class is refused while a lower one is admitted, whoever it is in either.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use loadshed::{
    Budget,
    Criticality::{self, Critical, CriticalPlus, Sheddable, SheddablePlus},
    LoadShed,
};
use proptest::prelude::*;
use tower::Layer;

use crate::{
    ALL, by_class,
    callers::{from, user},
    of, room,
    support::{answer, holding, is_refused, paused},
};

fn class() -> impl Strategy<Value = Criticality> {
    proptest::sample::select(ALL.to_vec())
}

/// What goes first within a class.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    /// Nothing.
    Class,
    Key,
    Share,
    Both,
}

impl By {
    fn callers(self, mut shed: LoadShed) -> LoadShed {
        if matches!(self, Self::Key | Self::Both) {
            shed = shed.key(user);
        }
        if matches!(self, Self::Share | Self::Both) {
            // Two users to a tenant.
            shed = shed.fair_by(|head| user(head) / 2);
        }
        shed
    }

    /// How many of them to tell apart.
    fn users(self) -> u64 {
        if self == Self::Class { 1 } else { 8 }
    }
}

/// Half of the time nothing: it asks about fewer, and takes an eighth of the time.
fn by() -> impl Strategy<Value = By> {
    prop_oneof![
        3 => Just(By::Class),
        1 => Just(By::Key),
        1 => Just(By::Share),
        1 => Just(By::Both),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Comes(Criticality, u64),
    /// The nth of those that run.
    Goes(usize),
    Limit(usize),
    Ratio(u32),
    ClassRatio(Criticality, u32),
    Waits(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        10 => (class(), 0_u64..8).prop_map(|(class, user)| Event::Comes(class, user)),
        5 => (0_usize..100).prop_map(Event::Goes),
        1 => (1_usize..60).prop_map(Event::Limit),
        1 => (1_u32..=100).prop_map(Event::Ratio),
        1 => (class(), 1_u32..=100).prop_map(|(class, percent)| Event::ClassRatio(class, percent)),
        5 => (1_u64..100).prop_map(Event::Waits),
    ];
    proptest::collection::vec(event, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// After each event, one of each class and of each of the users is asked about at the same moment, all of one cost: tried, and given
    /// back. The best that happens to a class is never better than the worst that happens to the next.
    #[test]
    fn p10_no_caller_of_a_class_is_refused_at_a_moment_at_which_one_of_a_lower_class_is_admitted(
        ratio in (1_u32..=1_000).prop_map(|n| f64::from(n) / 1_000.0),
        set in proptest::collection::btree_map(class(), (1_u32..=100).prop_map(|n| f64::from(n) / 100.0), 0..3),
        at in proptest::option::of((1_u32..=10).prop_map(|n| f64::from(n) / 10.0)),
        by in by(),
        units in 1_usize..5,
        limit in 1_usize..60,
        events in events(),
    ) {
        let runtime = paused();
        let _guard = runtime.enter();
        let budget = Budget::fixed(limit);
        let shed = by.callers(by_class(LoadShed::ratio(ratio))).cost(move |_| units).budget(&budget);
        // One that is out of order is refused, and the even ladder stays.
        let shed = shed.clone().try_class_ratios(set).unwrap_or(shed);
        let shed = match at {
            Some(ratio) => shed.at("/{class}/{user}", ratio),
            None => shed,
        };
        let handle = shed.handle();
        let mut service = shed.layer(holding());
        let mut running = Vec::new();
        for event in events {
            match event {
                Event::Comes(class, user) => {
                    let response = answer(&mut service, from(class, user));
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
                Event::Waits(millis) => runtime.block_on(tokio::time::advance(Duration::from_millis(millis))),
            }
            let before = budget.in_flight();
            let verdicts = ALL.map(|class| {
                let users = (0..by.users()).map(|user| !is_refused(&answer(&mut service, from(class, user))));
                let users: Vec<_> = users.collect();
                (users.contains(&false), users.contains(&true))
            });
            prop_assert_eq!(budget.in_flight(), before);
            for [(_, lower_is_admitted), (is_refused, _)] in verdicts.windows(2).map(|pair| [pair[0], pair[1]]) {
                prop_assert!(!(lower_is_admitted && is_refused), "{:?} with {} of {}", verdicts, before, budget.limit());
            }
        }
        drop(running);
        prop_assert_eq!(budget.in_flight(), 0);
    }
}

proptest! {
    /// A sequence of classes, and how many of which run: what a class below its ratio is refused for is never those below.
    #[test]
    fn a_class_below_its_ratio_is_never_refused_because_of_a_class_below_it(
        percent in 1_u32..=100,
        limit in 1_usize..60,
        flood in proptest::collection::vec(class(), 0..200),
        top in class(),
    ) {
        let shed = by_class(LoadShed::ratio(f64::from(percent) / 100.0));
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
    let shed = Arc::new(by_class(LoadShed::ratio(0.4)).budget(&budget));
    // 8, 12, 16 and 20. Two threads flood what may take up to 16.
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for classes in [[Sheddable, Critical], [SheddablePlus, Critical]] {
            let (shed, stop) = (&shed, &stop);
            scope.spawn(move || {
                let mut service = shed.layer(holding());
                let mut running = VecDeque::new();
                for class in classes.into_iter().cycle() {
                    if stop.load(Ordering::Relaxed) {
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
                stop.store(true, Ordering::Relaxed);
                panic!("the four places above CRITICAL are there");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(budget.snapshot().refused > 0, "they did flood it");
    assert_eq!(budget.in_flight(), 0);
}
