//! Which callers go first, within a class.

use std::time::Duration;

use loadshed::{
    Budget,
    Criticality::{self, Critical, Sheddable},
    LoadShed, Threshold,
};
use tower::Layer;

use crate::{
    allocations::allocations,
    part,
    support::{Req, all, answer, get, holding, is_refused, panic_on_purpose, quiet},
};

/// By the second part of the path.
pub(crate) fn user(head: &http::Request<()>) -> u64 {
    part(head, 2)
}

pub(crate) fn from(class: Criticality, user: u64) -> Req {
    get(&format!("/{class}/{user}"))
}

fn keyed(shed: LoadShed) -> LoadShed {
    shed.key(user)
}

/// A service under a steady load: requests come at random and leave at random, and `load` times as many come as could be
/// carried. Gives for each user which share of its requests was served.
fn served(shed: &LoadShed, users: usize, load: f64, chance: &mut fastrand::Rng) -> Vec<f64> {
    const EACH: usize = 100;
    let mut service = shed.layer(holding());
    let mut running = Vec::new();
    let mut counts = vec![(0, 0); users];
    let limit = shed.handle().budget().limit();
    let arrivals = (load * 0.85 * limit as f64) as usize;
    let mut arrived = 0;
    while arrived < (EACH + 10) * users {
        if chance.usize(..arrivals + running.len()) < running.len() {
            let leaves = chance.usize(..running.len());
            drop(running.swap_remove(leaves));
            continue;
        }
        arrived += 1;
        let user = chance.usize(..users);
        let response = answer(&mut service, from(Sheddable, user as u64));
        let is_served = !is_refused(&response);
        // Until it is full, all are served.
        if arrived > 10 * users {
            counts[user].0 += usize::from(is_served);
            counts[user].1 += 1;
        }
        if is_served {
            running.push(response);
        }
    }
    let share = |(served, of): (usize, usize)| served as f64 / of as f64;
    counts.into_iter().map(share).collect()
}

fn share(users: &[f64], is: impl Fn(f64) -> bool) -> f64 {
    users.iter().filter(|&&user| is(user)).count() as f64 / users.len() as f64
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

#[test]
fn in_overload_the_same_callers_are_served_by_every_service_and_the_others_by_none() {
    let mut chance = fastrand::Rng::with_seed(1);
    let mut run =
        |shed: LoadShed| served(&shed.budget(Budget::fixed(1_000)), 1_000, 2.0, &mut chance);
    let [plain, one, other] = [
        run(LoadShed::ratio(0.85)),
        run(keyed(LoadShed::ratio(0.85))),
        run(keyed(LoadShed::ratio(0.85))),
    ];
    let clear = |user: f64| !(0.05..0.95).contains(&user);
    assert_eq!(share(&plain, clear), 0.0);
    let is_clear = share(&one, clear);
    assert!(is_clear > 0.7, "{is_clear} of them have a clear answer");
    // A task that calls both, by chance and with the same order.
    let both = |one: &[f64], other: &[f64]| mean(one.iter().zip(other).map(|(a, b)| a * b));
    let [by_chance, by_key] = [both(&plain, &plain), both(&one, &other)];
    assert!((0.23..0.27).contains(&by_chance), "{by_chance}");
    assert!(
        by_key > 0.42,
        "{by_key} of the tasks are done, of 0.47 that could be"
    );
}

#[test]
fn nobody_is_refused_below_the_stretch() {
    let mut chance = fastrand::Rng::with_seed(2);
    let shed = keyed(LoadShed::ratio(0.85)).budget(Budget::fixed(1_000));
    let users = served(&shed, 100, 0.75, &mut chance);
    assert_eq!(share(&users, |user| user == 1.0), 1.0);
}

/// Who is refused of these, when so much is in flight.
fn refused(shed: &LoadShed, held: usize) -> Vec<u64> {
    let budget = Budget::fixed(1_000);
    let _held: Vec<_> = (0..held)
        .map(|_| budget.try_acquire(all()).unwrap())
        .collect();
    let mut service = shed.clone().budget(&budget).layer(holding());
    let mut refused = |user: &u64| is_refused(&answer(&mut service, from(Sheddable, *user)));
    (0..200).filter(|user| refused(user)).collect()
}

#[tokio::test(start_paused = true)]
async fn an_hour_later_others_are_refused() {
    let shed = keyed(LoadShed::ratio(0.8));
    let mut often = [0; 200];
    let first = refused(&shed, 750);
    assert!((70..130).contains(&first.len()), "{}", first.len());
    for _ in 0..24 {
        for user in refused(&shed, 750) {
            often[user as usize] += 1;
        }
        tokio::time::advance(Duration::from_secs(3_600)).await;
    }
    assert!(
        often.iter().all(|&hours| (1..24).contains(&hours)),
        "{often:?}"
    );
    // In the same hour, those and no others.
    let shed = keyed(LoadShed::ratio(0.8));
    assert_eq!(refused(&shed, 750), refused(&shed, 750));
}

#[tokio::test(start_paused = true)]
async fn the_more_is_in_flight_the_more_callers_are_refused_and_none_of_them_is_let_in_again() {
    let shed = keyed(LoadShed::ratio(0.8));
    assert!(refused(&shed, 700).is_empty());
    let mut before = Vec::new();
    for held in (705..=800).step_by(5) {
        let now = refused(&shed, held);
        assert!(before.iter().all(|user| now.contains(user)), "at {held}");
        before = now;
    }
    assert_eq!(before.len(), 200);
}

#[test]
fn p09_a_panic_in_a_key_counts_as_never() {
    quiet();
    let budget = Budget::fixed(1);
    let shed = LoadShed::ratio(0.5)
        .budget(&budget)
        .key(|_| -> u8 { panic_on_purpose() });
    let mut service = shed.layer(holding());
    let running: Vec<_> = (0..3).map(|_| answer(&mut service, get("/"))).collect();
    assert!(!running.iter().any(is_refused));
    assert_eq!(budget.in_flight(), 3);
}

#[test]
fn p09_what_is_never_shed_is_not_shed_by_its_key() {
    let budget = Budget::fixed(1);
    for shed in [
        LoadShed::observe(),
        LoadShed::ratio(0.5).threshold(|_| Threshold::NEVER_SHED),
    ] {
        let mut service = keyed(shed).budget(&budget).layer(holding());
        let running: Vec<_> = (0..40)
            .map(|user| answer(&mut service, from(Critical, user)))
            .collect();
        assert!(!running.iter().any(is_refused));
    }
}

#[test]
fn p17_a_key_costs_no_allocation() {
    let shed = keyed(LoadShed::ratio(0.85)).budget(Budget::fixed(4));
    assert_eq!(allocations(&shed, from(Sheddable, 7)), 0);
}
