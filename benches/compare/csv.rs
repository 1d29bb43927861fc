//! The raw figures of a bench, read back.

/// Lines of as many fields as there are columns. A name is in quotes, and has none in it.
#[derive(Debug)]
pub(crate) struct Csv<'a> {
    columns: Vec<&'a str>,
    lines: Vec<Vec<&'a str>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
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

    pub(crate) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let columns = &self.columns[..];
        self.lines
            .iter()
            .map(move |fields| Line { columns, fields })
    }
}

impl<'a> Line<'a> {
    /// # Errors
    ///
    /// If there is no such column.
    pub(crate) fn text(self, column: &str) -> Result<&'a str, String> {
        let at = self.columns.iter().position(|name| *name == column);
        let field = at.and_then(|at| self.fields.get(at));
        let missing = || format!("there is no {column} in {:?}", self.fields);
        field.copied().ok_or_else(missing)
    }

    /// # Errors
    ///
    /// If there is no such column, or no number in it.
    pub(crate) fn number(self, column: &str) -> Result<f64, String> {
        let text = self.text(column)?;
        text.parse()
            .map_err(|_| format!("{column} is {text} in {:?}", self.fields))
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
