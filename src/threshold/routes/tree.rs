use std::mem;

/// Values by path, in a tree of the patterns' common beginnings.
///
/// A request walks down by its path. Each node is reached by one way only, so that none is visited twice, whatever the
/// path; and nothing is allocated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree<T> {
    /// What a path begins with, to be here. The root's is empty, and that of what follows a parameter.
    literal: Vec<u8>,
    /// Which go on by a literal. No two of them begin with the same byte.
    literals: Vec<Self>,
    /// What goes on by a parameter: up to the next `/`.
    param: Option<Box<Self>>,
    /// Of paths that end here.
    here: T,
    /// Of all paths that do not.
    rest: T,
}

enum Part {
    Literal(Vec<u8>),
    Param,
    Rest,
}

impl<T: Default> Tree<T> {
    /// The value of a pattern that axum's router takes.
    pub(crate) fn at(&mut self, pattern: &str) -> &mut T {
        let mut node = self;
        for part in parts(pattern) {
            node = match part {
                Part::Literal(bytes) => node.literal(&bytes),
                Part::Param => node.param.get_or_insert_default(),
                // Nothing comes behind it.
                Part::Rest => return &mut node.rest,
            };
        }
        &mut node.here
    }

    fn literal(&mut self, bytes: &[u8]) -> &mut Self {
        let Some(first) = bytes.first() else {
            return self;
        };
        let known = self.literals.iter().position(|it| it.literal[0] == *first);
        let at = known.unwrap_or_else(|| {
            self.literals.push(Self {
                literal: bytes.to_vec(),
                ..Self::default()
            });
            self.literals.len() - 1
        });
        let child = &mut self.literals[at];
        let pairs = child.literal.iter().zip(bytes);
        let common = pairs.take_while(|(one, other)| one == other).count();
        child.split(common);
        child.literal(&bytes[common..])
    }

    /// Moves all but the first `at` bytes of the literal into a node below.
    fn split(&mut self, at: usize) {
        if at == self.literal.len() {
            return;
        }
        let below = self.literal.split_off(at);
        let above = Self {
            literal: mem::take(&mut self.literal),
            ..Self::default()
        };
        let node = mem::replace(self, above);
        self.literals.push(Self {
            literal: below,
            ..node
        });
    }
}

impl<T> Tree<T> {
    /// Shows the values of all patterns that match, those first that fit closest: at each place a literal goes before a
    /// parameter, and that before the rest.
    #[inline]
    pub(crate) fn visit<'a>(&'a self, path: &[u8], seen: &mut impl FnMut(&'a T)) {
        let Some(&first) = path.first() else {
            return seen(&self.here);
        };
        if let Some(next) = self.literals.iter().find(|it| it.literal[0] == first) {
            if let Some(path) = path.strip_prefix(&*next.literal) {
                next.visit(path, seen);
            }
        }
        if let Some(next) = &self.param {
            let end = path.iter().position(|&byte| byte == b'/');
            next.visit(&path[end.unwrap_or(path.len())..], seen);
        }
        seen(&self.rest);
    }
}

fn parts(pattern: &str) -> Vec<Part> {
    let (mut parts, mut literal) = (Vec::new(), Vec::new());
    let mut bytes = pattern.bytes().peekable();
    // A brace of the path itself is written twice.
    let mut next = || {
        let byte = bytes.next()?;
        let is_twice = matches!(byte, b'{' | b'}') && bytes.next_if_eq(&byte).is_some();
        Some((byte, !is_twice))
    };
    while let Some((byte, is_alone)) = next() {
        if (byte, is_alone) != (b'{', true) {
            literal.push(byte);
            continue;
        }
        parts.push(Part::Literal(mem::take(&mut literal)));
        let is_rest = next() == Some((b'*', true));
        while next().is_some_and(|it| it != (b'}', true)) {}
        parts.push(if is_rest { Part::Rest } else { Part::Param });
    }
    parts.push(Part::Literal(literal));
    parts
}
