//! The hasher of maps of calls.

use std::hash::Hasher;

use crate::station::CallId;

/// A hasher for call numbers, which are consecutive: one multiplication spreads them well enough.
#[derive(Debug, Default)]
pub(crate) struct CallHasher(u64);

impl Hasher for CallHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("calls are numbers");
    }

    fn write_u64(&mut self, call: CallId) {
        // 2⁶⁴ ÷ the golden ratio.
        self.0 = call.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}
