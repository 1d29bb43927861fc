#[cfg(feature = "axum")]
use std::collections::HashMap;
use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{pattern::Pattern, tree::Tree};
use crate::{support::invalid::InvalidSetting, threshold::threshold::Threshold};

/// Routes that have a meaning of their own.
#[derive(Clone, Default)]
pub(crate) struct Routes {
    /// The paths so far, and axum's router of them, which is asked only while the table is made.
    paths: Vec<String>,
    syntax: matchit::Router<()>,
    tree: Tree<Vec<Entry>>,
    /// What the tree has, by the texts of the paths.
    #[cfg(feature = "axum")]
    templates: HashMap<String, Vec<Entry>>,
    /// The patterns, in the order of their numbers: the first is 1.
    patterns: Vec<Named>,
    /// Whether what is not named is never shed.
    only: bool,
}

/// A pattern as it is told of, and what can be changed of it while running.
///
/// # Memory ordering
///
/// `Relaxed`: each threshold stands for itself.
#[derive(Debug)]
struct Named {
    label: String,
    /// The bits of its own threshold, 0 without one.
    at: AtomicU64,
}

/// What the table says of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// `None` where it leaves that to what comes after it.
    pub(crate) threshold: Option<Threshold>,
    /// The number of the pattern that says it. 0 is none of them.
    pub(crate) nth: u16,
}

/// What a pattern was given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Exempt,
    At(Threshold),
    Only,
    Except,
}

/// What one method of a path means, or all of them that have no entry of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    method: Option<String>,
    meaning: Meaning,
    /// Where its pattern is.
    index: usize,
}

impl Routes {
    /// Adds a pattern.
    ///
    /// # Errors
    ///
    /// If it is none, or cannot stand beside those that are there.
    pub(crate) fn add(&mut self, meaning: Meaning, route: &str) -> Result<(), InvalidSetting> {
        let pattern = Pattern::parse(route)?;
        if !self.paths.iter().any(|known| known == pattern.path) {
            pattern.join(&mut self.syntax, &self.paths)?;
            self.paths.push(pattern.path.to_owned());
        }

        let entries = self.tree.at(pattern.path);
        let method = pattern.method;
        if let Some(same) = entries.iter_mut().find(|it| it.method.as_deref() == method) {
            same.meaning = same.meaning.and(meaning, route)?;
            self.patterns[same.index].at = same.meaning.own().into();
        } else {
            entries.push(Entry {
                method: method.map(str::to_owned),
                meaning,
                index: self.patterns.len(),
            });
            self.patterns.push(Named {
                label: pattern.to_string(),
                at: meaning.own().into(),
            });
            // HEAD before GET, which answers for it too, and last what names no method.
            entries.sort_by(|a, b| b.method.cmp(&a.method));
        }
        #[cfg(feature = "axum")]
        self.templates
            .insert(pattern.path.to_owned(), entries.clone());
        Ok(())
    }

    /// From here on, what is not named is never shed, even if nothing is.
    pub(crate) fn only(&mut self) {
        self.only = true;
    }

    pub(crate) fn labels(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().map(|pattern| &*pattern.label)
    }

    /// Changes the threshold of a pattern that has one of its own.
    ///
    /// # Errors
    ///
    /// If there is no such pattern.
    pub(crate) fn set_at(&self, route: &str, threshold: Threshold) -> Result<(), InvalidSetting> {
        let label = Pattern::parse(route)?.to_string();
        let own = || self.patterns.iter().filter(|it| it.bits() != 0);
        let Some(pattern) = own().find(|it| it.label == label) else {
            let labels = own().map(|it| format!("{:?}", it.label));
            let labels = labels.collect::<Vec<_>>().join(", ");
            let allowed = format!("one of those that were given a ratio: [{labels}]");
            return Err(InvalidSetting::new(
                "route",
                format_args!("{route:?}"),
                allowed,
            ));
        };
        pattern.at.store(threshold.to_bits(), Ordering::Relaxed);
        Ok(())
    }

    /// What the table says of a request.
    pub(crate) fn find(&self, method: &str, path: &str) -> Found {
        let mut found = None;
        // Those that fit closest come first.
        self.tree.visit(path.as_bytes(), &mut |entries| {
            found = first(found, entries, method);
        });
        self.told(found)
    }

    /// What it says of one for which axum has found the route of this template.
    ///
    /// Inside of a nested router the path has lost its beginning, and the template has not. So a pattern that is the template's
    /// very text fits too, and closer than any that fits what is left of the path. One that fits the path itself is no closer
    /// for that: where the path is whole, the template says nothing new, and `/mail/me` stays closer than `/mail/{id}`.
    #[cfg(feature = "axum")]
    pub(crate) fn find_by_template(&self, method: &str, path: &str, template: &str) -> Found {
        let Some(named) = self.templates.get(template) else {
            return self.find(method, path);
        };
        let (mut found, mut fits) = (None, false);
        self.tree.visit(path.as_bytes(), &mut |entries| {
            found = first(found, entries, method);
            fits |= entries == named;
        });
        if !fits {
            let closest = first(None, named, method);
            let both = closest.into_iter().chain(found);
            found = both.min_by_key(|entry| entry.meaning.priority());
        }
        self.told(found)
    }

    /// What that says.
    fn told(&self, found: Option<&Entry>) -> Found {
        let threshold = match found.map(|entry| entry.meaning) {
            Some(Meaning::Exempt) => Some(Threshold::EXEMPT),
            Some(Meaning::At(_)) => found.map(|it| self.patterns[it.index].threshold()),
            Some(Meaning::Except) => Some(Threshold::NEVER_SHED),
            Some(Meaning::Only) => None,
            None => self.only.then_some(Threshold::NEVER_SHED),
        };
        Found {
            threshold,
            // Nobody has more; if somebody does, they are told of as none of them.
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
    /// As axum has it, GET answers HEAD.
    fn matches(&self, method: &str) -> bool {
        match self.method.as_deref() {
            None => true,
            Some("GET") => matches!(method, "GET" | "HEAD"),
            Some(own) => own == method,
        }
    }
}

impl Meaning {
    /// The bits of the threshold that it brings, 0 for none.
    fn own(self) -> u64 {
        match self {
            Self::At(threshold) => threshold.to_bits(),
            Self::Exempt | Self::Only | Self::Except => 0,
        }
    }

    /// The lowest goes first.
    fn priority(self) -> u8 {
        match self {
            Self::Exempt => 0,
            Self::At(_) => 1,
            Self::Only | Self::Except => 2,
        }
    }

    /// What both mean for the same route. To opt it in, and to say at which ratio, go together.
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

/// What was found stays, unless the meaning of one of these goes before its own.
#[inline]
fn first<'a>(
    mut found: Option<&'a Entry>,
    entries: &'a [Entry],
    method: &str,
) -> Option<&'a Entry> {
    for entry in entries.iter().filter(|entry| entry.matches(method)) {
        if found.is_none_or(|found| entry.meaning.priority() < found.meaning.priority()) {
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
            .field("paths", &self.paths)
            .field("only", &self.only)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
