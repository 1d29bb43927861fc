//! The decisions of layers, by route and class.

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

/// The number of each decision about requests of one route.
#[derive(Debug)]
pub(crate) struct RouteCounter(PerThread<DecisionTable<AtomicUsize>>);

/// A value by verdict and class.
pub(crate) type DecisionTable<T> = [[T; Criticality::ALL.len()]; Verdict::COUNT];

/// The used routes of a budget, by label. A layer that is created again, as for each connection, finds its routes again.
///
/// A publication takes the table as it is, and sums without the lock: no request that finds its route waits for a publication.
#[derive(Debug, Default)]
pub(crate) struct RouteMetrics(Mutex<Arc<RouteTable>>);

type RouteTable = BTreeMap<Text, Arc<RouteCounter>>;

/// The counts of all routes, by label.
pub(crate) type RouteCounts = BTreeMap<Text, DecisionTable<u64>>;

/// The most routes of a budget that have series: a bound for generated tables of routes.
pub(crate) const MOST_ROUTES: usize = 200;

impl RouteCounter {
    fn new() -> Self {
        Self(PerThread::new())
    }

    #[inline]
    pub(crate) fn add(&self, verdict: Verdict, class: Criticality) {
        let (table, writers) = self.0.own();
        writers.add(&table[verdict.index()][class as usize], 1);
    }

    fn sum(&self) -> DecisionTable<u64> {
        let mut sum = DecisionTable::default();
        for table in self.0.iter() {
            merge(&mut sum, table, |sum, count| {
                // Relaxed: the count orders no other memory access.
                *sum += count.load(Ordering::Relaxed) as u64;
            });
        }
        sum
    }
}

impl RouteMetrics {
    pub(crate) fn counter(&self, label: &str) -> Arc<RouteCounter> {
        let mut routes = self.locked();
        let label = bounded(&routes, label);
        if let Some(route) = routes.get(label) {
            return Arc::clone(route);
        }
        let route = Arc::new(RouteCounter::new());
        Arc::make_mut(&mut routes).insert(label.into(), Arc::clone(&route));
        route
    }

    pub(crate) fn counts(&self) -> RouteCounts {
        let routes = Arc::clone(&self.locked());
        let sums = routes
            .iter()
            .map(|(label, route)| (Arc::clone(label), route.sum()));
        sums.collect()
    }

    fn locked(&self) -> MutexGuard<'_, Arc<RouteTable>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn add(counts: &mut RouteCounts, more: &RouteCounts) {
    for (label, table) in more {
        let label = bounded(counts, label).into();
        let sum = counts.entry(label).or_default();
        merge(sum, table, |sum, count| *sum += count);
    }
}

pub(crate) fn rise_to(published: &mut RouteCounts, now: RouteCounts) {
    for (label, table) in now {
        let published = published.entry(label).or_default();
        merge(published, &table, |published, count| {
            *published = *count.max(published);
        });
    }
}

/// Writes the series of all routes. A route and class with any decision has all its counters: a rate needs to see its counter
/// at 0 first.
pub(crate) fn write(budget: &SharedString, routes: &RouteCounts) {
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
            let refusals =
                |reason| [Verdict::Refused(reason), Verdict::WouldRefuse(reason)].map(of);
            let admitted = of(Verdict::Admitted);
            let all = Reason::ALL.map(|reason| (reason, refusals(reason)));
            if admitted + all.iter().flat_map(|(_, refusals)| refusals).sum::<u64>() == 0 {
                continue;
            }
            let class = ("class", class.name());
            counter!("loadshed_route_admitted_total", labels(&[class])).absolute(admitted);
            for (reason, [refused, would_refuse]) in all {
                // Without fair shares and drains there are no series for them.
                if reason != Reason::Utilization && refused + would_refuse == 0 {
                    continue;
                }
                let labels = || labels(&[class, ("reason", reason.label())]);
                counter!("loadshed_route_refused_total", labels()).absolute(refused);
                counter!("loadshed_route_would_refuse_total", labels()).absolute(would_refuse);
            }
        }
        let exempt = table[Verdict::Exempt.index()].iter().sum::<u64>();
        if exempt > 0 {
            counter!("loadshed_route_exempt_total", labels(&[])).absolute(exempt);
        }
    }
}

fn merge<A, B>(to: &mut DecisionTable<A>, from: &DecisionTable<B>, each: impl Fn(&mut A, &B)) {
    for (to, from) in to.iter_mut().flatten().zip(from.iter().flatten()) {
        each(to, from);
    }
}

fn bounded<'a, T>(routes: &BTreeMap<Text, T>, label: &'a str) -> &'a str {
    let is_past_bound = routes.len() >= MOST_ROUTES && !routes.contains_key(label);
    if is_past_bound { OTHER } else { label }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_bounded_and_no_count_past_the_bound_is_lost() {
        let routes = RouteMetrics::default();
        let mut twice = RouteCounts::new();
        for nth in 0..MOST_ROUTES + 7 {
            let route = routes.counter(&format!("/{nth}"));
            route.add(Verdict::Refused(Reason::Share), Criticality::Critical);
            let other = RouteCounts::from([(format!("/another/{nth}").into(), route.sum())]);
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
    fn a_layer_that_is_created_again_counts_in_the_same_route() {
        let routes = RouteMetrics::default();
        for _ in 0..3 {
            routes
                .counter("/mail")
                .add(Verdict::Admitted, Criticality::Sheddable);
        }
        assert_eq!(routes.counts()["/mail"][0], [3, 0, 0, 0]);
    }
}
