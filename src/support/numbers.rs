use std::{cmp::Reverse, collections::BinaryHeap};

/// Numbers from 0 on that are claimed and returned.
#[derive(Debug)]
pub(crate) struct Numbers {
    returned: BinaryHeap<Reverse<usize>>,
    next: usize,
}

impl Numbers {
    pub(crate) const fn new() -> Self {
        Self {
            returned: BinaryHeap::new(),
            next: 0,
        }
    }

    /// Returns the smallest number that is not claimed.
    pub(crate) fn claim(&mut self) -> usize {
        if let Some(Reverse(number)) = self.returned.pop() {
            return number;
        }
        self.next += 1;
        self.next - 1
    }

    /// Returns a number that was claimed.
    pub(crate) fn give_back(&mut self, number: usize) {
        self.returned.push(Reverse(number));
    }
}
