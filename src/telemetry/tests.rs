//! Compares the stable names of the module's documentation with the code.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use tokio::time::{Instant, advance};
use tracing::field::{Field, Visit};

use super::{histogram::OUTCOMES, registry::series, write::write};
use crate::{
    admission::verdict::Verdict,
    budget::budget::Budget,
    control::{controller::Learned, reason},
    report::{LimitChange, Snapshot},
    shed::Reason,
    threshold::{criticality::Criticality, threshold::Threshold},
};

/// Returns the rows of the table below a heading of the module's documentation.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let text = include_str!("mod.rs");
    let heading = format!("//! ## {heading}\n");
    let (_, section) = text.split_once(&heading).expect("the heading");
    let lines = section.lines().map(|line| line.trim_start_matches("//!"));
    let rows = lines.skip_while(|line| !line.starts_with(" | "));
    let rows = rows.take_while(|line| line.starts_with(" | ")).skip(2);
    rows.map(|row| row.split(" |").skip(1).map(str::trim).collect())
        .collect()
}

/// Returns the names in backquotes of a cell.
fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

type Listed = BTreeMap<String, (&'static str, Option<Unit>, BTreeSet<String>)>;

fn listed_metrics() -> Listed {
    let rows = table("Metrics").into_iter();
    rows.map(|row| {
        let [name, kind, unit, labels, _value, _end] = row[..] else {
            panic!("{row:?}");
        };
        let unit = match (kind, unit) {
            ("gauge", _) => None,
            (_, "seconds") => Some(Unit::Seconds),
            (_, _) => Some(Unit::Count),
        };
        let labels = names(labels).into_iter().map(str::to_owned).collect();
        (names(name)[0].to_owned(), (kind, unit, labels))
    })
    .collect()
}

/// Notes each metric that is described or written.
#[derive(Default)]
struct Recorder(Mutex<Recorded>);

#[derive(Default)]
struct Recorded {
    described: BTreeMap<String, (&'static str, Option<Unit>)>,
    written: BTreeMap<String, (&'static str, BTreeSet<String>)>,
}

impl Recorder {
    fn describe(&self, name: KeyName, kind: &'static str, unit: Option<Unit>) {
        let mut recorded = self.0.lock().unwrap();
        recorded
            .described
            .insert(name.as_str().into(), (kind, unit));
    }

    fn register(&self, key: &Key, kind: &'static str) {
        let labels = key.labels().map(|label| label.key().to_owned()).collect();
        let mut recorded = self.0.lock().unwrap();
        let before = recorded.written.insert(key.name().into(), (kind, labels));
        let now = &recorded.written[key.name()];
        assert!(before.is_none_or(|before| before == *now), "{key:?}");
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(name, "counter", unit);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(name, "gauge", unit);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(name, "histogram", unit);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.register(key, "counter");
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.register(key, "gauge");
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.register(key, "histogram");
        Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn the_documented_metrics_are_those_that_are_written() {
    let budget = Budget::adaptive().named("stable names");
    budget.set_limit(1).unwrap();
    drop(budget.try_acquire(Threshold::NEVER_SHED).unwrap());
    let observable = budget.observable();
    let route = observable.metrics().routes.counter("/route");
    for verdict in [Verdict::Admitted, Verdict::Exempt] {
        route.add(verdict, Criticality::Sheddable);
    }
    // The window that has the sample is closed by the next request.
    advance(Duration::from_secs(1)).await;
    drop(budget.try_acquire(Threshold::NEVER_SHED).unwrap());

    let recorder = Recorder::default();
    metrics::with_local_recorder(&recorder, || {
        let live = [observable];
        write(series(&live), &live);
    });
    let recorded = recorder.0.into_inner().unwrap();
    let listed = listed_metrics();
    let described = listed
        .iter()
        .map(|(name, (kind, unit, _))| (name.clone(), (*kind, *unit)));
    assert_eq!(recorded.described, described.collect());
    let written = listed
        .into_iter()
        .map(|(name, (kind, _, labels))| (name, (kind, labels)));
    assert_eq!(recorded.written, written.collect());
}

#[test]
fn the_documented_label_values_are_those_that_are_written() {
    let documented: BTreeMap<_, _> = table("Label values")
        .into_iter()
        .map(|row| (names(row[0])[0], names(row[1])))
        .collect();
    let classes = Criticality::ALL.map(Criticality::name).to_vec();
    assert_eq!(
        documented,
        BTreeMap::from([("class", classes), ("outcome", OUTCOMES.to_vec())])
    );
    let reasons = table("Reasons of refusals").into_iter();
    let reasons: Vec<_> = reasons.map(|row| names(row[0])[0]).collect();
    assert_eq!(reasons, Reason::ALL.map(Reason::label));
}

#[test]
fn the_documented_reasons_of_limit_changes_are_those_of_the_controllers() {
    let documented = table("Reasons of limit changes").into_iter();
    let documented: Vec<_> = documented.map(|row| (names(row[0])[0], row[1])).collect();
    let of = |controller, reasons: &[&'static str]| {
        let reasons = reasons.iter().map(|&reason| (reason, controller));
        reasons.collect::<Vec<_>>()
    };
    let expected = [
        of("any", &[reason::SET]),
        of("`Adaptive`", reason::adaptive::ALL),
        of("`LatencyTarget`", reason::latency_target::ALL),
    ];
    assert_eq!(documented, expected.concat());
}

#[test]
fn the_documented_states_are_those_of_the_controllers() {
    let documented = table("States").into_iter();
    let documented: Vec<_> = documented.map(|row| (names(row[0])[0], row[1])).collect();
    let states = reason::adaptive::STATES.iter();
    let mut expected = vec![(reason::SET, "any")];
    expected.extend(states.map(|&state| (state, "`Adaptive`")));
    assert_eq!(documented, expected);
}

#[test]
fn the_documented_fields_are_those_that_are_serialised() {
    fn fields(value: impl serde::Serialize) -> BTreeSet<String> {
        let serde_json::Value::Object(map) = serde_json::to_value(value).unwrap() else {
            panic!("no map");
        };
        map.into_iter().map(|(field, _)| field).collect()
    }
    let snapshot: Snapshot = Budget::fixed(1).snapshot();
    let change = LimitChange::set(Instant::now(), 1, 2);
    let expected = [
        ("Snapshot", fields(snapshot)),
        ("LimitChange", fields(change)),
        ("Learned", fields(Learned::new(reason::SET))),
    ];
    let documented = table("Serialised fields").into_iter().map(|row| {
        let fields = names(row[1]).into_iter().map(str::to_owned).collect();
        (names(row[0])[0], fields)
    });
    assert_eq!(Vec::from_iter(documented), expected);
}

/// Notes message, level and fields of each event.
#[derive(Clone, Default)]
struct Subscriber(Arc<Mutex<Vec<LoggedEvent>>>);

/// The message, the level and the names of the fields of an event.
type LoggedEvent = (String, String, Vec<String>);

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl tracing::Subscriber for Subscriber {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "loadshed"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        let fields = event.metadata().fields().iter().map(|field| field.name());
        let fields = fields.filter(|&name| name != "message").map(str::to_owned);
        let event = (
            message.0,
            event.metadata().level().to_string(),
            fields.collect(),
        );
        self.0.lock().unwrap().push(event);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn the_documented_log_events_are_those_that_are_emitted() {
    let subscriber = Subscriber::default();
    let _guard = tracing::subscriber::set_default(subscriber.clone());
    let budget = Budget::fixed(1);
    let held = budget.try_acquire(Threshold::NEVER_SHED).unwrap();
    budget.try_acquire(Threshold::ratio(1.0)).unwrap_err();
    drop(held);
    advance(Duration::from_secs(10)).await;
    drop(budget.try_acquire(Threshold::NEVER_SHED).unwrap());
    budget.begin_drain(Duration::ZERO);
    budget.try_acquire(Threshold::ratio(1.0)).unwrap_err();
    budget.end_drain();
    budget.set_limit(2).unwrap();

    let documented = table("Log events").into_iter().map(|row| {
        let fields = names(row[2]).into_iter().map(str::to_owned).collect();
        (names(row[0])[0].to_owned(), row[1].to_owned(), fields)
    });
    let events = subscriber.0.lock().unwrap();
    assert_eq!(*events, Vec::from_iter(documented));
}
