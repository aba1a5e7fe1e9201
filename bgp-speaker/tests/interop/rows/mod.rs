//! The rows of the matrix, each written once for all daemons. Never the language of one daemon.

mod basic;
mod config;
mod ends;
mod keys;
mod next_hops;
mod restart;
mod several;

pub(crate) use basic::{
    both_families, collision, communities, extended_messages, four_byte_asn, ipv4, ipv6, refresh, refresh_of_us,
};
pub(crate) use config::{drain, range, roles};
pub(crate) use ends::{bfd, bfd_of_us, they_announce_too_much, they_shut, we_announce_too_much, we_shut};
pub(crate) use keys::{md5, ttl_security};
pub(crate) use next_hops::{extended_next_hop, third_party, unnumbered};
pub(crate) use restart::{they_restart, they_stay_away, we_restart};
pub(crate) use several::{add_path_in, add_path_out, they_reflect, we_reflect};

use crate::bed::{Bed, Link, SOON, wait_for};
use crate::ours::{Ours, neighbour};
use crate::told::{Announce, Daemon, Kind, Neighbour, Told};
use bgp_speaker::config::PeerConfig;
use std::net::IpAddr;

pub(crate) const OUR_ASN: u32 = 65_001;
pub(crate) const THEIR_ASN: u32 = 65_002;
pub(crate) const OURS4: &str = "203.0.113.0/24";
pub(crate) const OURS6: &str = "2001:db8:1::/48";
pub(crate) const THEIRS4: &str = "198.51.100.0/24";
pub(crate) const THEIRS6: &str = "2001:db8:2::/48";
/// What we call the daemon.
pub(crate) const THEIRS: &str = "theirs";

/// What a daemon on a link is told: us as the only neighbour, a route of each family.
pub(crate) fn told(link: &Link, over: Over) -> Told {
    let (our, their) = over.ends(link);
    Told {
        asn: THEIR_ASN,
        id: "10.255.0.2".parse().unwrap(),
        neighbours: vec![Neighbour::new(our, their, OUR_ASN)],
        announce: vec![Announce::new(THEIRS4), Announce::new(THEIRS6)],
    }
}

/// What a session runs over.
#[derive(Clone, Copy)]
pub(crate) enum Over {
    V4,
    V6,
    LinkLocal,
}

impl Over {
    /// Our address and theirs.
    pub(crate) fn ends(self, link: &Link) -> (IpAddr, IpAddr) {
        match self {
            Self::V4 => (link.our4(), link.their4()),
            Self::V6 => (link.our6(), link.their6()),
            Self::LinkLocal => (link.our_link_local(), link.their_link_local()),
        }
    }
}

/// We and one daemon.
pub(crate) struct Scene {
    pub(crate) bed: Bed,
    pub(crate) ours: Ours,
    pub(crate) theirs: Box<dyn Daemon>,
    /// What the daemon was told.
    pub(crate) told: Told,
    /// Our address and theirs.
    pub(crate) our: IpAddr,
    pub(crate) their: IpAddr,
}

impl Scene {
    /// Both are started with what `adapt` makes of the usual.
    pub(crate) fn new(kind: Kind, over: Over, adapt: impl FnOnce(&mut Plan)) -> Self {
        let bed = if matches!(over, Over::LinkLocal) { Bed::unnumbered() } else { Bed::new(1) };
        let (our, their) = over.ends(bed.link());
        let mut plan = Plan {
            asn: OUR_ASN,
            peer: neighbour(their, THEIR_ASN),
            told: told(bed.link(), over),
            link: bed.link().clone(),
        };
        adapt(&mut plan);
        let config = crate::ours::config(plan.asn, "10.255.0.1", [(THEIRS, plan.peer)]);
        let ours = Ours::start(&bed.ours, config);
        ours.originate(&[OURS4, OURS6]);
        let theirs = kind.start(bed.link(), &plan.told);
        Self { bed, ours, theirs, told: plan.told, our, their }
    }

    /// Both, for the report of a test that failed.
    pub(crate) fn state(&self) -> String {
        format!("--- ours\n{}\n--- theirs\n{}", self.ours.state(), self.theirs.state())
    }

    /// Waits for something.
    pub(crate) fn wait(&self, what: &str, holds: impl FnMut() -> bool) {
        wait_for(what, SOON, || self.state(), holds);
    }

    /// Waits until both ends say that the session is established.
    pub(crate) fn up(&self) {
        self.wait("both ends are up", || self.ours.is_up(THEIRS) && self.theirs.is_up(self.our));
    }

    /// Waits until both have these routes of each other.
    pub(crate) fn exchanged(&self, our_prefix: &str, their_prefix: &str) {
        self.wait("they have our route", || self.theirs.has(our_prefix));
        self.wait("we have their route", || self.ours.has(their_prefix));
    }
}

/// What both are going to be told.
pub(crate) struct Plan {
    pub(crate) asn: u32,
    pub(crate) peer: PeerConfig,
    pub(crate) told: Told,
    pub(crate) link: Link,
}

impl Plan {
    /// What the daemon is told of us.
    pub(crate) fn us(&mut self) -> &mut Neighbour {
        &mut self.told.neighbours[0]
    }
}
