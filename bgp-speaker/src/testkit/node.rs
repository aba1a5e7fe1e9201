//! A speaker in the simulated network, with what it wrote into its kernel. Never the network.

use crate::speaker::{Addresses, Hop, Output, PeerEvent, Speaker};
use crate::types::PeerId;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

/// What a node sent and took in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Pieces sent: messages, or several that were packed together.
    pub sends: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Bytes taken in.
    pub bytes_in: u64,
    /// Routes written to the kernel.
    pub route_writes: u64,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) addresses: Vec<IpAddr>,
    /// What its speaker is told of them.
    pub(super) networks: Addresses,
    /// `None` while it is dead.
    pub(super) speaker: Option<Speaker>,
    /// What the kernel forwards by: it survives its speaker.
    pub(super) fib: BTreeMap<IpNet, Vec<Hop>>,
    /// Prefixes told since the speaker began; the others are left from an earlier one.
    pub(super) told: BTreeSet<IpNet>,
    pub(super) in_sync: bool,
    /// When its next tick stands in the queue.
    pub(super) tick: Option<Instant>,
    pub(super) traffic: Traffic,
    pub(super) events: Vec<(Instant, PeerId, PeerEvent)>,
    /// Next hops that it cannot reach.
    pub(super) unreachable: BTreeSet<IpAddr>,
    pub(super) tracked: BTreeSet<IpAddr>,
    /// Its kernel says nothing of next hops.
    pub(super) is_mute: bool,
}

impl Node {
    pub(super) fn new(addresses: Vec<IpAddr>) -> Self {
        Self {
            addresses,
            networks: Addresses::new(),
            speaker: None,
            fib: BTreeMap::new(),
            told: BTreeSet::new(),
            in_sync: false,
            tick: None,
            traffic: Traffic::default(),
            events: Vec::new(),
            unreachable: BTreeSet::new(),
            tracked: BTreeSet::new(),
            is_mute: false,
        }
    }

    /// What an embedder would do with its kernel.
    pub(super) fn host(&mut self, now: Instant, output: Output) {
        match output {
            Output::Route { prefix, hops } => {
                self.traffic.route_writes += 1;
                self.told.insert(prefix);
                if hops.is_empty() {
                    self.fib.remove(&prefix);
                } else {
                    self.fib.insert(prefix, hops);
                }
            }
            Output::InSync { family } => {
                self.in_sync = true;
                let told = &self.told;
                self.fib.retain(|prefix, _| crate::types::Family::of(prefix) != family || told.contains(prefix));
            }
            Output::Peer { peer, event, .. } => self.events.push((now, peer, event)),
            _ => {}
        }
    }
}
