//! The options of a run of the bench.

use std::{
    error::Error,
    io::{self, IsTerminal, Write},
    sync::Arc,
};

use loadshed_lab::{
    Candidate, Evaluator, Length, Scenario, Size, mixture_cases, mixtures, scenarios, spikes,
};

use crate::{candidates, oracle_cache::OracleCache};

/// The options of a run of the bench.
pub(crate) struct Options {
    pub(crate) seeds: Option<u64>,
    pub(crate) first: u64,
    pub(crate) set: Set,
    /// The sizes of servers, by name.
    pub(crate) sizes: Vec<String>,
    pub(crate) only: Vec<String>,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) length: Length,
    pub(crate) ratio: f64,
    pub(crate) stuck: bool,
    pub(crate) drawn: Option<u64>,
    pub(crate) faults: Option<u64>,
    pub(crate) details: bool,
    pub(crate) wide: bool,
    pub(crate) misses: bool,
    pub(crate) commit: bool,
    pub(crate) storm: bool,
    pub(crate) shares: bool,
}

/// A set of scenarios.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Set {
    Catalogue,
    Mixtures,
    Spikes,
}

/// The name of the size of scenarios with rates and times of their own.
const CASES: &str = "cases";

impl Set {
    /// Returns the names of the sizes.
    fn sizes(self) -> Vec<String> {
        let all = Size::ALL.iter();
        match self {
            Self::Catalogue | Self::Spikes => all.map(ToString::to_string).collect(),
            // A slow server has no mixtures.
            Self::Mixtures => {
                let sizes = all
                    .filter(|size| **size != Size::Slow)
                    .map(ToString::to_string);
                sizes.chain([CASES.to_owned()]).collect()
            }
        }
    }

    fn scenarios(self, size: &str, length: Length) -> Vec<Scenario> {
        let Some(size) = Size::ALL
            .into_iter()
            .find(|named| named.to_string() == size)
        else {
            return mixture_cases();
        };
        match self {
            Self::Catalogue => scenarios(size, length),
            Self::Mixtures => mixtures(size, length),
            Self::Spikes => spikes(size),
        }
    }
}

impl Options {
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            seeds: None,
            first: 1,
            set: Set::Catalogue,
            sizes: Vec::new(),
            only: Vec::new(),
            candidates: candidates::all(),
            length: Length::Full,
            ratio: 0.85,
            stuck: false,
            drawn: None,
            faults: None,
            details: false,
            wide: false,
            misses: false,
            commit: false,
            storm: false,
            shares: false,
        };
        for argument in arguments {
            let (name, value) = argument.split_once('=').unwrap_or((&argument, ""));
            match name {
                // Passed by cargo.
                "--bench" => {}
                "seeds" => options.seeds = Some(value.parse()?),
                "first" => options.first = value.parse()?,
                "sizes" => options.sizes = value.split(',').map(str::to_owned).collect(),
                "mixtures" => options.set = Set::Mixtures,
                "spikes" => options.set = Set::Spikes,
                "faults" => options.faults = Some(value.parse()?),
                "details" => options.details = true,
                "only" => options.only = value.split('|').map(str::to_owned).collect(),
                "candidates" => {
                    let matches = |candidate: &Candidate| {
                        value.split(',').any(|part| candidate.name().contains(part))
                    };
                    options.candidates.retain(matches);
                }
                "short" => options.length = Length::Short,
                "ratio" => options.ratio = value.parse()?,
                "stuck" => {
                    options.seeds = Some(value.parse()?);
                    options.stuck = true;
                    options.length = Length::Short;
                }
                "drawn" => options.drawn = Some(value.parse()?),
                "wide" => options.wide = true,
                "misses" => options.misses = true,
                "commit" => options.commit = true,
                "storm" => options.storm = true,
                "shares" => options.shares = true,
                _ => {
                    return Err(format!(
                        "unknown option {argument:?}: lab/benches/lab/main.rs lists the options"
                    )
                    .into());
                }
            }
        }
        let known = options.set.sizes();
        if options.sizes.is_empty() {
            let count = if options.stuck || options.storm {
                3
            } else {
                known.len()
            };
            options.sizes = known[..count].to_vec();
        }
        match options.sizes.iter().find(|size| !known.contains(size)) {
            None => Ok(options),
            Some(size) => {
                Err(format!("invalid size {size:?}: must be one of {}", known.join(", ")).into())
            }
        }
    }

    /// Returns whether charts are drawn.
    pub(crate) fn charts(&self) -> bool {
        self.set == Set::Catalogue && !self.stuck
    }

    /// Returns whether a table by family of scenarios is printed.
    pub(crate) fn has_families(&self) -> bool {
        self.set != Set::Catalogue && !self.stuck
    }

    /// Returns the sizes of the catalogue.
    pub(crate) fn catalogue_sizes(&self) -> Vec<Size> {
        let is_wanted = |size: &Size| self.sizes.contains(&size.to_string());
        Size::ALL.into_iter().filter(is_wanted).collect()
    }

    /// Returns the scenarios of this size.
    pub(crate) fn scenarios(&self, size: &str) -> Vec<Scenario> {
        let mut scenarios = self.set.scenarios(size, self.length);
        let matches =
            |scenario: &Scenario| self.only.iter().any(|part| scenario.name.contains(part));
        scenarios.retain(|scenario| self.only.is_empty() || matches(scenario));
        scenarios
    }

    pub(crate) fn evaluator(&self, size: &str, cache: &Arc<OracleCache>) -> Evaluator {
        let seeds = self.seeds.unwrap_or(if size == "large" { 3 } else { 20 });
        let name = size.to_owned();
        let evaluator = Evaluator::default()
            .seeds(self.first..self.first + seeds)
            .ratio(self.ratio)
            .on_progress(move |done, of| progress(&name, done, of));
        if self.stuck {
            return evaluator.against_bound();
        }
        let cache = Arc::clone(cache);
        evaluator.oracle_scores(move |scenario, seed| cache.of(scenario, seed))
    }
}

/// Prints the progress: one line that is overwritten on a terminal, and otherwise a line for each twentieth.
fn progress(size: &str, done: usize, of: usize) {
    let mut stderr = io::stderr().lock();
    if stderr.is_terminal() {
        let end = if done == of { "\n" } else { "" };
        let _ = write!(stderr, "\r{size}: {done} of {of} runs{end}");
    } else if done * 20 / of != (done - 1) * 20 / of {
        let _ = writeln!(stderr, "{size}: {done} of {of} runs");
    }
}
