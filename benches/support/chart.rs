//! Lines over a logarithmic scale, or over time, as SVG.

use std::{error::Error, path::Path};

use plotters::{
    coord::{
        cartesian::Cartesian2d,
        ranged1d::{Ranged, ValueFormatter},
        types::RangedCoordf64,
    },
    prelude::{
        ChartBuilder, ChartContext, Circle, Color, IntoDrawingArea, IntoLogRange, LineSeries,
        PathElement, RGBColor, SVGBackend, Text, WHITE,
    },
};

/// What is drawn.
#[derive(Debug)]
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    /// Of x: each step is ten times the one before.
    pub(crate) logarithmic: bool,
    pub(crate) lines: Vec<Line>,
}

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

const SIZE: (u32, u32) = (960, 480);

/// Of that, the names of the lines.
const NAMES: u32 = 240;

/// Okabe and Ito's, which nearly everyone can tell apart, and four of Tol's.
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

impl Chart<'_> {
    /// Whether there is something to draw; else there is no file.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(crate) fn draw(&self, path: &Path) -> Result<bool, Box<dyn Error>> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let left = points().map(|(x, _)| *x).fold(f64::INFINITY, f64::min);
        let right = points().map(|(x, _)| *x).fold(left, f64::max);
        let top = points().map(|(_, y)| *y).fold(0.0, f64::max) * 1.1;
        // plotters would look for the ticks of an endless scale for ever.
        if ![left, right, top].into_iter().all(f64::is_finite) {
            return Ok(false);
        }

        let root = SVGBackend::new(path, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (left_side, names) = root.split_horizontally(SIZE.0 - NAMES);
        for (nth, (line, color)) in self.lines.iter().zip(COLORS.iter().cycle()).enumerate() {
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
            .y_label_area_size(64)
            .caption(self.title, ("sans-serif", 18));
        if self.logarithmic {
            let x = (left * 0.9..right * 1.1).log_scale();
            self.draw_lines(builder.build_cartesian_2d(x, 0.0..top)?)?;
        } else {
            self.draw_lines(builder.build_cartesian_2d(left..right, 0.0..top)?)?;
        }
        root.present()?;
        Ok(true)
    }

    fn draw_lines<'a, X>(
        &self,
        mut chart: ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, RangedCoordf64>>,
    ) -> Result<(), Box<dyn Error>>
    where
        X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc(self.x)
            .y_desc(self.y)
            .draw()?;
        for (line, color) in self.lines.iter().zip(COLORS.iter().cycle()) {
            let points = || line.points.iter().copied();
            let stroke = color.stroke_width(line.width());
            chart.draw_series(LineSeries::new(points(), stroke))?;
            // Where it was measured; over time, everywhere.
            if self.logarithmic {
                let circle = |at| Circle::new(at, 3, color.filled());
                chart.draw_series(points().map(circle))?;
            }
        }
        Ok(())
    }
}

impl Line {
    /// This crate's can be told from the others'.
    fn width(&self) -> u32 {
        if self.name.starts_with("loadshed") {
            3
        } else {
            1
        }
    }
}
