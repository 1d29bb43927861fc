//! An `Arc` whose clones on different threads do not write to the same count.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, OnceLock, Weak},
};

use crossbeam_utils::CachePadded;

use super::per_thread::{own_index, values};

/// A reference to a value, counted together with the other references that were made on its thread.
///
/// A service is cloned for each request, and a measured request keeps the settings of its layer. Where all threads count in one
/// place, each clone and each drop fetches the cache line that another thread has just written to. So the value has an `Arc` for
/// each thread, as far as a [`PerThread`](super::per_thread::PerThread) has a value for it, and a clone is counted in that of the
/// thread that makes it.
///
/// These `Arc`s have `Weak` references to one another: they live for as long as their [`Shards`], or a reference that was made
/// from them. Once the `Shards` are gone, a clone is counted where its original is.
pub(crate) struct ShardedArc<T>(Arc<Shard<T>>);

/// The references of one thread, in cache lines of their own.
type Shard<T> = CachePadded<Siblings<T>>;

struct Siblings<T> {
    value: Arc<T>,
    /// The `Arc`s of all threads, this one included. Set before there is a reference.
    all: OnceLock<Arc<[Weak<Shard<T>>]>>,
}

/// Keeps the references of all threads alive.
pub(crate) struct Shards<T>(Box<[ShardedArc<T>]>);

impl<T> Shards<T> {
    pub(crate) fn new(value: &Arc<T>) -> Self {
        let shard = || {
            let siblings = Siblings {
                value: Arc::clone(value),
                all: OnceLock::new(),
            };
            ShardedArc(Arc::new(CachePadded::new(siblings)))
        };
        let shards: Box<[_]> = (0..values()).map(|_| shard()).collect();
        let all: Arc<[_]> = shards
            .iter()
            .map(|shard| Arc::downgrade(&shard.0))
            .collect();
        for shard in &shards {
            shard.0.all.get_or_init(|| Arc::clone(&all));
        }
        Self(shards)
    }

    /// Returns a reference.
    pub(crate) fn get(&self) -> ShardedArc<T> {
        self.0[own_index(self.0.len())].clone()
    }
}

impl<T> ShardedArc<T> {
    fn of_this_thread(&self) -> Option<Arc<Shard<T>>> {
        let all = self.0.all.get()?;
        all[own_index(all.len())].upgrade()
    }
}

impl<T> Clone for ShardedArc<T> {
    fn clone(&self) -> Self {
        let own = self.of_this_thread();
        Self(own.unwrap_or_else(|| Arc::clone(&self.0)))
    }
}

impl<T: fmt::Debug> fmt::Debug for ShardedArc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> Deref for ShardedArc<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0.value
    }
}

#[cfg(all(test, not(loadshed_loom)))]
mod tests {
    use super::*;
    use crate::support::per_thread::as_thread;

    /// Returns the references that are counted with `reference`, itself included.
    fn counted<T>(reference: &ShardedArc<T>) -> usize {
        Arc::strong_count(&reference.0)
    }

    #[test]
    fn a_clone_is_counted_on_the_thread_that_makes_it() {
        let shards = Shards::new(&Arc::new(7));
        let [first, second] = [0, 1].map(|thread| as_thread(thread, || shards.get()));
        assert_eq!([counted(&first), counted(&second)], [2, 2]);
        let clones = [&first, &second].map(|original| as_thread(1, || original.clone()));
        assert_eq!([counted(&first), counted(&second)], [2, 4]);
        drop(clones);
        assert_eq!([counted(&first), counted(&second), *second], [2, 2, 7]);
    }

    #[test]
    fn threads_without_a_value_of_their_own_share_one() {
        let shards = Shards::new(&Arc::new(()));
        let [one, other] = [1_000, 1_001].map(|thread| as_thread(thread, || shards.get()));
        assert!(Arc::ptr_eq(&one.0, &other.0));
    }

    #[test]
    fn the_value_lives_as_long_as_a_reference_and_no_longer() {
        let value = Arc::new(());
        let shards = Shards::new(&value);
        let reference = as_thread(0, || shards.get());
        drop(shards);
        let clone = as_thread(1, || reference.clone());
        assert!(Arc::ptr_eq(&clone.0, &reference.0));
        drop(reference);
        assert_eq!(Arc::strong_count(&value), 2);
        drop(clone);
        assert_eq!(Arc::strong_count(&value), 1);
    }
}
