//! A load within the capacity, with an overload in the middle.

use std::{error::Error, time::Duration};

use crate::{
    callers::Protocol,
    chart::{Axis, Chart, Curve},
    load::Load,
    output::Output,
    plan::Plan,
    random::Work,
    run::{Ran, Run, SLOWNESS},
    score::{bins, recovery},
    server::Service,
    variants::{NO_SETTINGS, Variant},
};

pub(crate) struct Disturbed {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) service: Service,
    pub(crate) work: Work,
    /// Loads before, during and after the overload, as shares of the capacity.
    pub(crate) loads: [f64; 3],
    /// Durations of the three phases, in seconds.
    pub(crate) phases: [f64; 3],
    /// Whether service times are longer during the overload.
    pub(crate) slow: bool,
}

/// The interval of the points in the chart.
const BIN: Duration = Duration::from_millis(250);

impl Disturbed {
    pub(crate) fn run(
        &self,
        plan: &Plan,
        capacity: f64,
        output: &mut Output,
    ) -> Result<(), Box<dyn Error>> {
        let [before, during, after] = self.phases(plan);
        let [quiet, loud, _] = self.loads.map(|load| load * capacity);
        let run = self.over(plan, capacity);
        output.begin(self.name, capacity);
        let variants = plan.variants(false);
        let ran: Vec<_> = variants
            .iter()
            .map(|&variant| (variant, run.of(variant)))
            .collect();

        let slower = match self.slow {
            true => format!(", service times {SLOWNESS} times longer"),
            false => String::new(),
        };
        output.report.paragraph(format_args!(
            "**{}.** {} Capacity {capacity:.0}/s. {quiet:.0}/s for {before} s; for {during} s {loud:.0}/s{slower}; \
             {quiet:.0}/s for {after} s. Goodput a second (p50/p99, refused).",
            self.name, self.title
        ));
        let columns = ["before", "during", "after"];
        let rows = ran.iter().map(|(variant, ran)| {
            let mut row = vec![variant.name.to_owned()];
            for (score, column) in ran.scores.iter().zip(columns) {
                output.add(*variant, column, score);
                row.push(format!("{:.0} ({})", score.goodput, score.details()));
            }
            let back = self.recovery(ran, &run);
            row.push(back.map_or("–".into(), |back| format!("{:.1} s", back.as_secs_f64())));
            row
        });
        let rows = rows.collect();
        let columns = columns.into_iter().chain(["back after"]).map(str::to_owned);
        output.table(&columns.collect::<Vec<_>>(), rows);
        self.draw(&ran, &run, output)?;
        let no_settings = ran.iter().find(|(variant, _)| variant.name == NO_SETTINGS);
        if let Some((_, ran)) = no_settings.filter(|_| !plan.quick) {
            let back = self.recovery(ran, &run);
            let back = back.map_or(f64::INFINITY, |back| back.as_secs_f64());
            let goal = format!("{}: back to nine in ten, no settings, s", self.name);
            output.at_most(&goal, 5.0, back);
            // While service times are longer, the capacity is lower, so that the goal does not apply.
            if !self.slow {
                output.add_goals([(self.loads[1], ran.scores[1])].into_iter());
            }
        }
        Ok(())
    }

    fn phases(&self, plan: &Plan) -> [f64; 3] {
        if plan.quick { [0.5; 3] } else { self.phases }
    }

    fn over(&self, plan: &Plan, capacity: f64) -> Run {
        let mut end = plan.warm_up;
        let phases = self.phases(plan).map(Duration::from_secs_f64);
        let spans = phases.map(|phase| {
            let start = end;
            end += phase;
            start..end
        });
        let rates = self.loads.map(|load| load * capacity);
        let warm_up = (plan.warm_up, rates[0]);
        let segments = [warm_up].into_iter().chain(phases.into_iter().zip(rates));
        Run {
            service: self.service,
            load: Load {
                protocol: Protocol::H2,
                work: self.work,
                segments: segments.collect(),
            },
            slow: self.slow.then(|| spans[1].clone()),
            spans: spans.to_vec(),
        }
    }

    fn recovery(&self, ran: &Ran, run: &Run) -> Option<Duration> {
        recovery(&ran.seen, run.spans[1].end, run.spans[2].end)
    }

    fn draw(
        &self,
        ran: &[(Variant, Ran)],
        run: &Run,
        output: &mut Output,
    ) -> Result<(), Box<dyn Error>> {
        let [start, end] = [run.spans[0].start, run.spans[2].end];
        let lines = ran.iter().map(|(variant, ran)| {
            let bins = bins(&ran.seen, end, BIN);
            let seconds = BIN.as_secs_f64();
            let point = |(nth, (good, _)): (usize, &(f64, f64))| {
                (nth as f64 * seconds - start.as_secs_f64(), good / seconds)
            };
            let points: Vec<_> = bins.iter().enumerate().map(point).collect();
            output.add_timeline(variant, &points);
            Curve {
                name: variant.name.to_owned(),
                color: None,
                points: points.into_iter().filter(|(at, _)| *at >= 0.0).collect(),
            }
        });
        let lines = lines.collect();
        let chart = Chart::of(self.name, Axis::linear("s"), "goodput, 1/s", lines);
        output.draw(&chart, self.name)
    }
}
