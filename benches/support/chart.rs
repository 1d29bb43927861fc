//! Draws line charts of one or more panels, as SVG.

use std::{error::Error, path::Path};

use plotters::{
    coord::{
        Shift,
        cartesian::Cartesian2d,
        ranged1d::{Ranged, ValueFormatter},
    },
    prelude::{
        ChartBuilder, ChartContext, Circle, Color, DrawingArea, IntoDrawingArea, IntoLogRange,
        LineSeries, PathElement, RGBColor, SVGBackend, Text, WHITE,
    },
};

#[derive(Debug)]
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    /// From top to bottom.
    pub(crate) panels: Vec<Panel<'a>>,
}

/// One coordinate system.
#[derive(Debug)]
pub(crate) struct Panel<'a> {
    pub(crate) x: Axis<'a>,
    /// A linear axis begins at 0, a logarithmic one at 1.
    pub(crate) y: Axis<'a>,
    pub(crate) lines: Vec<Curve>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis<'a> {
    pub(crate) name: &'a str,
    pub(crate) scale: Scale,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    /// Base 10.
    Logarithmic,
}

#[derive(Debug)]
pub(crate) struct Curve {
    pub(crate) name: String,
    /// `None`: the next of the default colors.
    pub(crate) color: Option<RGBColor>,
    pub(crate) points: Vec<(f64, f64)>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Width and height of a chart with one panel, in pixels.
const SIZE: (u32, u32) = (960, 480);

/// Height of each panel of several, in pixels.
const PANEL_HEIGHT: u32 = 320;

/// Width of the names of the lines, in pixels.
const NAMES: u32 = 240;

/// The colors of Okabe and Ito, which color-blind readers can distinguish, and four of Tol's.
const COLORS: [RGBColor; 12] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(110, 110, 110),
    RGBColor(0, 0, 0),
    RGBColor(136, 34, 85),
    RGBColor(51, 34, 136),
    RGBColor(153, 153, 51),
    RGBColor(102, 17, 0),
];

impl<'a> Chart<'a> {
    /// A chart of one panel.
    #[allow(dead_code, reason = "the lab's charts have two panels")]
    pub(crate) fn of(title: &'a str, x: Axis<'a>, y: &'a str, lines: Vec<Curve>) -> Self {
        let y = Axis::linear(y);
        let panels = vec![Panel { x, y, lines }];
        Self { title, panels }
    }

    /// Writes the chart; returns `false`, without a file, if there is nothing to draw.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(crate) fn draw(&self, path: &Path) -> Result<bool, Box<dyn Error>> {
        // plotters does not terminate on an infinite scale.
        if !self.panels.iter().all(Panel::is_finite) {
            return Ok(false);
        }
        let height = match self.panels.len() {
            1 => SIZE.1,
            count => PANEL_HEIGHT * count as u32,
        };
        let root = SVGBackend::new(path, (SIZE.0, height)).into_drawing_area();
        root.fill(&WHITE)?;
        let areas = root.split_evenly((self.panels.len(), 1));
        for (nth, (panel, area)) in self.panels.iter().zip(&areas).enumerate() {
            panel.draw(Some(self.title).filter(|_| nth == 0), area)?;
        }
        root.present()?;
        Ok(true)
    }
}

impl<'a> Axis<'a> {
    pub(crate) fn linear(name: &'a str) -> Self {
        let scale = Scale::Linear;
        Self { name, scale }
    }

    pub(crate) fn logarithmic(name: &'a str) -> Self {
        let scale = Scale::Logarithmic;
        Self { name, scale }
    }
}

impl Panel<'_> {
    fn is_finite(&self) -> bool {
        let (left, right, top) = self.bounds();
        [left, right, top].into_iter().all(f64::is_finite)
    }

    /// The least and the largest x, and the upper end of the y axis.
    fn bounds(&self) -> (f64, f64, f64) {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let left = points().map(|(x, _)| *x).fold(f64::INFINITY, f64::min);
        let right = points().map(|(x, _)| *x).fold(left, f64::max);
        let least = match self.y.scale {
            Scale::Linear => 0.0,
            Scale::Logarithmic => 2.0,
        };
        let top = points().map(|(_, y)| *y).fold(least, f64::max) * 1.1;
        (left, right, top)
    }

    fn draw(&self, title: Option<&str>, area: &Area<'_>) -> Result<(), Box<dyn Error>> {
        let (left_side, names) = area.split_horizontally(SIZE.0 - NAMES);
        for (nth, (line, color)) in self.colored().enumerate() {
            let y = 60 + 20 * nth as i32;
            let stroke = color.stroke_width(line.width());
            names.draw(&PathElement::new([(8, y), (28, y)], stroke))?;
            let name = line.name.replace('`', "");
            names.draw(&Text::new(name, (36, y - 6), ("sans-serif", 13)))?;
        }
        let mut builder = ChartBuilder::on(&left_side);
        builder
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(64);
        if let Some(title) = title {
            builder.caption(title, ("sans-serif", 18));
        }
        let (left, right, top) = self.bounds();
        let (x, y) = (left..right, 0.0..top);
        let log_x = (left * 0.9..right * 1.1).log_scale();
        let log_y = (1.0..top).log_scale();
        match (self.x.scale, self.y.scale) {
            (Scale::Linear, Scale::Linear) => self.draw_lines(builder.build_cartesian_2d(x, y)?),
            (Scale::Linear, Scale::Logarithmic) => {
                self.draw_lines(builder.build_cartesian_2d(x, log_y)?)
            }
            (Scale::Logarithmic, Scale::Linear) => {
                self.draw_lines(builder.build_cartesian_2d(log_x, y)?)
            }
            (Scale::Logarithmic, Scale::Logarithmic) => {
                self.draw_lines(builder.build_cartesian_2d(log_x, log_y)?)
            }
        }
    }

    fn draw_lines<'a, X, Y>(
        &self,
        mut chart: ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    ) -> Result<(), Box<dyn Error>>
    where
        X: Ranged<ValueType = f64> + ValueFormatter<f64>,
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc(self.x.name)
            .y_desc(self.y.name)
            .draw()?;
        for (line, color) in self.colored() {
            let points = || line.points.iter().copied();
            let stroke = color.stroke_width(line.width());
            chart.draw_series(LineSeries::new(points(), stroke))?;
            // The sizes or loads that were measured. A line over time has too many points.
            if self.x.scale == Scale::Logarithmic {
                let circle = |at| Circle::new(at, 3, color.filled());
                chart.draw_series(points().map(circle))?;
            }
        }
        Ok(())
    }

    fn colored(&self) -> impl Iterator<Item = (&Curve, RGBColor)> {
        let lines = self.lines.iter().zip(COLORS.iter().cycle());
        lines.map(|(line, color)| (line, line.color.unwrap_or(*color)))
    }
}

impl Curve {
    /// Lines of this crate are thicker than those of other crates.
    fn width(&self) -> u32 {
        if self.name.starts_with("loadshed") {
            3
        } else {
            1
        }
    }
}
