//! How much is measured.

use std::{error::Error, time::Duration};

use crate::{
    report::Options,
    variants::{ALL, QUICK, Variant},
};

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) quick: bool,
    /// Offered before what is scored: limits are learned, queues grow.
    pub(crate) warm_up: Duration,
    /// Under a steady load.
    pub(crate) scored: Duration,
    only: Vec<String>,
    variants: Vec<Variant>,
}

impl Plan {
    /// Takes `scored=6`, `warm-up=2` (seconds) and `only=steady,step`; what is left are words in the names of rows.
    ///
    /// # Errors
    ///
    /// If a setting is none of these, or no row has one of the words.
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
                Some(_) => return Err(format!("{word} is none of the settings").into()),
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

    /// How long a steady load is offered before what is scored, and how long it is scored. One that the server carries
    /// easily builds no queue and teaches no limit much, so half of both is enough.
    pub(crate) fn lasts(&self, load: f64) -> (Duration, Duration) {
        match load < 1.0 {
            true => (self.warm_up / 2, self.scored / 2),
            false => (self.warm_up, self.scored),
        }
    }

    pub(crate) fn wants(&self, scenario: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == scenario)
    }

    /// All of them, or those that stand for the others. Of a smoke run, all or two.
    pub(crate) fn variants(&self, all: bool) -> Vec<Variant> {
        let variants = self.variants.iter().copied();
        let variants = variants.filter(|variant| all || variant.stands);
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
