//! Charts of a candidate and the oracle over time.

use std::{error::Error, path::Path};

use loadshed::Budget;
use loadshed_lab::{Candidate, Lab, OracleScore, Report, Scenario, Tick};
use plotters::prelude::RGBColor;

use crate::chart::{Axis, Chart, Curve, Panel};

/// One run of one candidate, with the runs of the oracle's limits.
pub(crate) struct Timeline<'a> {
    pub(crate) title: String,
    pub(crate) scenario: &'a Scenario,
    pub(crate) candidate: &'a Candidate,
    pub(crate) seed: u64,
    pub(crate) ratio: f64,
    pub(crate) oracle: Vec<OracleScore>,
}

/// The largest number of points of a line.
const POINTS: usize = 600;

const OFFERED: RGBColor = RGBColor(170, 170, 170);
const ADMITTED: RGBColor = RGBColor(230, 140, 20);
const GOOD: RGBColor = RGBColor(20, 130, 60);
const ORACLE: RGBColor = RGBColor(40, 90, 200);
const LIMIT: RGBColor = RGBColor(190, 30, 45);

impl Timeline<'_> {
    pub(crate) fn draw(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        let initial = self.scenario.initial_limits.first().copied();
        let lab = Lab::seed(self.seed).ratio(self.ratio);
        let ticks = all_ticks(&lab.run(self.scenario, || self.candidate.budget(initial)));
        let oracle = self.oracle_ticks();

        // The interval of a rate in ticks: whole seconds, and several seconds in a long run.
        let step = 10 * ticks.len().div_ceil(10 * POINTS).max(1);
        let a_second = |ticks: &[Tick], of: fn(&Tick) -> usize| {
            let sum = |ticks: &[Tick]| ticks.iter().map(of).sum::<usize>() as f64;
            each(ticks, step, |ticks| 10.0 * sum(ticks) / ticks.len() as f64)
        };
        let step = ticks.len().div_ceil(POINTS).max(1);
        let at = |ticks: &[Tick], of: fn(&Tick) -> usize| {
            // A logarithmic scale has no zero.
            each(ticks, step, |ticks| of(&ticks[0]).max(1) as f64)
        };
        let rates = [
            line("offered", OFFERED, a_second(&ticks, |tick| tick.offered)),
            line("admitted", ADMITTED, a_second(&ticks, |tick| tick.admitted)),
            line(
                "oracle's goodput",
                ORACLE,
                a_second(&oracle, |tick| tick.good),
            ),
            line("goodput", GOOD, a_second(&ticks, |tick| tick.good)),
        ];
        let levels = [
            line("in flight", ADMITTED, at(&ticks, |tick| tick.in_flight)),
            line("oracle's limit", ORACLE, at(&oracle, |tick| tick.limit)),
            line("limit", LIMIT, at(&ticks, |tick| tick.limit)),
        ];

        let caption = format!("{}, seed {}", self.title, self.seed);
        let panels = vec![
            Panel {
                x: Axis::linear("s"),
                y: Axis::linear("1/s"),
                lines: rates.into(),
            },
            Panel {
                x: Axis::linear("s"),
                y: Axis::logarithmic("requests"),
                lines: levels.into(),
            },
        ];
        let title = &caption;
        Chart { title, panels }.draw(path)?;
        Ok(())
    }

    /// Returns the ticks of each phase from the run of the best limit of that phase.
    fn oracle_ticks(&self) -> Vec<Tick> {
        let phase = |(nth, score): (usize, &OracleScore)| {
            let lab = Lab::seed(self.seed).ratio(1.0);
            let report = lab.run(self.scenario, || Budget::fixed(score.limit));
            report.phases[nth].ticks.clone()
        };
        self.oracle.iter().enumerate().flat_map(phase).collect()
    }
}

fn all_ticks(report: &Report) -> Vec<Tick> {
    report
        .phases
        .iter()
        .flat_map(|phase| phase.ticks.iter().copied())
        .collect()
}

/// Returns a point for each `step` ticks.
fn each(ticks: &[Tick], step: usize, value: impl Fn(&[Tick]) -> f64) -> Vec<(f64, f64)> {
    let point = |(nth, ticks)| ((nth * step) as f64 / 10.0, value(ticks));
    ticks.chunks(step).enumerate().map(point).collect()
}

fn line(name: &str, color: RGBColor, points: Vec<(f64, f64)>) -> Curve {
    Curve {
        name: name.to_owned(),
        color: Some(color),
        points,
    }
}
