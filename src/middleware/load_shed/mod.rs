//! [`LoadShed`](load_shed::LoadShed) and its settings, a file for each subject.

// Not in the order of the alphabet: the rustdoc page has the subjects in the order of these modules.
pub(crate) mod load_shed;

pub(crate) mod budget;

pub(crate) mod routes;

pub(crate) mod classes;

pub(crate) mod costs;

pub(crate) mod queue;

pub(crate) mod refusal;

pub(crate) mod permits;

pub(crate) mod uploads;

pub(crate) mod measuring;

pub(crate) mod running;
