//! The settings of a run.

use std::{error::Error, time::Duration};

use crate::{
    report::Options,
    variants::{ALL, QUICK, Variant},
};

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) quick: bool,
    /// Duration of the warm-up, in which limits are learned and queues grow.
    pub(crate) warm_up: Duration,
    /// Scored duration of a steady load.
    pub(crate) scored: Duration,
    only: Vec<String>,
    variants: Vec<Variant>,
}

impl Plan {
    /// Parses `scored=6`, `warm-up=2` (seconds) and `only=steady,step`; all other words choose rows by their names.
    ///
    /// # Errors
    ///
    /// If a setting is unknown, or no row has one of the words in its name.
    pub(crate) fn new(options: &Options) -> Result<Self, Box<dyn Error>> {
        let seconds = Duration::from_secs_f64;
        let mut plan = Self {
            quick: options.quick,
            warm_up: seconds(if options.quick { 0.2 } else { 2.0 }),
            scored: seconds(if options.quick { 0.5 } else { 3.0 }),
            only: Vec::new(),
            variants: ALL.to_vec(),
        };
        let mut words = Vec::new();
        for word in &options.words {
            match word.split_once('=') {
                Some(("scored", value)) => plan.scored = seconds(value.parse()?),
                Some(("warm-up", value)) => plan.warm_up = seconds(value.parse()?),
                Some(("only", value)) => plan.only.extend(value.split(',').map(str::to_owned)),
                Some(_) => {
                    return Err(
                        format!("unknown setting {word}: must be scored, warm-up or only").into(),
                    );
                }
                None => words.push(word.clone()),
            }
        }
        if words.is_empty() && options.quick {
            words.extend(QUICK.map(str::to_owned));
        }
        let options = Options { words, ..*options };
        plan.variants.retain(|variant| options.wants(variant.name));
        if plan.variants.is_empty() {
            return Err("no row has one of these words in its name".into());
        }
        Ok(plan)
    }

    /// Returns the warm-up and the scored duration of a steady load. A light load builds no queue and teaches a limit
    /// little, so that half of both is enough.
    pub(crate) fn durations(&self, load: f64) -> (Duration, Duration) {
        match load < 1.0 {
            true => (self.warm_up / 2, self.scored / 2),
            false => (self.warm_up, self.scored),
        }
    }

    pub(crate) fn wants(&self, scenario: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == scenario)
    }

    /// Returns all variants, or those that represent the others; in a smoke run, all or two of its few.
    pub(crate) fn variants(&self, all: bool) -> Vec<Variant> {
        let variants = self.variants.iter().copied();
        let variants = variants.filter(|variant| all || variant.representative);
        let few = self.quick && !all;
        variants
            .skip(if few {
                self.variants.len().saturating_sub(2)
            } else {
                0
            })
            .collect()
    }
}
