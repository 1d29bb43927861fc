//! The same metrics as lines in a terminal.

use super::frame::{Frame, SideMetrics};

/// Prints a line for every second frame: one line a second.
pub(crate) fn print(frame: &Frame) {
    const PAGE: u64 = 40;
    if frame.number % PAGE == 2 {
        println!("{HEAD}");
    }
    if frame.number.is_multiple_of(2) {
        println!("{}", line(frame));
    }
}

const HEAD: &str = concat!(
    "              ┆ without                                       ┆ with LoadShed\n",
    "  time   load ┆ offered goodput          p50     p99 in flight ┆ offered goodput          p50     p99 in flight",
    "  limit refused   hints",
);

fn line(frame: &Frame) -> String {
    let Frame { bare, shed, .. } = frame;
    let limit = shed.limit.map_or("none".into(), |limit| limit.to_string());
    format!(
        "{:>4.0} s {:>4} × ┆ {} ┆ {} {limit:>6} {:>7} {:>7}",
        frame.at,
        frame.settings.load,
        side(bare),
        side(shed),
        percent(shed.refused),
        hints(shed.hint_p50, shed.hint_max),
    )
}

fn side(side: &SideMetrics) -> String {
    format!(
        "{:>5.0}/s {:>5.0}/s {:>5} {:>6} {:>7} {:>9}",
        side.offered,
        side.goodput,
        percent(Some(side.goodput_share)),
        millis(side.p50),
        millis(side.p99),
        side.in_flight,
    )
}

pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or("–".into(), |share| format!("{:.0} %", share * 100.0))
}

/// Formats milliseconds; from 1,000 on, as seconds.
pub(crate) fn millis(millis: Option<f64>) -> String {
    match millis {
        None => "–".into(),
        Some(millis) if millis < 1_000.0 => format!("{millis:.0} ms"),
        Some(millis) => format!("{:.1} s", millis / 1_000.0),
    }
}

/// Formats the median and the longest retry hint, in seconds.
pub(crate) fn hints(median: Option<f64>, longest: Option<f64>) -> String {
    match (median, longest) {
        (Some(median), Some(longest)) if longest - median < 1.0 => format!("{longest:.0} s"),
        (Some(median), Some(longest)) => format!("{median:.0}–{longest:.0} s"),
        _ => "–".into(),
    }
}
