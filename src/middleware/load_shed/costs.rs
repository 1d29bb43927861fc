use std::{hash::Hash, sync::Arc};

use http::Request;

use super::load_shed::LoadShed;
use crate::{
    admission::shares::shares::Tenant,
    protocol::classification::{
        cohort::{self, Hours},
        decide::{ByHead, FairBy},
    },
};

/// # Costs, tenants and callers
impl LoadShed {
    /// Says how many units of the budget a request takes, where not all weigh the same. Without it, each takes one.
    ///
    /// The limit is then in units, too, and so are all figures but the counters of requests: 200 may be 200 MiB of memory.
    /// A request is admitted when its units fit under its threshold; one that is dearer than that, when nothing else is
    /// in flight, and it then counts as all that it may use. What is above its threshold stays free for higher classes. 0 counts as
    /// 1. A panic in the closure counts as 1, and [`Threshold::NEVER_SHED`](crate::Threshold::NEVER_SHED).
    ///
    /// Where several layers of one budget say what a request costs, the most counts, from the layer on that says it.
    ///
    /// Classes keep their order among requests of one cost: a dear one of a high class may find no room where a cheap one
    /// of a low class still does. In the same way dear requests are refused more often than cheap ones where both want more than
    /// there is; [`wait`](Self::wait) gives them their turn.
    ///
    /// A learned budget learns how many units at once the server carries: that is of use where a unit is about the same work
    /// in each request. It takes the closure's word for it: what a caller merely announces, bound it (`.min(100)`), or give the
    /// budget a ceiling, or one request that says it is a thousand is taken for a server that does a thousand in its time.
    ///
    /// ```
    /// use loadshed::{Budget, LoadShed, content_length};
    ///
    /// // 200 MiB of uploads at once: 2 kB take one unit, 40 MB take 39.
    /// let memory = Budget::fixed(200).named("uploads");
    /// let shed = LoadShed::ratio(0.85)
    ///     .budget(&memory)
    ///     .cost(|head| 1 + content_length(head) / (1 << 20));
    /// ```
    #[track_caller]
    pub fn cost(self, cost: impl Fn(&Request<()>) -> usize + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.decide_mut().cost = Some(ByHead::new(cost)))
    }

    /// Divides the budget fairly among tenants, as soon as there is not enough for all.
    ///
    /// Fair is that whoever wants little has all of it, and that those who want more have the same (max-min fairness). Until
    /// places run out, everything is lent to whoever comes. Then a tenant with more than its part is refused earlier than
    /// one with less, as early as where the next lower class stops, or an eighth below the stop of its own where there is
    /// none: over the same stretch as with a [`key`](Self::key), and so with the same care for classes. Those with less
    /// find the room that is left there. What was lent comes back as its requests end: two tenths of a second after others
    /// are first refused, no tenant with much more than its part gets new places, unless nobody else needs them.
    ///
    /// What a tenant has is what its requests hold at once, in units of their [`cost`](Self::cost), on average over the last
    /// second; so shares are fair, too, where there are more tenants than places. A burst of twice its part is its own
    /// affair; a larger one counts at once. One that is alone has the whole budget. Of several that want it all, each
    /// gets its part, and a sixteenth of the budget stays free for the next one who comes. What is never shed counts for
    /// its tenant's part, and stays what it is. A refusal because of a share says [`Reason::Share`](crate::Reason::Share).
    ///
    /// It takes 96 KiB for the budget, however many tenants there are or are made up, no lock and no allocation for a
    /// request, and reads the clock once for each. Tenants are told apart by a hash that is another one in each process, if it has no [`seed`](Self::seed);
    /// up to some hundred that are busy within one second do not get in each other's way. Of some thousand, a few are taken
    /// for one and have one part. A budget keeps one account, whichever of its layers are told of tenants; of several that
    /// a request passes, the outermost one names its tenant.
    ///
    /// `None` is a tenant like any other: all requests without an account share one part. A caller that can make up tenants has a
    /// part for each. So take what it cannot choose: the account by its token, as
    /// an outer layer has found it, and not a header that anyone can send.
    ///
    /// A panic in the closure counts as [`Threshold::NEVER_SHED`](crate::Threshold::NEVER_SHED).
    ///
    /// ```
    /// use loadshed::LoadShed;
    ///
    /// /// Put there by the layer that checks tokens.
    /// #[derive(Clone)]
    /// struct Account(u64);
    ///
    /// let shed = LoadShed::ratio(0.85)
    ///     .fair_by(|head| head.extensions().get().map(|Account(number)| *number));
    /// ```
    #[track_caller]
    pub fn fair_by<K: Hash>(
        self,
        tenant: impl Fn(&Request<()>) -> K + Send + Sync + 'static,
    ) -> Self {
        let tenant = move |head: &Request<()>, seed: Option<u64>| match seed {
            None => Tenant::of(&tenant(head)),
            Some(seed) => Tenant::seeded(seed, &tenant(head)),
        };
        self.with(|settings| settings.decide_mut().fair_by = Some(FairBy(Arc::new(tenant))))
    }

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
    /// The key is best a name in bytes or a number: the user's, not that of a connection. `None` is a key like any other: all
    /// requests without one go first together, or last. The hash is a fixed one, FNV-1a,
    /// as it has to be the same everywhere, with that of text as Rust's standard library has it. So a caller that can
    /// choose its key finds one that goes last. Where that matters, take a key that it cannot choose, or hash a secret of
    /// the services with it: `(SECRET, user)`. The hour is that of the wall clock when this was called, and the time since.
    ///
    /// A panic in the closure counts as [`Threshold::NEVER_SHED`](crate::Threshold::NEVER_SHED).
    ///
    /// ```
    /// use loadshed::LoadShed;
    ///
    /// let shed = LoadShed::ratio(0.85).key(|head| head.headers().get("x-user").cloned());
    /// ```
    #[track_caller]
    pub fn key<K: Hash>(self, key: impl Fn(&Request<()>) -> K + Send + Sync + 'static) -> Self {
        let hours = Hours::now();
        self.key_with_rotation(key, move || hours.hour())
    }

    /// Sets a [`key`](Self::key) whose order of callers changes when `rotation` returns another number, and not with the
    /// hour of the wall clock.
    ///
    /// It serves for an order that changes at another pace, such as once a day, and for tests and simulations, which need
    /// the same order in each run. All services that are to refuse the same callers need the same number at the same time.
    ///
    /// A panic in one of the closures counts as [`Threshold::NEVER_SHED`](crate::Threshold::NEVER_SHED).
    ///
    /// ```
    /// use loadshed::LoadShed;
    ///
    /// let shed = LoadShed::ratio(0.85)
    ///     .key_with_rotation(|head| head.headers().get("x-user").cloned(), || 0); // always the same order
    /// ```
    #[track_caller]
    pub fn key_with_rotation<K: Hash>(
        self,
        key: impl Fn(&Request<()>) -> K + Send + Sync + 'static,
        rotation: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        let position = move |head: &Request<()>| cohort::position(&key(head), rotation());
        self.with(|settings| settings.decide_mut().key = Some(ByHead::new(position)))
    }
}
