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
    /// Sets how many units of the budget a request takes. By default 1.
    ///
    /// **Weighted requests.** The limit is then measured in units, and so are all figures but the counters of requests: a limit
    /// of 200 may be 200 MiB of memory. A request is admitted when its units fit under its threshold. A request that costs more than
    /// its threshold is admitted only when nothing else is in flight, and then counts as its whole threshold. The capacity above the
    /// threshold stays free for higher classes. A cost of 0 counts as 1. A panic in the closure counts as a cost of 1 and
    /// [`Threshold::NEVER_SHED`](crate::Threshold::NEVER_SHED).
    ///
    /// Where several layers of one budget set a cost, the highest counts, from the layer on that sets it.
    ///
    /// Classes keep their order among requests of equal cost. An expensive request of a high class may be refused while a
    /// cheap request of a low class is admitted. Under overload, expensive requests are refused more often than cheap ones;
    /// [`wait`](Self::wait) lets them queue.
    ///
    /// A learned limit counts units, too. That is useful where a unit stands for about the same work in each request. The closure is
    /// trusted: bound a length that a caller announces (`.min(100)`), or set a maximum limit. Otherwise one request that announces
    /// 1,000 units reads as a server that does 1,000 units of work in its time.
    ///
    /// ```
    /// use loadshed::{Budget, LoadShed, content_length};
    ///
    /// // 200 MiB of uploads at once: 2 kB take 1 unit, 40 MB take 39.
    /// let memory = Budget::fixed(200).named("uploads");
    /// let shed = LoadShed::ratio(0.85)
    ///     .budget(&memory)
    ///     .cost(|head| 1 + content_length(head) / (1 << 20));
    /// ```
    #[track_caller]
    pub fn cost(self, cost: impl Fn(&Request<()>) -> usize + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.decide_mut().cost = Some(ByHead::new(cost)))
    }

    /// Divides the budget fairly among tenants, once there is not enough for all.
    ///
    /// Shares are max-min fair: a tenant that wants less than its share gets all it wants, and the tenants that want more get
    /// equal shares. While capacity is free, any tenant may borrow it. Once it is not, a tenant above its share is refused earlier
    /// than a tenant below: at the earliest where the next lower class stops, or an eighth below its own threshold where there is no
    /// lower class. That is the admission band that [`key`](Self::key) uses as well, so classes keep their order. Tenants below
    /// their share use the capacity that becomes free. Borrowed capacity returns as requests end: 0.2 s after the first refusal, no
    /// tenant far above its share gets new permits, unless no other tenant needs them.
    ///
    /// A tenant's use is what its requests hold at once, in units of [`cost`](Self::cost), averaged over the last second. So shares
    /// are fair also where there are more tenants than permits. A burst of up to twice the share is tolerated; a larger burst counts
    /// at once. A single tenant may use the whole budget. Of several tenants that want it all, each gets its share, and a sixteenth
    /// of the budget stays free for the next tenant. Requests that are never shed count towards the share of their tenant. A refusal
    /// because of a share has [`Reason::Share`](crate::Reason::Share).
    ///
    /// The bookkeeping takes 96 KiB a budget, however many tenants there are or are made up. A request takes no lock, no allocation
    /// and one clock read. Tenants are told apart by a hash, which differs in each process unless a [`seed`](Self::seed) is set. A
    /// few hundred tenants that are busy within one second do not collide. Of some thousand, a few are taken for the same tenant and
    /// share one share. A budget has one account of tenants for all its layers. Of several such layers that a request passes, the
    /// outermost one names its tenant.
    ///
    /// `None` is a tenant like any other: all requests without an account share one share. A caller that can make up tenants gets a
    /// share for each. So use what the caller cannot choose: the account of a token that an outer layer has verified, and not a
    /// header that any caller can send.
    ///
    /// A panic in the closure counts as [`Threshold::NEVER_SHED`](crate::Threshold::NEVER_SHED).
    ///
    /// ```
    /// use loadshed::LoadShed;
    ///
    /// /// Inserted by the layer that verifies tokens.
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

    /// Refuses the same callers first for an hour, by a stable hash of `key`, where a class has to be refused in part.
    ///
    /// Without a key, chance decides. That is bad where one task of a user calls several services, or one service many times: if
    /// each service refuses every second call, one in sixteen tasks of four calls succeeds, and the work for the other fifteen is
    /// lost. With a key, all services with the same setting refuse the same callers, so a request that one service of a call chain
    /// admits is likely admitted by the next. The order changes with each hour of the wall clock, so no caller is refused for
    /// longer.
    ///
    /// The callers of a class then stop at different points of an admission band, by their hash. The band reaches from the
    /// threshold of the next lower class up to their own. For the lowest class, for a route of [`at`](Self::at) and for a
    /// [`threshold`](Self::threshold) it is the last eighth. Several classes with equal thresholds divide one band. So no class is
    /// refused because of a lower class, and no caller is refused below the band. With a limit of 1,000 and a ratio of 0.85 the band
    /// is 107 permits wide, and most callers are admitted nearly always or nearly never. A narrower band separates callers less
    /// sharply: with 10 permits half of the callers are in between, with 1 permit there is no order. In overload the number in flight
    /// settles within the band, and not at its end.
    ///
    /// The key is best a name in bytes or a number of the user, not of a connection. `None` is a key like any other: all requests
    /// without a key are refused first, or last. The hash is FNV-1a over the key as Rust's standard library hashes it, as all
    /// services have to agree. A caller that can choose its key can find a key that is refused last. Where that matters, use a
    /// key that callers cannot choose, or hash a secret of the services with it: `(SECRET, user)`. The hour is the wall clock's when
    /// this method is called, plus the time since.
    ///
    /// A panic in the closure counts as [`Threshold::NEVER_SHED`](crate::Threshold::NEVER_SHED). The closure is
    /// [not called for every request](Self#requests-that-are-not-looked-at).
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
    /// A panic in one of the closures counts as [`Threshold::NEVER_SHED`](crate::Threshold::NEVER_SHED). The closures are
    /// [not called for every request](Self#requests-that-are-not-looked-at).
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
