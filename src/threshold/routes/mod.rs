//! What applies by method and path.
//!
//! The syntax is axum's, and `matchit`, its router, is asked whether a pattern is well formed and fits beside the others.
//! It is not what finds them: it allocates for each request that passes a literal with a parameter beside it (`/users/me`
//! beside `/users/{id}`), and for each with more than three parameters; and it finds the one that fits best, where here
//! a pattern's meaning goes first. So a [tree] is walked for all that match.

pub(crate) mod pattern;
pub(crate) mod table;
pub(crate) mod tree;
