//! Which requests go first: told by their class, and by their callers within it.

#[path = "../support/allocations.rs"]
mod allocations;
mod callers;
mod class_thresholds;
mod exposed;
mod headers;
mod overtaking;
#[path = "../support/mod.rs"]
mod support;

use std::{fmt::Debug, str::FromStr};

use http::Response;
use loadshed::{
    Budget,
    Criticality::{self, Critical, CriticalPlus, Sheddable, SheddablePlus},
    LoadShed, Shed,
};
use tower::Layer;

use support::{Req, answer, get, holding, is_refused};

const ALL: [Criticality; 4] = [Sheddable, SheddablePlus, Critical, CriticalPlus];

/// Of the class that its path names.
fn of(class: Criticality) -> Req {
    get(&format!("/{class}"))
}

fn by_class(shed: LoadShed) -> LoadShed {
    let shed = shed.budget(Budget::fixed(1));
    shed.classify(|head| part(head, 1))
}

/// Of the path, `/class` or `/class/user`.
fn part<T: FromStr<Err: Debug>>(head: &http::Request<()>, nth: usize) -> T {
    let part = head.uri().path().split('/').nth(nth);
    part.unwrap().parse().unwrap()
}

fn shed_of<B>(response: &Response<B>) -> &Shed {
    response
        .extensions()
        .get()
        .expect("a refusal has its reason")
}

/// Returns how many requests of a class are admitted under `limit`, while no others arrive.
fn room(shed: &LoadShed, limit: usize, class: Criticality) -> usize {
    shed.handle().budget().set_limit(limit).unwrap();
    let mut service = shed.layer(holding());
    let admitted = (0..=limit).map(|_| answer(&mut service, of(class)));
    let admitted: Vec<_> = admitted
        .take_while(|response| !is_refused(response))
        .collect();
    admitted.len()
}

fn rooms(shed: &LoadShed, limit: usize) -> [usize; 4] {
    ALL.map(|class| room(shed, limit, class))
}
