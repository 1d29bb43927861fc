//! Charts of a candidate and the oracle over time.

use std::{error::Error, path::Path};

use loadshed::Budget;
use loadshed_lab::{Candidate, Lab, OracleScore, Report, Scenario, Tick};
use plotters::{
    coord::{
        Shift,
        cartesian::Cartesian2d,
        ranged1d::{Ranged, ValueFormatter},
        types::RangedCoordf64,
    },
    prelude::{
        ChartBuilder, ChartContext, Color, DrawingArea, IntoDrawingArea, IntoLogRange, LineSeries,
        PathElement, RGBColor, SVGBackend, SeriesLabelPosition, WHITE,
    },
};

/// One run of one candidate, with the runs of the oracle's limits.
pub(crate) struct Chart<'a> {
    pub(crate) title: String,
    pub(crate) scenario: &'a Scenario,
    pub(crate) candidate: &'a Candidate,
    pub(crate) seed: u64,
    pub(crate) ratio: f64,
    pub(crate) oracle: Vec<OracleScore>,
}

struct Line {
    label: &'static str,
    color: RGBColor,
    points: Vec<(f64, f64)>,
}

/// The largest number of points of a line.
const POINTS: usize = 600;
const SIZE: (u32, u32) = (960, 640);

const OFFERED: RGBColor = RGBColor(170, 170, 170);
const ADMITTED: RGBColor = RGBColor(230, 140, 20);
const GOOD: RGBColor = RGBColor(20, 130, 60);
const ORACLE: RGBColor = RGBColor(40, 90, 200);
const LIMIT: RGBColor = RGBColor(190, 30, 45);

impl Chart<'_> {
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
            line(
                "offered, 1/s",
                OFFERED,
                a_second(&ticks, |tick| tick.offered),
            ),
            line(
                "admitted, 1/s",
                ADMITTED,
                a_second(&ticks, |tick| tick.admitted),
            ),
            line(
                "oracle's goodput, 1/s",
                ORACLE,
                a_second(&oracle, |tick| tick.good),
            ),
            line("goodput, 1/s", GOOD, a_second(&ticks, |tick| tick.good)),
        ];
        let levels = [
            line("in flight", ADMITTED, at(&ticks, |tick| tick.in_flight)),
            line("oracle's limit", ORACLE, at(&oracle, |tick| tick.limit)),
            line("limit", LIMIT, at(&ticks, |tick| tick.limit)),
        ];

        let seconds = ticks.len() as f64 / 10.0;
        let root = SVGBackend::new(path, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (upper, lower) = root.split_vertically(SIZE.1 / 2);
        let caption = format!("{}, seed {}", self.title, self.seed);
        let chart = builder(&upper)
            .caption(caption, ("sans-serif", 18))
            .build_cartesian_2d(0.0..seconds, 0.0..top(&rates))?;
        draw_lines(chart, rates)?;
        let chart =
            builder(&lower).build_cartesian_2d(0.0..seconds, (1.0..top(&levels)).log_scale())?;
        draw_lines(chart, levels)?;
        root.present()?;
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

fn builder<'a, 'b>(
    area: &'a DrawingArea<SVGBackend<'b>, Shift>,
) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut builder = ChartBuilder::on(area);
    builder
        .margin(10)
        .x_label_area_size(28)
        .y_label_area_size(56);
    builder
}

fn draw_lines<'a, Y>(
    mut chart: ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, Y>>,
    lines: impl IntoIterator<Item = Line>,
) -> Result<(), Box<dyn Error>>
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("s")
        .draw()?;
    for line in lines {
        let color = line.color;
        chart
            .draw_series(LineSeries::new(line.points, color))?
            .label(line.label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
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

fn line(label: &'static str, color: RGBColor, points: Vec<(f64, f64)>) -> Line {
    Line {
        label,
        color,
        points,
    }
}

fn top(lines: &[Line]) -> f64 {
    let values = lines
        .iter()
        .flat_map(|line| line.points.iter().map(|(_, value)| *value));
    values.fold(2.0, f64::max) * 1.1
}
