//! The threshold of a request by its method and path.
//!
//! The syntax of patterns is axum's. `matchit`, axum's router, checks the syntax of each pattern when the pattern is added, and is
//! dropped then. Requests are matched by a [tree] of this crate, for two reasons:
//!
//! - A lookup in `matchit` 0.8 allocates for each request that passes a literal with a parameter beside it (`/users/me` beside
//!   `/users/{id}`), and for each match with more than three parameters. A lookup in the tree allocates nothing.
//! - `matchit` returns the closest match only. Here a pattern's meaning goes before its closeness, so a lookup has to see all
//!   patterns that match: with `matchit`, it would be one lookup for each meaning and method.
//!
//! The tests compare the tree with `matchit`: both accept the same patterns beside each other, and find the same closest one.

pub(crate) mod pattern;
pub(crate) mod table;
pub(crate) mod tree;
