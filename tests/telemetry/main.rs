//! Metrics published through the `metrics` facade.
//!
//! Each publication takes the latencies of all budgets, and uploads are counted in the whole process: one test at a time.

mod route_metrics;
#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{Empty, StreamBody};
use loadshed::{Budget, LoadShed, RefusedUpload, Threshold, telemetry::publish};
use metrics::Unit;
use metrics_util::{
    MetricKind,
    debugging::{DebugValue, DebuggingRecorder},
};
use proptest::prelude::*;
use tower::{Layer, Service};

use self::support::{FnController, all, alone, answer, get, holding, is_refused, run};

/// The values of one budget after a publication, by metric and labels other than `budget`.
type Values = BTreeMap<String, f64>;

struct Published {
    values: Values,
    units: BTreeMap<String, Option<Unit>>,
    latencies: BTreeMap<String, Vec<f64>>,
}

fn published(recorder: &DebuggingRecorder, budget: &str) -> Published {
    metrics::with_local_recorder(recorder, publish);
    let mut published = Published {
        values: Values::new(),
        units: BTreeMap::new(),
        latencies: BTreeMap::new(),
    };
    for (key, unit, description, value) in recorder.snapshotter().snapshot().into_vec() {
        let labels = key.key().labels();
        let (ours, rest): (Vec<_>, Vec<_>) = labels.partition(|label| label.key() == "budget");
        if ours.iter().any(|label| label.value() != budget) {
            continue;
        }
        let name = key.key().name().to_owned();
        assert!(description.is_some(), "{name} is not described");
        let is_counter = key.kind() == MetricKind::Counter;
        assert_eq!(is_counter, name.ends_with("_total"), "{name}");
        let rest = rest
            .iter()
            .map(|label| format!("{}={}", label.key(), label.value()));
        let full = [name.clone()].into_iter().chain(rest).collect::<Vec<_>>();
        published.units.insert(name, unit);
        match value {
            DebugValue::Counter(n) => published.values.insert(full.join(" "), n as f64),
            DebugValue::Gauge(n) => published.values.insert(full.join(" "), n.0),
            DebugValue::Histogram(values) => {
                let values = values.iter().map(|value| value.0).collect();
                published.latencies.insert(full.join(" "), values);
                None
            }
        };
    }
    published
}

fn values(recorder: &DebuggingRecorder, budget: &str) -> Values {
    let mut values = published(recorder, budget).values;
    // Of the whole process, where other tests refuse uploads, too.
    values.remove("loadshed_refused_uploads");
    values
}

const WHY: &str = "reason=utilization";

/// Two tenants, each of which would use more than half of the limit.
#[tokio::test(start_paused = true)]
async fn refusals_because_of_a_share_have_their_own_reason() {
    let _alone = alone();
    for (name, dry_run) in [("shares", false), ("shares, dry", true)] {
        let budget = Budget::fixed(40).named(name);
        let shed = LoadShed::ratio(1.0)
            .budget(&budget)
            .fair_by(|head| head.uri().path().to_owned())
            .dry_run(dry_run);
        let mut service = shed.layer(holding());
        let mut running = std::collections::VecDeque::new();
        let mut by_share = 0;
        for step in 0..3_000 {
            tokio::time::advance(Duration::from_millis(1)).await;
            let path = if step % 4 == 0 { "/small" } else { "/large" };
            let before = budget.snapshot();
            let response = answer(&mut service, get(path));
            let after = budget.snapshot();
            let refused = after.refused + after.would_refuse;
            let is_refused = refused > before.refused + before.would_refuse;
            by_share += u32::from(is_refused && before.in_flight - before.marked < 40);
            running.push_back(response);
            if running.len() > 50 {
                running.pop_front();
            }
        }
        let values = values(&DebuggingRecorder::new(), name);
        let s = budget.snapshot();
        let all = (s.refused + s.would_refuse) as f64;
        let series = if dry_run { "would_refuse" } else { "refused" };
        let of = |reason: &str| values[&format!("loadshed_{series}_total reason={reason}")];
        assert!(by_share > 0);
        assert_eq!(of("share"), f64::from(by_share));
        assert_eq!(of("utilization"), all - f64::from(by_share));
    }
}

#[tokio::test(start_paused = true)]
async fn p26_refusals_of_a_drain_have_their_own_reason() {
    let _alone = alone();
    let budget = Budget::fixed(4).named("drained");
    let shed = LoadShed::ratio(1.0).budget(&budget).named("/route");
    let mut service = shed.dry_run(true).layer(holding());
    drop(answer(&mut service, get("/")));
    let recorder = DebuggingRecorder::new();
    let before = values(&recorder, "drained");
    assert!(before.keys().all(|series| !series.contains("draining")));
    budget.begin_drain(Duration::ZERO);
    for _ in 0..3 {
        answer(&mut service, get("/"));
    }
    let values = values(&recorder, "drained");
    assert_eq!(values["loadshed_refused_total reason=draining"], 3.0);
    assert_eq!(values["loadshed_would_refuse_total reason=draining"], 0.0);
    assert_eq!(values["loadshed_refused_total reason=utilization"], 0.0);
    let route = |series: &str| {
        let of_route = |(name, _): &(&String, &f64)| name.starts_with(series);
        let mut all = values.iter().filter(of_route);
        all.find(|(name, _)| !name.contains("utilization"))
    };
    let (_, refused) = route("loadshed_route_refused_total").unwrap();
    let (_, admitted) = route("loadshed_route_admitted_total").unwrap();
    assert_eq!((*refused, *admitted), (3.0, 1.0));
}

#[tokio::test(start_paused = true)]
async fn the_published_values_equal_the_snapshot() {
    let _alone = alone();
    let budget = Budget::fixed(4).named("all values");
    let _held = [(); 3].map(|()| budget.try_acquire(all()).unwrap());
    let hint = budget.try_acquire(Threshold::ratio(0.5)).unwrap_err();
    let dry = LoadShed::ratio(0.5).budget(&budget).dry_run(true);
    for _ in 0..5 {
        answer(&mut dry.layer(holding()), get("/"));
    }
    for _ in 0..6 {
        drop(budget.try_acquire(Threshold::EXEMPT).unwrap());
    }
    budget.set_limit(6).unwrap();
    budget.set_limit(8).unwrap();
    let last = LoadShed::ratio(0.1).budget(&budget);
    let mut last = last.wait(2, Duration::from_secs(1)).layer(holding());
    let _waiting = last.call(get("/"));
    drop(last.call(get("/")));

    // The recorder is created only now.
    let published = published(&DebuggingRecorder::new(), "all values");
    let s = budget.snapshot();
    let expected = [
        ("loadshed_limit".into(), s.limit as f64),
        ("loadshed_in_flight".into(), s.in_flight as f64),
        ("loadshed_marked".into(), s.marked as f64),
        ("loadshed_stalled_responses".into(), 0.0),
        ("loadshed_stalled_total".into(), 0.0),
        ("loadshed_peak_in_flight".into(), s.peak_in_flight as f64),
        ("loadshed_utilization_ratio".into(), budget.utilization()),
        ("loadshed_admitted_total".into(), s.admitted as f64),
        (format!("loadshed_refused_total {WHY}"), s.refused as f64),
        (
            format!("loadshed_would_refuse_total {WHY}"),
            s.would_refuse as f64,
        ),
        ("loadshed_exempt_total".into(), s.exempt as f64),
        ("loadshed_waiting".into(), s.waiting as f64),
        ("loadshed_waited_total".into(), s.waited as f64),
        (
            "loadshed_hint_seconds_total".into(),
            hint.retry_after().as_secs_f64().floor(),
        ),
        ("loadshed_slow_uploads_total".into(), 0.0),
        ("loadshed_unwatched_uploads_total".into(), 0.0),
        ("loadshed_limit_changes_total reason=set".into(), 2.0),
    ];
    let mut values = published.values;
    assert!(values.remove("loadshed_refused_uploads").is_some());
    assert_eq!(values, Values::from(expected));
    assert_eq!(
        (s.admitted, s.refused, s.would_refuse, s.exempt),
        (3, 1, 5, 6)
    );
    assert_eq!((s.waiting, s.waited), (1, 2));

    for (name, unit) in published.units {
        let expected = match &*name {
            "loadshed_hint_seconds_total" => Some(Unit::Seconds),
            counter if counter.ends_with("_total") => Some(Unit::Count),
            _ => None,
        };
        assert_eq!(unit, expected, "{name}");
    }
}

#[test]
fn a_recorder_that_is_installed_late_or_replaced_gets_all_values() {
    let _alone = alone();
    let before = DebuggingRecorder::new();
    let budget = metrics::with_local_recorder(&before, || {
        publish();
        Budget::fixed(2).named("recorders")
    });
    drop(budget.try_acquire(all()).unwrap());
    let first = values(&before, "recorders");
    let second = values(&DebuggingRecorder::new(), "recorders");
    assert_eq!(first["loadshed_admitted_total"], 1.0);
    assert_eq!(first, second);
}

#[test]
fn an_idle_server_shows_the_present_values() {
    let _alone = alone();
    let recorder = DebuggingRecorder::new();
    let budget = Budget::fixed(2).named("idle");
    let held = budget.try_acquire(all()).unwrap();
    assert_eq!(values(&recorder, "idle")["loadshed_in_flight"], 1.0);
    drop(held);
    let now = values(&recorder, "idle");
    assert_eq!(
        (now["loadshed_in_flight"], now["loadshed_utilization_ratio"]),
        (0.0, 0.0)
    );
}

#[test]
fn budgets_of_one_name_are_summed_and_the_counts_of_a_dropped_budget_stay() {
    let _alone = alone();
    let recorder = DebuggingRecorder::new();
    let [one, other] = [2, 3].map(|limit| Budget::fixed(limit).named("twins"));
    let _held = [&one, &one, &other].map(|budget| budget.try_acquire(all()).unwrap());
    let _ = other.try_acquire(Threshold::ratio(0.1)).unwrap_err();
    let refused = &*format!("loadshed_refused_total {WHY}");
    let both = values(&recorder, "twins");
    assert_eq!(
        (both["loadshed_limit"], both["loadshed_in_flight"]),
        (5.0, 3.0)
    );
    assert_eq!(both["loadshed_utilization_ratio"], 0.6);
    assert_eq!((both["loadshed_admitted_total"], both[refused]), (3.0, 1.0));

    drop(other);
    let left = values(&recorder, "twins");
    assert_eq!(left["loadshed_limit"], 2.0);
    assert_eq!((left["loadshed_admitted_total"], left[refused]), (3.0, 1.0));

    drop(one);
    let none = values(&recorder, "twins");
    assert_eq!(
        (none["loadshed_limit"], none["loadshed_in_flight"]),
        (0.0, 0.0)
    );
    assert_eq!(none["loadshed_admitted_total"], 3.0);

    let again = Budget::fixed(7).named("twins");
    drop(again.try_acquire(all()).unwrap());
    let again = values(&recorder, "twins");
    assert_eq!(
        (again["loadshed_limit"], again["loadshed_admitted_total"]),
        (7.0, 4.0)
    );
}

#[test]
fn budgets_are_created_and_dropped_while_threads_publish_without_lost_counts_or_deadlocks() {
    let _alone = alone();
    let recorder = DebuggingRecorder::new();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..500 {
                    // Other threads publish it before it has its name.
                    let budget = Budget::fixed(1).named("crowd");
                    drop(budget.try_acquire(all()).unwrap());
                    publish();
                }
            });
        }
    });
    let crowd = values(&recorder, "crowd");
    assert_eq!(
        (crowd["loadshed_admitted_total"], crowd["loadshed_limit"]),
        (1_500.0, 0.0)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    /// 10,000 requests through two layers of one budget. The inner layer refuses requests that the outer layer has admitted.
    #[test]
    fn no_counter_drifts_or_decreases_where_an_inner_layer_refuses(
        kinds in proptest::collection::vec(0..6_u8, 10_000),
        dry_run in any::<bool>(),
    ) {
        let _alone = alone();
        let name = format!("drift {dry_run}");
        let recorder = Arc::new(DebuggingRecorder::new());
        let budget = Budget::fixed(10).named(name.clone());
        let start = values(&recorder, &name);
        let seen = Arc::<Mutex<Vec<f64>>>::default();
        let see = {
            let (recorder, name, seen) = (Arc::clone(&recorder), name.clone(), Arc::clone(&seen));
            move || seen.lock().unwrap().push(values(&recorder, &name)["loadshed_admitted_total"])
        };
        let see_within = see.clone();
        let inner = LoadShed::observe().budget(&budget).dry_run(dry_run).threshold(move |head| {
            // The outer layer has counted the request, and the inner layer may refuse it.
            if head.method() == Method::POST {
                see_within();
            }
            match head.uri().path() {
                "/exempt" => Threshold::EXEMPT,
                "/half" => Threshold::ratio(0.5),
                _ => all(),
            }
        });
        let mut service = LoadShed::observe().budget(&budget).layer(inner.layer(holding()));
        let mut running = Vec::new();
        let mut last = start.clone();
        for (nth, kind) in kinds.into_iter().enumerate() {
            let seen_within = nth % 13 == 0;
            let mut arrives = |path| {
                let mut request = get(path);
                if seen_within {
                    *request.method_mut() = Method::POST;
                }
                answer(&mut service, request)
            };
            match kind {
                0 => drop(running.pop()),
                1 => running.clear(),
                2 => running.push(arrives("/exempt")),
                3 => running.push(arrives("/half")),
                _ => running.push(arrives("/")),
            }
            running.retain(|response| !is_refused(response));
            if seen_within {
                see();
            }
            if nth % 97 == 0 {
                let now = values(&recorder, &name);
                for (figure, value) in &last {
                    prop_assert!(!figure.contains("_total") || now[figure] >= *value, "{}", figure);
                }
                last = now;
            }
        }
        prop_assert!(seen.lock().unwrap().is_sorted());
        // Another admission, as the counter waits for it after a count that was taken back.
        running.clear();
        running.push(answer(&mut service, get("/")));
        let (now, s) = (values(&recorder, &name), budget.snapshot());
        let since = |figure: &str| now[figure] - start[figure];
        prop_assert_eq!(since("loadshed_admitted_total"), s.admitted as f64);
        prop_assert_eq!(since(&format!("loadshed_refused_total {WHY}")), s.refused as f64);
        prop_assert_eq!(since(&format!("loadshed_would_refuse_total {WHY}")), s.would_refuse as f64);
        prop_assert_eq!(since("loadshed_exempt_total"), s.exempt as f64);
        prop_assert_eq!(now["loadshed_in_flight"], s.in_flight as f64);
        prop_assert_eq!(now["loadshed_marked"], s.marked as f64);
        prop_assert_eq!(s.refused > 0, !dry_run);
        prop_assert_eq!(s.would_refuse > 0, dry_run);
    }
}

/// Both runs take the same decisions.
#[test]
fn p22_a_dry_run_writes_the_same_metrics() {
    let _alone = alone();
    let [real, dry] = [false, true].map(|dry_run| {
        let name = format!("same {dry_run}");
        let budget = Budget::fixed(4).named(name.clone());
        let shed = LoadShed::ratio(0.5).budget(&budget).dry_run(dry_run);
        let mut service = shed.layer(holding());
        let _running: Vec<_> = (0..6).map(|_| answer(&mut service, get("/"))).collect();
        let mut values = values(&DebuggingRecorder::new(), &name);
        // A dry run gives no retry hints.
        values.remove("loadshed_hint_seconds_total");
        values
    });
    let (refused, would) = ("loadshed_refused_total", "loadshed_would_refuse_total");
    let mut as_real = dry.clone();
    as_real.insert(format!("{refused} {WHY}"), dry[&format!("{would} {WHY}")]);
    as_real.insert(format!("{would} {WHY}"), dry[&format!("{refused} {WHY}")]);
    let marked = as_real.insert("loadshed_marked".into(), 0.0).unwrap();
    *as_real.get_mut("loadshed_in_flight").unwrap() -= marked;
    // What would have been refused runs, and counts in the peak.
    let peak = as_real.insert("loadshed_peak_in_flight".into(), 2.0);
    assert_eq!((marked, peak), (4.0, Some(6.0)));
    assert_eq!(as_real, real);
    assert_eq!(real[&format!("{refused} {WHY}")], 4.0);
}

#[tokio::test(start_paused = true)]
async fn latencies_of_a_learned_budget_are_published_once_by_outcome() {
    let _alone = alone();
    let controller = FnController::new(1..=9, 9, |window| window.limit);
    let budget = Budget::new(controller).named("latency");
    let recorder = DebuggingRecorder::new();
    for millis in [1, 20, 300, 4_000] {
        let permit = budget.try_acquire(all()).unwrap();
        tokio::time::advance(Duration::from_millis(millis)).await;
        permit.succeeded();
    }
    let shed = LoadShed::ratio(1.0).budget(&budget);
    drop(shed.layer(holding()).call(get("/")));

    let published_first = published(&recorder, "latency");
    let unit = published_first.units["loadshed_latency_seconds"];
    assert_eq!(unit, Some(Unit::Seconds));
    let latencies = &published_first.latencies["loadshed_latency_seconds outcome=success"];
    assert_eq!(latencies.len(), 4);
    for (seconds, expected) in latencies.iter().zip([0.001, 0.02, 0.3, 4.0]) {
        assert!(
            (seconds / expected - 1.0_f64).abs() < 0.032,
            "{seconds} of {expected}"
        );
    }
    let cancelled = &published_first.latencies["loadshed_latency_seconds outcome=cancelled"];
    assert_eq!(cancelled.len(), 1);
    let again = published(&recorder, "latency").latencies;
    assert!(again.values().all(Vec::is_empty), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn changes_of_a_limit_are_counted_by_reason() {
    let _alone = alone();
    let controller = FnController::new(1..=9, 1, |window| window.limit + 1);
    let budget = Budget::new(controller).named("changes");
    for _ in 0..3 {
        drop(budget.try_acquire(all()).unwrap());
    }
    budget.set_limit(9).unwrap();
    let values = values(&DebuggingRecorder::new(), "changes");
    assert_eq!(values["loadshed_limit_changes_total reason=test"], 3.0);
    assert_eq!(values["loadshed_limit_changes_total reason=set"], 1.0);
}

#[tokio::test(start_paused = true)]
async fn refused_uploads_are_counted_while_they_are_read() {
    let _alone = alone();
    let budget = Budget::fixed(1).named("uploads");
    let _held = budget.try_acquire(all()).unwrap();
    let frames = futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>();
    let inner = tower::service_fn(async |_: Request<StreamBody<_>>| {
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    let bounds = RefusedUpload::default().idle_timeout(Duration::from_secs(5));
    let shed = LoadShed::ratio(1.0).budget(&budget).refused_upload(bounds);
    let upload = Request::new(StreamBody::new(frames));
    let recorder = DebuggingRecorder::new();
    assert!(is_refused(&run(shed.layer(inner).call(upload)).unwrap()));
    let refused_uploads = || published(&recorder, "uploads").values["loadshed_refused_uploads"];
    assert_eq!(refused_uploads(), 1.0);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(refused_uploads(), 0.0);
}
