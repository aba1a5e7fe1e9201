//! The routes that were learned from other routers, kept in the kernel. Never decides which routes those are, and never
//! touches a route of another protocol.
//!
//! ```text
//!  set, remove (memory) --> Fib: wanted beside present --commit--> next-hop objects, then routes, then what is left over
//!                             ^                                           |
//!                             +---- observe (dump of ours) <--------------+
//! ```
//!
//! Each distinct way is one next-hop object, each distinct set of ways one group object. When all of many routes of an
//! object move to the same new one, the object is changed in place: one message, all at once. A kernel without such objects (before Linux 5.3) gets the ways in the routes themselves.
//!
//! Restart: [`Fib::observe`] reads what a predecessor left, with the same next-hop objects; what is set again is not
//! written again; what nobody has set is removed by commits after [`Fib::in_sync`], not before.

mod commit;
mod observe;
mod pool;
mod table;
mod track;

pub use commit::{Failure, Report};
pub use table::Fib;
pub use track::{NextHopKey, Resolution, Tracker};

use crate::marks;
use crate::route::{MAIN_TABLE, RouteKind, Way};
use std::ops::Range;

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Over these ways, by weight (1 to 255). Order and repetition do not matter; no way at all refuses with
    /// "unreachable".
    Ways(Vec<(Way, u8)>),
    /// Nowhere: [`RouteKind::Blackhole`], [`RouteKind::Unreachable`] or [`RouteKind::Prohibit`].
    Refuse(RouteKind),
}

impl Target {
    /// Over one way.
    #[must_use]
    pub fn way(way: Way) -> Self {
        Self::Ways(vec![(way, 1)])
    }
}

/// What marks the routes and objects of one writer, and where they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FibOptions {
    /// The protocol of routes and next-hop objects: two writers of one namespace have two.
    pub protocol: u8,
    /// The table.
    pub table: u32,
    /// The metric of every route, not 0.
    pub metric: u32,
    /// Ids of next-hop objects.
    pub ids: Range<u32>,
    /// From so many routes on, a change of their object is one message. The kernel waits for a grace period when an object
    /// changes (about 3 ms), and takes 4 µs for a route.
    pub in_place_from: usize,
    /// Whether next-hop objects are used where the kernel has them.
    pub objects: bool,
}

impl Default for FibOptions {
    fn default() -> Self {
        Self {
            protocol: marks::LEARNED_PROTOCOL,
            table: MAIN_TABLE,
            metric: marks::LEARNED_METRIC,
            ids: marks::LEARNED_NEXTHOP_IDS,
            in_place_from: 512,
            objects: true,
        }
    }
}
