use std::{
    fmt, mem,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{pattern::Pattern, tree::Tree};
use crate::{support::invalid::InvalidSetting, threshold::threshold::Threshold};

/// The routes with a setting of their own.
#[derive(Clone, Default)]
pub(crate) struct Routes {
    tree: Tree<Entry>,
    /// In the order of their numbers: the first pattern has number 1.
    patterns: Vec<Named>,
    /// Whether all other routes are never shed.
    only: bool,
    /// Whether some patterns are exempt, and whether some are never shed.
    exempts: bool,
    excepts: bool,
}

/// The label of a pattern, and its threshold, which can change while requests are decided.
///
/// # Memory ordering
///
/// `Relaxed`: a threshold orders no other memory.
struct Named {
    label: Box<str>,
    /// The bits of the pattern's own threshold, 0 without one.
    at: AtomicU64,
}

/// What the table says of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// `None` where the settings after the routes decide.
    pub(crate) threshold: Option<Threshold>,
    /// The number of the pattern that applies, 0 if none does.
    pub(crate) nth: u16,
}

/// The setting of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Exempt,
    At(Threshold),
    Only,
    Except,
}

/// The setting of one method of a path, or of all methods without an entry.
#[derive(Clone, Debug)]
struct Entry {
    method: Option<Box<str>>,
    meaning: Meaning,
    /// The index of the pattern.
    index: usize,
}

impl Routes {
    /// Adds a pattern.
    ///
    /// # Errors
    ///
    /// If the pattern is malformed, or conflicts with another pattern of the table.
    pub(crate) fn add(&mut self, meaning: Meaning, route: &str) -> Result<(), InvalidSetting> {
        let pattern = Pattern::parse(route)?;
        self.exempts |= meaning == Meaning::Exempt;
        self.excepts |= meaning == Meaning::Except;
        if let Some(other) = self.occupied(pattern.path).first() {
            let other = self.path(other);
            if other != pattern.path {
                let allowed = format!("one that does not conflict with {other:?}");
                return Err(InvalidSetting::new(
                    "route",
                    format_args!("{:?}", pattern.path),
                    allowed,
                ));
            }
        }

        let entries = self.tree.at(pattern.path);
        let same = entries
            .iter_mut()
            .find(|it| it.method.as_deref() == pattern.method);
        if let Some(same) = same {
            same.meaning = same.meaning.and(meaning, route)?;
            self.patterns[same.index].at = same.meaning.own().into();
            return Ok(());
        }
        let mut all = mem::take(entries).into_vec();
        all.push(Entry {
            method: pattern.method.map(Into::into),
            meaning,
            index: self.patterns.len(),
        });
        // HEAD before GET, which also stands for HEAD. The entry without a method comes last.
        all.sort_by(|a, b| b.method.cmp(&a.method));
        *entries = all.into();
        self.patterns.push(Named {
            label: pattern.to_string().into(),
            at: meaning.own().into(),
        });
        Ok(())
    }

    /// Makes all routes without an entry never shed, also in an empty table.
    pub(crate) fn only(&mut self) {
        self.only = true;
    }

    /// Returns whether a route has a ratio of its own.
    pub(crate) fn has_ratios(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.bits() != 0)
    }

    /// Returns the thresholds that [`find`](Self::find) may return.
    pub(crate) fn thresholds(&self) -> impl Iterator<Item = Threshold> + Clone {
        let exempt = self.exempts.then_some(Threshold::EXEMPT);
        let never_shed = (self.only || self.excepts).then_some(Threshold::NEVER_SHED);
        let own = self.patterns.iter().filter(|it| it.bits() != 0);
        let exceptions = exempt.into_iter().chain(never_shed);
        exceptions.chain(own.map(Named::threshold))
    }

    pub(crate) fn len(&self) -> usize {
        self.patterns.len()
    }

    pub(crate) fn label(&self, index: usize) -> Option<&str> {
        self.patterns.get(index).map(|pattern| &*pattern.label)
    }

    fn labels(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().map(|pattern| &*pattern.label)
    }

    /// Changes the threshold of a pattern that has its own.
    ///
    /// # Errors
    ///
    /// If there is no such pattern.
    pub(crate) fn set_at(&self, route: &str, threshold: Threshold) -> Result<(), InvalidSetting> {
        let label = Pattern::parse(route)?.to_string();
        let own = || self.patterns.iter().filter(|it| it.bits() != 0);
        let Some(pattern) = own().find(|it| *it.label == *label) else {
            let labels = own().map(|it| format!("{:?}", it.label));
            let labels = labels.collect::<Vec<_>>().join(", ");
            let allowed = format!("a route with a ratio of its own: [{labels}]");
            return Err(InvalidSetting::new(
                "route",
                format_args!("{route:?}"),
                allowed,
            ));
        };
        pattern.at.store(threshold.to_bits(), Ordering::Relaxed);
        Ok(())
    }

    /// Returns what applies to a request by its method and path.
    pub(crate) fn find(&self, method: &str, path: &str) -> Found {
        let mut found = None;
        // The closest patterns come first.
        self.tree.visit(path.as_bytes(), &mut |entries| {
            found = first(found, entries, method);
        });
        self.result(found)
    }

    /// Returns what applies to a request whose route has this template in axum.
    ///
    /// In a nested router the path has lost its beginning, and the template is whole. So a pattern that is the text of the template
    /// matches, too, and closer than any pattern that matches the remaining path. A template whose pattern matches the path adds
    /// nothing: the path is whole, and `/mail/me` stays closer than `/mail/{id}`.
    #[cfg(feature = "axum")]
    pub(crate) fn find_by_template(&self, method: &str, path: &str, template: &str) -> Found {
        let named = self.occupied(template);
        if named
            .first()
            .is_none_or(|entry| self.path(entry) != template)
        {
            return self.find(method, path);
        }
        let (mut found, mut matches_path) = (None, false);
        self.tree.visit(path.as_bytes(), &mut |entries| {
            found = first(found, entries, method);
            matches_path |= std::ptr::eq(entries, named);
        });
        if !matches_path {
            let closest = first(None, named, method);
            let both = closest.into_iter().chain(found);
            found = both.min_by_key(|entry| entry.meaning.precedence());
        }
        self.result(found)
    }

    fn occupied(&self, path: &str) -> &[Entry] {
        self.tree.occupied(path)
    }

    /// Returns the path of an entry's pattern.
    fn path(&self, entry: &Entry) -> &str {
        let label = &self.patterns[entry.index].label;
        // A method has no slash, and a path begins with one.
        label.find('/').map_or("", |start| &label[start..])
    }

    fn result(&self, found: Option<&Entry>) -> Found {
        let threshold = match found.map(|entry| entry.meaning) {
            Some(Meaning::Exempt) => Some(Threshold::EXEMPT),
            Some(Meaning::At(_)) => found.map(|it| self.patterns[it.index].threshold()),
            Some(Meaning::Except) => Some(Threshold::NEVER_SHED),
            Some(Meaning::Only) => None,
            None => self.only.then_some(Threshold::NEVER_SHED),
        };
        Found {
            threshold,
            // Patterns beyond the largest number share the label of requests without a pattern.
            nth: found.map_or(0, |entry| u16::try_from(entry.index + 1).unwrap_or(0)),
        }
    }
}

impl Named {
    #[inline]
    fn bits(&self) -> u64 {
        self.at.load(Ordering::Relaxed)
    }

    #[inline]
    fn threshold(&self) -> Threshold {
        Threshold::from_bits(self.bits())
    }
}

impl Clone for Named {
    fn clone(&self) -> Self {
        Self {
            label: self.label.clone(),
            at: self.bits().into(),
        }
    }
}

impl Entry {
    /// Whether this entry applies to the method. As in axum, GET stands for HEAD, too.
    fn matches(&self, method: &str) -> bool {
        match self.method.as_deref() {
            None => true,
            Some("GET") => matches!(method, "GET" | "HEAD"),
            Some(own) => own == method,
        }
    }
}

impl Meaning {
    /// Returns the bits of the threshold of `At`, otherwise 0.
    fn own(self) -> u64 {
        match self {
            Self::At(threshold) => threshold.to_bits(),
            Self::Exempt | Self::Only | Self::Except => 0,
        }
    }

    /// Returns the precedence: the lowest number decides.
    fn precedence(self) -> u8 {
        match self {
            Self::Exempt => 0,
            Self::At(_) => 1,
            Self::Only | Self::Except => 2,
        }
    }

    /// Combines two settings of the same route. `Only` and `At` go together: one opts the route in, the other gives it a ratio.
    fn and(self, other: Self, route: &str) -> Result<Self, InvalidSetting> {
        match (self, other) {
            (one, other) if one == other => Ok(one),
            (at @ Self::At(_), Self::Only) | (Self::Only, at @ Self::At(_)) => Ok(at),
            (one, other) => Err(InvalidSetting::new(
                "route",
                format_args!("{route:?}, {other}"),
                format!("given one meaning: this route is {one}"),
            )),
        }
    }
}

/// Returns `found`, unless one of the entries takes precedence over it.
#[inline]
fn first<'a>(
    mut found: Option<&'a Entry>,
    entries: &'a [Entry],
    method: &str,
) -> Option<&'a Entry> {
    for entry in entries.iter().filter(|entry| entry.matches(method)) {
        if found.is_none_or(|found| entry.meaning.precedence() < found.meaning.precedence()) {
            found = Some(entry);
        }
    }
    found
}

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exempt => f.write_str("exempt"),
            Self::At(threshold) => write!(f, "at {threshold}"),
            Self::Only => f.write_str("opted in"),
            Self::Except => f.write_str("opted out"),
        }
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes")
            .field("patterns", &self.labels().collect::<Vec<_>>())
            .field("only", &self.only)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
