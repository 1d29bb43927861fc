use std::hash::Hash;

use http::Request;

use super::{
    ByHead,
    cohort::{self, Hours},
};
use crate::layer::LoadShed;

/// # Which callers
///
/// Within a class, and by who calls, where a [`key`](Self::key) says it. Nothing of it applies while there is room.
impl LoadShed {
    /// Lets a stable hash of the caller decide who goes first, where a class has to be refused in part.
    ///
    /// Without it, that is left to chance, which is bad where one task of a user calls several services, or one service many
    /// times: if each refuses every second call, of four in a row one in sixteen gets through, and the other fifteen were
    /// in vain. With it, all that have the same settings here refuse the same callers, and the others get through. An
    /// hour of the wall clock later the order is another one, so nobody is refused for ever.
    ///
    /// The callers of a class then stop not all at one point but one after the other, by their hash, over a stretch: from
    /// where the next lower class stops up to where their own does, and for the lowest class, at a route and by a closure
    /// for thresholds over the last eighth. (Where several classes stop at one point, they divide it among them.) So no
    /// class is ever refused because of a lower one, and nobody is while there is room below the stretch. Of a budget of
    /// 1,000 and a ratio of 0.85 the last eighth is 107 places, and most callers are served nearly always or nearly never.
    /// Fewer places divide callers less sharply, as chance moves the number in flight by some of them: of a stretch of ten,
    /// half of the callers are somewhere in between; of one, nothing is left of the order. In overload, that number also
    /// settles within the stretch, and not at its end.
    ///
    /// The key is best a name in bytes or a number: the user's, not that of a connection. The hash is a fixed one, FNV-1a,
    /// as it has to be the same everywhere, with that of text as Rust's standard library has it. So a caller that can
    /// choose its key finds one that goes last. Where that matters, take a key that it cannot choose, or hash a secret of
    /// the services with it: `(SECRET, user)`. The hour is that of the wall clock when this was called, and the time since.
    ///
    /// A panic in the closure counts as [`Threshold::NEVER`](crate::Threshold::NEVER).
    ///
    /// ```
    /// use loadshed::LoadShed;
    ///
    /// let shed = LoadShed::ratio(0.85).key(|head| head.headers().get("x-user").cloned());
    /// ```
    pub fn key<K: Hash>(self, key: impl Fn(&Request<()>) -> K + Send + Sync + 'static) -> Self {
        let hours = Hours::now();
        let place = move |head: &Request<()>| cohort::place(&key(head), hours.hour());
        self.with(|settings| settings.decide_mut().key = Some(ByHead::new(place)))
    }
}
