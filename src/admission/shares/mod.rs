//! How much of a budget each tenant uses, and how much it may use.
//!
//! # Fairness
//!
//! Max-min fairness: there is a fair share τ such that tenants that want less get what they want, tenants that want more get
//! τ, and together they get what the budget carries. No tenant's share can then grow, except at the cost of a tenant that has
//! less. It needs no list of tenants, and no share configured for any.
//!
//! τ is found 20 times a second, by filling up ([`level`]). Two figures of each tenant count: the units in flight, averaged
//! over the last second, and the units refused, which the tenant would have used as well. A tenant that uses less than τ ÷ 2
//! is admitted up to the cap of its class. A tenant that uses more stops earlier, and at 1.5 τ where the next lower class does
//! ([`Band`](crate::threshold::band::Band)). So any tenant may borrow free capacity below that. When there is none, tenants
//! with little in flight are admitted where tenants with much are not. Borrowed capacity returns as the requests that use it
//! end.
//!
//! The average is taken over time, so shares are fair even where there are fewer permits than tenants. It takes a second to
//! follow. Where half of the units that a tenant holds at a moment are more than its average, they count instead.
//!
//! Sources: fair rates from what flows have had, without a state for each flow where packets are dropped, are Core-Stateless
//! Fair Queueing's (I. Stoica, S. Shenker, H. Zhang, SIGCOMM 1998). To drop earlier what exceeds its share, without queues, is
//! Approximate Fair Dropping's (R. Pan and others, 2003).
//!
//! # Memory
//!
//! A sketch: four rows of 1,024 cells, 96 KiB for a budget, for any number of tenants. The sketch of a dropped budget is reused
//! by the next budget with fair shares ([`pool`]). A tenant has one cell in each row, by a hash that is secret unless there is a
//! seed. What it uses is at most what the least of its cells shows (count-min, of Cormode and Muthukrishnan). So a tenant suffers
//! for others only where it shares a cell with a large tenant in all four rows: with 100 large tenants, 1 tenant in 10,000 does.
//!
//! # Races
//!
//! A request enters its cells first, and is judged by what it finds there, itself included. Then the count decides in one
//! step, as for all requests. If the count refuses, the request leaves its cells. Of two requests of a tenant, the second to
//! enter its last cell is judged with the other in view, whatever the interleaving (`model.rs`): two concurrent requests never
//! get more than two successive requests would.
//!
//! A request that is about to be refused is in its tenant's cells for a moment. It can cost another request of this tenant the
//! upper part of its band. It costs other tenants nothing, as the count, which all tenants share, does not include it.

pub(crate) mod level;
pub(crate) mod pool;
pub(crate) mod shares;
