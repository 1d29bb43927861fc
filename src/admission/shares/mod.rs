//! How much of a budget each tenant has, and how much it may have.
//!
//! # What is fair
//!
//! Max-min fairness: there is a part τ such that all who want less have what they want, those who want more have τ, and
//! together they have what is carried. Nobody's share can then grow but at the cost of one who has less. Nothing needs to
//! be told of tenants, neither who there is nor what they may have.
//!
//! τ is found twenty times a second, by filling up: what each tenant has had at once, as an average over the last second,
//! and what it was refused, which it would have had as well ([`level`]). A tenant that has less than half of τ is admitted up
//! to where its class stops; one with more stops earlier, and one with one and a half τ where the next lower class does
//! ([`Band`](crate::threshold::band::Band)). So while there is room below that, all is lent to whoever comes; once there is
//! none, those with little find room where those with much do not. What was lent comes back as the requests end
//! that it was lent to: nobody with more than its part gets new places.
//!
//! As the average goes by time, shares are fair also where there are fewer places than tenants. As it takes a second to
//! follow, twice τ and more at once counts as having it for long.
//!
//! Sources: fair rates from what flows have had, without a state for each flow at the place that drops, are Core-Stateless
//! Fair Queueing's (I. Stoica, S. Shenker, H. Zhang, SIGCOMM 1998). To drop earlier what has more than its part, without
//! queues, is Approximate Fair Dropping's (R. Pan and others, 2003).
//!
//! # Memory
//!
//! A sketch: four rows of 1,024 cells, 96 KiB for a budget, however many tenants there are. A tenant has one cell in each
//! row, by a hash that nobody outside knows where there is no seed, and what it has is at most what the least of them shows (Cormode and
//! Muthukrishnan's count-min). So it suffers for others only where it meets a large one in all four rows: with a hundred
//! large ones, one tenant in ten thousand does.
//!
//! # Races
//!
//! A request enters its cells first, and is judged by what it finds there, itself included; then the count decides in one
//! step, as for all others; and if it refuses, the request leaves its cells. Of two requests of a tenant, the one that is
//! second to enter its last cell is judged with the other in view, whatever the interleaving (`model.rs`): they never get more
//! together than one after the other would.
//! One that is about to be refused is in its tenant's cells for a moment. By that it can cost another request of the same
//! tenant the upper part of the stretch, and nobody else anything: the count, which all share, does not know of it.

pub(crate) mod level;
pub(crate) mod shares;
