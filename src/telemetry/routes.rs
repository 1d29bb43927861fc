//! What layers decide, by route and class.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use metrics::{Label, SharedString, counter};

use super::label::{OTHER, Text};
use crate::{
    admission::verdict::Verdict, shed::Reason, support::per_thread::PerThread,
    threshold::criticality::Criticality,
};

/// How often each was decided upon requests of one route.
#[derive(Debug)]
pub(crate) struct Route(PerThread<Table<AtomicUsize>>);

/// By decision, and by class.
pub(crate) type Table<T> = [[T; Criticality::ALL.len()]; Verdict::COUNT];

/// The routes of a budget, by label. Layers that are made anew, for each connection perhaps, find theirs again.
#[derive(Debug, Default)]
pub(crate) struct Routes(Mutex<BTreeMap<Text, Arc<Route>>>);

pub(crate) type Counts = BTreeMap<Text, Table<u64>>;

/// A table of routes that somebody generates is no reason to have that many series.
pub(crate) const MOST_ROUTES: usize = 200;

impl Route {
    fn new() -> Self {
        Self(PerThread::new())
    }

    #[inline]
    pub(crate) fn add(&self, verdict: Verdict, class: Criticality) {
        let (table, writers) = self.0.own();
        writers.add(&table[verdict.index()][class as usize], 1);
    }

    fn sum(&self) -> Table<u64> {
        let mut sum = Table::default();
        for table in self.0.iter() {
            merge(&mut sum, table, |sum, count| {
                // Relaxed: a number of events that orders nothing.
                *sum += count.load(Ordering::Relaxed) as u64;
            });
        }
        sum
    }
}

impl Routes {
    pub(crate) fn get(&self, label: &str) -> Arc<Route> {
        let mut routes = self.locked();
        let label = bounded(&routes, label);
        let route = routes.entry(label.into());
        Arc::clone(route.or_insert_with(|| Arc::new(Route::new())))
    }

    pub(crate) fn counts(&self) -> Counts {
        let routes = self.locked();
        let sums = routes
            .iter()
            .map(|(label, route)| (Arc::clone(label), route.sum()));
        sums.collect()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<Text, Arc<Route>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn add(counts: &mut Counts, more: &Counts) {
    for (label, table) in more {
        let label = bounded(counts, label).into();
        let sum = counts.entry(label).or_default();
        merge(sum, table, |sum, count| *sum += count);
    }
}

pub(crate) fn rise_to(shown: &mut Counts, now: Counts) {
    for (label, table) in now {
        let shown = shown.entry(label).or_default();
        merge(shown, &table, |shown, count| *shown = *count.max(shown));
    }
}

/// A route and class of which anything is known is written as a whole: a rate needs to have seen its counter at 0.
pub(crate) fn write(budget: &SharedString, routes: &Counts) {
    for (route, table) in routes {
        let labels = |more: &[(&'static str, &'static str)]| {
            let mut labels = vec![
                Label::new("budget", budget.clone()),
                Label::new("route", Arc::clone(route)),
            ];
            labels.extend(more.iter().map(Label::from));
            labels
        };
        for class in Criticality::ALL {
            let of = |verdict: Verdict| table[verdict.index()][class as usize];
            let refusals = |why| [Verdict::Refused(why), Verdict::WouldRefuse(why)].map(of);
            let admitted = of(Verdict::Admitted);
            let all = Reason::ALL.map(|why| (why, refusals(why)));
            if admitted + all.iter().flat_map(|(_, refusals)| refusals).sum::<u64>() == 0 {
                continue;
            }
            let class = ("class", class.name());
            counter!("loadshed_route_admitted_total", labels(&[class])).absolute(admitted);
            for (why, [refused, would_refuse]) in all {
                // Where there are no shares, nor is there a series for them.
                if why == Reason::Share && refused + would_refuse == 0 {
                    continue;
                }
                let why = || labels(&[class, ("reason", why.label())]);
                counter!("loadshed_route_refused_total", why()).absolute(refused);
                counter!("loadshed_route_would_refuse_total", why()).absolute(would_refuse);
            }
        }
        let exempt = table[Verdict::Exempt.index()].iter().sum::<u64>();
        if exempt > 0 {
            counter!("loadshed_route_exempt_total", labels(&[])).absolute(exempt);
        }
    }
}

fn merge<A, B>(to: &mut Table<A>, from: &Table<B>, each: impl Fn(&mut A, &B)) {
    for (to, from) in to.iter_mut().flatten().zip(from.iter().flatten()) {
        each(to, from);
    }
}

fn bounded<'a, T>(routes: &BTreeMap<Text, T>, label: &'a str) -> &'a str {
    let is_one_too_many = routes.len() >= MOST_ROUTES && !routes.contains_key(label);
    if is_one_too_many { OTHER } else { label }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_bounded_and_nothing_that_is_over_is_lost() {
        let routes = Routes::default();
        let mut twice = Counts::new();
        for nth in 0..MOST_ROUTES + 7 {
            let route = routes.get(&format!("/{nth}"));
            route.add(Verdict::Refused(Reason::Share), Criticality::Critical);
            let other = Counts::from([(format!("/another/{nth}").into(), route.sum())]);
            add(&mut twice, &other);
        }
        let counts = routes.counts();
        for counts in [&counts, &twice] {
            assert_eq!(counts.len(), MOST_ROUTES + 1);
        }
        let refused = Verdict::Refused(Reason::Share).index();
        assert_eq!(counts["/0"][refused], [0, 0, 1, 0]);
        assert_eq!(counts[OTHER][refused], [0, 0, 7, 0]);
    }

    #[test]
    fn a_route_of_a_layer_that_is_made_anew_is_the_same() {
        let routes = Routes::default();
        for _ in 0..3 {
            routes
                .get("/mail")
                .add(Verdict::Admitted, Criticality::Sheddable);
        }
        assert_eq!(routes.counts()["/mail"][0], [3, 0, 0, 0]);
    }
}
