//! Reads the raw figures of a bench.

/// A header and lines with one field per column. A quoted name contains no quotes.
#[derive(Debug)]
pub(crate) struct Csv<'a> {
    columns: Vec<&'a str>,
    lines: Vec<Vec<&'a str>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    columns: &'a [&'a str],
    fields: &'a [&'a str],
}

impl<'a> Csv<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let mut lines = text.lines().map(fields);
        Self {
            columns: lines.next().unwrap_or_default(),
            lines: lines.collect(),
        }
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = Record<'_>> {
        let columns = &self.columns[..];
        self.lines
            .iter()
            .map(move |fields| Record { columns, fields })
    }
}

impl<'a> Record<'a> {
    /// # Errors
    ///
    /// If the column is missing.
    pub(crate) fn text(self, column: &str) -> Result<&'a str, String> {
        let at = self.columns.iter().position(|name| *name == column);
        let field = at.and_then(|at| self.fields.get(at));
        let missing = || format!("no column {column} in {:?}", self.fields);
        field.copied().ok_or_else(missing)
    }

    /// # Errors
    ///
    /// If the column is missing or is not a number.
    pub(crate) fn number(self, column: &str) -> Result<f64, String> {
        let text = self.text(column)?;
        text.parse().map_err(|_| {
            format!(
                "invalid {column} {text}: must be a number, in {:?}",
                self.fields
            )
        })
    }
}

fn fields(line: &str) -> Vec<&str> {
    let mut quoted = false;
    let ends = move |char| {
        quoted ^= char == '"';
        char == ',' && !quoted
    };
    line.split(ends)
        .map(|field| field.trim_matches('"'))
        .collect()
}
