//! What a layer was configured to do.

pub(crate) mod measure;
pub(crate) mod settings;
pub(crate) mod unseen;
pub(crate) mod uploads;
pub(crate) mod wait;
