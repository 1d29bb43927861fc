//! Charts of all scenarios of a run.

use std::{error::Error, path::Path};

use loadshed_lab::Scenario;

use crate::{options::Options, oracle_cache::OracleCache, timeline::Timeline};

/// The directory of committed charts.
const CHARTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/lab");

/// Draws a chart of each scenario with the first candidate and the oracle of the first kind.
pub(crate) fn draw(
    options: &Options,
    size: &str,
    scenarios: &[Scenario],
    cache: &OracleCache,
    out: &Path,
) -> Result<(), Box<dyn Error>> {
    let Some(candidate) = options.candidates.first() else {
        return Ok(());
    };
    for scenario in scenarios {
        let name = format!("{size}-{}.svg", slug(&scenario.name));
        let chart = Timeline {
            title: format!("{size}, {}: {}", scenario.name, candidate.name()),
            scenario,
            candidate,
            seed: options.first,
            ratio: options.ratio,
            oracle: cache.of(scenario, options.first).swap_remove(0),
        };
        chart.draw(&out.join(&name))?;
        if options.commit {
            std::fs::create_dir_all(CHARTS)?;
            std::fs::copy(out.join(&name), Path::new(CHARTS).join(&name))?;
        }
    }
    eprintln!(
        "{} charts of {} in {}",
        scenarios.len(),
        candidate.name(),
        out.display()
    );
    Ok(())
}

fn slug(name: &str) -> String {
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.');
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join("-")
}
