//! The cells of a table: what is part of the evaluation.

use crate::{criterion::Criterion, scenario::scenario::Scenario};

/// What a row is about: the kinds of one name in one phase.
pub(crate) struct Cell<'a> {
    pub(crate) phase: usize,
    /// The index of the name in [`Scenario::kind_names`].
    pub(crate) name: usize,
    pub(crate) kind: &'a str,
    pub(crate) criterion: Option<Criterion>,
}

/// Returns what is part of the evaluation, in the order of rows.
pub(crate) fn cells(scenario: &Scenario) -> Vec<Cell<'_>> {
    let mut cells = Vec::new();
    for (phase, conditions) in scenario.phases.iter().enumerate() {
        if !conditions.scored {
            continue;
        }
        for (name, kind) in scenario.kind_names().into_iter().enumerate() {
            // Kinds of one name have the same criterion.
            let is_named = |nth: &usize| scenario.kinds[*nth].name == kind;
            let first = (0..scenario.kinds.len()).find(is_named).unwrap_or(0);
            let conditions = conditions.kind(first);
            if conditions.scored {
                cells.push(Cell {
                    phase,
                    name,
                    kind,
                    criterion: conditions.criterion,
                });
            }
        }
    }
    cells
}
