//! The metrics that a bridge from the `metrics` facade exports to OpenTelemetry: docs/opentelemetry.md.

mod support;

use std::collections::BTreeMap;

use loadshed::{Budget, LoadShed, Threshold, telemetry::publish};
use metrics_exporter_otel::OpenTelemetryRecorder;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::{
    InMemoryMetricExporter, PeriodicReader, SdkMeterProvider,
    data::{AggregatedMetrics, Metric, MetricData},
};
use tower::Layer;

use self::support::{FnController, all, answer, get, holding};

/// The latest exported values by name and attributes: a number, or the count of a histogram.
type Exported = BTreeMap<String, f64>;

fn key<'a>(
    metric: &Metric,
    attributes: impl Iterator<Item = &'a opentelemetry::KeyValue>,
) -> String {
    let attributes = attributes.map(|it| format!(" {}={}", it.key, it.value));
    let mut attributes = Vec::from_iter(attributes);
    attributes.sort();
    format!("{}{}", metric.name(), attributes.concat())
}

fn read(metric: &Metric, into: &mut Exported) {
    match metric.data() {
        AggregatedMetrics::U64(MetricData::Sum(sum)) => {
            assert!(sum.is_monotonic());
            for point in sum.data_points() {
                into.insert(key(metric, point.attributes()), point.value() as f64);
            }
        }
        AggregatedMetrics::F64(MetricData::Gauge(gauge)) => {
            // With the unit 1, Prometheus would add _ratio to the name.
            assert_eq!(metric.unit(), "", "{}", metric.name());
            for point in gauge.data_points() {
                into.insert(key(metric, point.attributes()), point.value());
            }
        }
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
            for point in histogram.data_points() {
                into.insert(key(metric, point.attributes()), point.count() as f64);
            }
        }
        other => panic!("{}: {other:?}", metric.name()),
    }
}

#[test]
fn the_exported_values_equal_the_snapshot_after_several_publications() {
    let exporter = InMemoryMetricExporter::default();
    let reader = PeriodicReader::builder(exporter.clone()).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    let recorder = OpenTelemetryRecorder::new(provider.meter("loadshed"));

    let budget = Budget::new(FnController::new(1..=9, 4, |window| window.limit)).named("mail");
    let shed = LoadShed::ratio(0.5).budget(&budget).at("/mail/{id}", 0.75);
    let mut service = shed.layer(holding());
    let mut running = Vec::new();
    for _ in 0..3 {
        running.extend((0..4).map(|nth| answer(&mut service, get(&format!("/mail/{nth}")))));
        budget
            .try_acquire(Threshold::NEVER_SHED)
            .unwrap()
            .succeeded();
        metrics::with_local_recorder(&recorder, publish);
    }
    budget.try_acquire(all()).unwrap().succeeded();
    metrics::with_local_recorder(&recorder, publish);

    provider.force_flush().unwrap();
    let last = exporter.get_finished_metrics().unwrap().pop().unwrap();
    let mut exported = Exported::new();
    let scopes = last.scope_metrics();
    for metric in scopes.flat_map(|scope| scope.metrics()) {
        assert!(!metric.description().is_empty(), "{}", metric.name());
        read(metric, &mut exported);
    }
    let s = budget.snapshot();
    assert_eq!((s.admitted, s.refused, s.in_flight), (7, 9, 3));
    for (name, value) in [
        ("loadshed_limit budget=mail", 4.0),
        ("loadshed_in_flight budget=mail", 3.0),
        ("loadshed_utilization_ratio budget=mail", 0.75),
        ("loadshed_admitted_total budget=mail", 7.0),
        ("loadshed_refused_total budget=mail reason=utilization", 9.0),
        (
            "loadshed_route_refused_total budget=mail class=SHEDDABLE reason=utilization route=/mail/{id}",
            9.0,
        ),
        ("loadshed_latency_seconds budget=mail outcome=success", 7.0),
    ] {
        assert_eq!(exported.get(name), Some(&value), "{name} in {exported:#?}");
    }
}
