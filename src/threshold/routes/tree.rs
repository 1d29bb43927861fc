use std::{iter, mem};

/// Values by path, in a radix tree of the patterns.
///
/// A table of many routes has about two nodes for each, so a node is small: slices take less than vectors.
///
/// A lookup follows the path of the request from the root. Each node has one parent, so no node is visited twice, whatever the
/// path; and nothing is allocated.
#[derive(Clone, Debug)]
pub(crate) struct Tree<T> {
    /// The bytes of the path that lead to this node. Empty in the root and after a parameter.
    literal: Box<[u8]>,
    /// The nodes that follow by a literal. Each begins with another byte.
    literals: Vec<Self>,
    /// The node that follows by a parameter, which extends to the next `/`.
    param: Option<Box<Self>>,
    /// Of paths that end here.
    here: Box<[T]>,
    /// Of all paths that go on.
    rest: Box<[T]>,
}

/// A piece of a pattern.
enum Token {
    Byte(u8),
    Param,
    Rest,
}

impl<T> Tree<T> {
    fn new(literal: &[u8]) -> Self {
        Self {
            literal: literal.into(),
            literals: Vec::new(),
            param: None,
            here: Box::default(),
            rest: Box::default(),
        }
    }

    /// Returns the values of a pattern, to add one. The pattern is well formed, and [`occupied`](Self::occupied) by no other.
    pub(crate) fn at(&mut self, pattern: &str) -> &mut Box<[T]> {
        let (mut node, mut literal) = (self, Vec::new());
        for token in tokens(pattern) {
            match token {
                Token::Byte(byte) => literal.push(byte),
                Token::Param => {
                    let parent = node.literal(&mem::take(&mut literal));
                    node = parent.param.get_or_insert_default();
                }
                Token::Rest => return &mut node.literal(&literal).rest,
            }
        }
        &mut node.literal(&literal).here
    }

    /// Returns the values of the pattern that occupies the position of this one: the same pattern, whatever its parameters are
    /// called, or one that excludes it. A parameter and the rest of the path exclude each other in the same position.
    pub(crate) fn occupied(&self, pattern: &str) -> &[T] {
        let (mut node, mut literal) = (self, &[][..]);
        for token in tokens(pattern) {
            let next = match (token, literal) {
                (Token::Byte(byte), [first, rest @ ..]) if byte == *first => {
                    literal = rest;
                    continue;
                }
                (Token::Byte(byte), []) => node.child(byte),
                (Token::Param, []) if node.rest.is_empty() => node.param.as_deref(),
                (Token::Param, []) => return &node.rest,
                (Token::Rest, []) => return node.param.as_ref().map_or(&node.rest, |it| it.any()),
                _ => None,
            };
            let Some(next) = next else {
                return &[];
            };
            node = next;
            literal = next.literal.get(1..).unwrap_or_default();
        }
        if literal.is_empty() { &node.here } else { &[] }
    }

    /// Passes the values of all patterns that match to `seen`, the closest pattern first: in each position, a literal goes before
    /// a parameter, and a parameter before the rest of the path.
    #[inline]
    pub(crate) fn visit<'a>(&'a self, path: &[u8], seen: &mut impl FnMut(&'a [T])) {
        let Some(&first) = path.first() else {
            return seen(&self.here);
        };
        if let Some(next) = self.child(first)
            && let Some(path) = path.strip_prefix(&*next.literal)
        {
            next.visit(path, seen);
        }
        if let Some(next) = &self.param {
            let end = path.iter().position(|&byte| byte == b'/');
            next.visit(&path[end.unwrap_or(path.len())..], seen);
        }
        seen(&self.rest);
    }

    #[inline]
    fn child(&self, first: u8) -> Option<&Self> {
        self.literals.iter().find(|it| it.literal[0] == first)
    }

    /// Returns the values of any pattern from here on.
    fn any(&self) -> &[T] {
        let own = [&self.here, &self.rest]
            .into_iter()
            .find(|values| !values.is_empty());
        let mut below = self.literals.iter().chain(self.param.as_deref());
        own.map(|values| &values[..])
            .or_else(|| below.next().map(Self::any))
            .unwrap_or_default()
    }

    /// Returns the node that these bytes lead to.
    fn literal(&mut self, bytes: &[u8]) -> &mut Self {
        let Some(first) = bytes.first() else {
            return self;
        };
        let known = self.literals.iter().position(|it| it.literal[0] == *first);
        let index = known.unwrap_or_else(|| {
            self.literals.reserve_exact(1);
            self.literals.push(Self::new(bytes));
            self.literals.len() - 1
        });
        let child = &mut self.literals[index];
        let pairs = child.literal.iter().zip(bytes);
        let common = pairs.take_while(|(own, given)| own == given).count();
        child.split(common);
        child.literal(&bytes[common..])
    }

    /// Moves all but the first `length` bytes of the literal into a new node below.
    fn split(&mut self, length: usize) {
        if length == self.literal.len() {
            return;
        }
        let (above, below) = self.literal.split_at(length);
        let (above, below) = (Self::new(above), below.into());
        let node = mem::replace(self, above);
        self.literals.reserve_exact(1);
        self.literals.push(Self {
            literal: below,
            ..node
        });
    }
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self::new(&[])
    }
}

/// Splits a well-formed pattern.
fn tokens(pattern: &str) -> impl Iterator<Item = Token> {
    let mut bytes = pattern.bytes().peekable();
    iter::from_fn(move || {
        let byte = bytes.next()?;
        // A brace of the path itself is written twice.
        if !matches!(byte, b'{' | b'}') || bytes.next_if_eq(&byte).is_some() {
            return Some(Token::Byte(byte));
        }
        let is_rest = bytes.next_if_eq(&b'*').is_some();
        // The name ends at the first brace that is not one of its own.
        while let Some(byte) = bytes.next() {
            if byte == b'}' && bytes.next_if_eq(&byte).is_none() {
                break;
            }
        }
        Some(if is_rest { Token::Rest } else { Token::Param })
    })
}
