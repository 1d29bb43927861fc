//! Published limit algorithms, with the settings and the flaws of their source: for comparison, not for production.

mod aimd;
mod gradient2;
mod range;
mod vegas;

pub use self::{aimd::Aimd, gradient2::Gradient2, vegas::Vegas};
