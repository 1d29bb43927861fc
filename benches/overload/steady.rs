//! Steady loads: every variant at every load, one after the other.

use std::error::Error;

use crate::{
    callers::Protocol,
    chart::{Axis, Chart, Curve},
    load::Load,
    output::Output,
    plan::Plan,
    random::Work,
    run::Run,
    score::{Score, millis},
    server::Service,
    variants::{NO_SETTINGS, Variant},
};

pub(crate) struct Steady {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) service: Service,
    pub(crate) work: Work,
    /// Loads, as shares of the capacity.
    pub(crate) loads: &'static [f64],
    /// Whether all variants run, and charts are drawn.
    pub(crate) all: bool,
}

type Rows = Vec<(Variant, Vec<Score>)>;

impl Steady {
    pub(crate) fn run(
        &self,
        plan: &Plan,
        capacity: f64,
        output: &mut Output,
    ) -> Result<(), Box<dyn Error>> {
        let loads = match plan.quick {
            // At the last load but one, most requests are refused.
            true => &self.loads[self.loads.len().saturating_sub(2)..][..1],
            false => self.loads,
        };
        output.begin(self.name, capacity);
        let variants = plan.variants(self.all);
        let mut rows: Rows = variants.into_iter().map(|row| (row, Vec::new())).collect();
        // Column by column, so that a slow phase of the machine slows a column and not a row.
        for load in loads {
            let run = self.at(*load, capacity, plan);
            for (variant, scores) in &mut rows {
                let score = run.of(*variant).scores[0];
                output.add(*variant, &load.to_string(), &score);
                scores.push(score);
            }
        }
        output.report.paragraph(format_args!(
            "**{}.** {} Capacity {capacity:.0}/s. Goodput ÷ capacity (p50/p99 of good responses, share refused).",
            self.name, self.title
        ));
        let columns: Vec<_> = loads.iter().map(|load| format!("{load} ×")).collect();
        let cells = rows.iter().map(|(variant, scores)| {
            let cell = |score: &Score| {
                if score.is_void() {
                    return format!("callers {:.0} ms late", millis(score.lateness));
                }
                let share = score.goodput / capacity;
                format!("{share:.2} ({})", score.details())
            };
            let mut row = vec![variant.name.to_owned()];
            row.extend(scores.iter().map(cell));
            row
        });
        output.table(&columns, cells.collect());
        self.print_details(loads, &rows, output);
        if self.all {
            draw(loads, &rows, capacity, output)?;
        }
        if !plan.quick {
            goals(loads, &rows, output);
        }
        Ok(())
    }

    fn at(&self, load: f64, capacity: f64, plan: &Plan) -> Run {
        let (warm_up, scored) = plan.durations(load);
        let end = warm_up + scored;
        Run {
            service: self.service,
            load: Load {
                protocol: self.protocol,
                work: self.work,
                segments: vec![(end, load * capacity)],
            },
            spans: vec![warm_up..end],
            slow: None,
        }
    }

    /// Adds a table of the latencies at ten times the capacity.
    fn print_details(&self, loads: &[f64], rows: &Rows, output: &mut Output) {
        let at = loads.iter().position(|&load| load == 10.0);
        let at = at.unwrap_or(loads.len() - 1);
        let half = loads.iter().position(|&load| load == 0.5);
        let cells = rows.iter().map(|(variant, scores)| {
            let score = &scores[at];
            let admitted = half.map(|half| scores[half].processor);
            let refusal = admitted.and_then(|admitted| score.processor_a_refusal(admitted));
            let mut row = vec![variant.name.to_owned()];
            let good = [score.latency.p50, score.latency.p99, score.latency.p999];
            let good = good.map(|latency| (score.goodput > 0.0).then(|| millis(latency)));
            let refused = [score.refusal.p50, score.refusal.p99];
            let sent = [score.refusal_from_send.p50, score.refusal_from_send.p99];
            let refused = refused.into_iter().chain(sent);
            let refused = refused.map(|latency| (score.refused > 0.0).then(|| millis(latency)));
            row.extend(good.map(|latency| figure(latency, 1)));
            row.extend(refused.map(|latency| figure(latency, 2)));
            row.push(figure(refusal, 1));
            row
        });
        output.report.paragraph(format_args!(
            "**{}** at {} ×. All in ms, from when a request was due, or as it says from when it was sent; the server's \
             processor time for one refusal in µs.",
            self.name, loads[at]
        ));
        let columns = [
            "good: p50",
            "p99",
            "p99.9",
            "refusal: p50",
            "p99",
            "from its sending: p50",
            "p99",
            "processor",
        ];
        output.table(&columns.map(str::to_owned), cells.collect());
    }
}

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".into(), |value| format!("{value:.digits$}"))
}

fn draw(loads: &[f64], rows: &Rows, capacity: f64, output: &Output) -> Result<(), Box<dyn Error>> {
    let lines = |figure: &dyn Fn(&Score) -> Option<f64>| {
        let representatives = rows.iter().filter(|(variant, _)| variant.representative);
        let line = |(variant, scores): &(Variant, Vec<Score>)| {
            let points = loads.iter().zip(scores);
            let points = points.filter_map(|(&load, score)| Some((load, figure(score)?)));
            Curve {
                name: variant.name.to_owned(),
                color: None,
                points: points.collect(),
            }
        };
        representatives.map(line).collect()
    };
    let load = Axis::logarithmic("offered ÷ capacity");
    let goodput = lines(&|score| Some(score.goodput / capacity));
    let goodput = Chart::of("Goodput", load, "goodput ÷ capacity", goodput);
    output.draw(&goodput, "steady")?;
    // Without a good response there is no percentile, and 0 would look best.
    let latency = lines(&|score| (score.goodput > 0.0).then(|| millis(score.latency.p99)));
    let latency = Chart::of("Latency of good responses", load, "p99, ms", latency);
    output.draw(&latency, "latency")
}

fn goals(loads: &[f64], rows: &Rows, output: &mut Output) {
    let Some((_, scores)) = rows.iter().find(|(row, _)| row.name == NO_SETTINGS) else {
        return;
    };
    let over = loads.iter().copied().zip(scores.iter().copied());
    output.add_goals(over.filter(|(load, _)| *load >= 2.0));
}
