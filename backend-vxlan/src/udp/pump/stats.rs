//! Counters of the pump. Never reset: a reader takes differences.

use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Packets since the pump started.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "camelCase")]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The same, while the thread counts.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: AtomicU64,)*
        }

        impl Counters {
            pub(super) fn read(&self) -> Stats {
                Stats { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Sent to peers.
    sent,
    /// Taken from peers.
    received,
    /// Dropped: no peer has the destination.
    no_route,
    /// Dropped: hops used up.
    hops_used_up,
    /// Dropped: too big for the way and not to be cut.
    too_big,
    /// Dropped: came from an address that is no peer's.
    unknown_peer,
    /// Dropped: no IP packet.
    malformed,
    /// Dropped: the kernel refused it.
    refused,
}

/// Counts one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
