pub(crate) mod adaptive;
pub(crate) mod estimates;
pub(crate) mod law;
pub(crate) mod probe;
pub(crate) mod probe_from_below;
pub(crate) mod probing;
pub(crate) mod ratio;
pub(crate) mod start;
