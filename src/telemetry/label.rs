use std::sync::Arc;

/// The text of a label.
pub(crate) type Text = Arc<str>;

/// The label of all series past a bound on the number of labels.
pub(crate) const OTHER: &str = "other";
