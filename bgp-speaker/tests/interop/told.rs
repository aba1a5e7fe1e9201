//! What a peer is told to be and what it is asked, in words that all daemons share. Never the language of one daemon.

use crate::bed::Link;
use crate::bird::Bird;
use crate::exabgp::Exabgp;
use crate::frr::Frr;
use crate::gobgp::Gobgp;
use crate::openbgpd::Openbgpd;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

/// The hold time of all sessions: longer than a busy machine may stand still.
pub(crate) const HOLD_SECONDS: u16 = 30;

/// What a daemon is told to be.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) asn: u32,
    pub(crate) id: Ipv4Addr,
    pub(crate) neighbours: Vec<Neighbour>,
    pub(crate) announce: Vec<Announce>,
}

/// One of its neighbours.
#[derive(Clone)]
pub(crate) struct Neighbour {
    /// Of the neighbour. Link-local: on the device `net0`.
    pub(crate) address: IpAddr,
    pub(crate) local: IpAddr,
    pub(crate) asn: u32,
    pub(crate) ipv4: bool,
    pub(crate) ipv6: bool,
    pub(crate) passive: bool,
    pub(crate) password: Option<&'static str>,
    /// Graceful restart, with this restart time.
    pub(crate) restart_seconds: Option<u16>,
    /// Several paths, both ways.
    pub(crate) add_path: bool,
    /// The neighbour is a client, the daemon is a route reflector.
    pub(crate) client: bool,
    /// IPv4 routes may have IPv6 next hops.
    pub(crate) extended_next_hop: bool,
    /// Found by router advertisements on the device `net0`; `address` says where to expect it.
    pub(crate) unnumbered: bool,
    pub(crate) bfd: bool,
    pub(crate) limit: Option<u32>,
    pub(crate) ttl_security: bool,
    /// What the daemon is to the neighbour: `provider`, `customer`.
    pub(crate) role: Option<&'static str>,
}

impl Neighbour {
    /// With nothing special.
    pub(crate) fn new(address: IpAddr, local: IpAddr, asn: u32) -> Self {
        Self {
            address,
            local,
            asn,
            ipv4: true,
            ipv6: true,
            passive: false,
            password: None,
            restart_seconds: None,
            add_path: false,
            client: false,
            extended_next_hop: false,
            unnumbered: false,
            bfd: false,
            limit: None,
            ttl_security: false,
            role: None,
        }
    }
}

/// A route of a daemon's own.
#[derive(Clone)]
pub(crate) struct Announce {
    pub(crate) prefix: IpNet,
    pub(crate) communities: &'static [(u16, u16)],
    /// Route targets.
    pub(crate) targets: &'static [(u16, u32)],
    pub(crate) large: &'static [(u32, u32, u32)],
}

impl Announce {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.parse().unwrap(), communities: &[], targets: &[], large: &[] }
    }
}

/// A route as a daemon has it from a neighbour.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) prefix: Option<IpNet>,
    pub(crate) next_hop: Option<IpAddr>,
    pub(crate) as_path: Vec<u32>,
    /// All kinds, as `1:2`, `1:2:3`, `rt:1:2`.
    pub(crate) communities: BTreeSet<String>,
    pub(crate) originator: Option<IpAddr>,
}

/// A daemon of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bird,
    Frr,
    Gobgp,
    Openbgpd,
    Exabgp,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Bird, Self::Frr, Self::Gobgp, Self::Openbgpd, Self::Exabgp];

    /// As in the names of tests.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bird => "bird",
            Self::Frr => "frr",
            Self::Gobgp => "gobgp",
            Self::Openbgpd => "openbgpd",
            Self::Exabgp => "exabgp",
        }
    }

    /// As its makers write it.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Bird => "BIRD 2",
            Self::Frr => "FRR",
            Self::Gobgp => "GoBGP",
            Self::Openbgpd => "OpenBGPD",
            Self::Exabgp => "ExaBGP",
        }
    }

    pub(crate) fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|kind| kind.name() == name).unwrap()
    }

    pub(crate) fn start(self, link: &Link, told: &Told) -> Box<dyn Daemon> {
        match self {
            Self::Bird => Box::new(Bird::start(link, told)),
            Self::Frr => Box::new(Frr::start(link, told)),
            Self::Gobgp => Box::new(Gobgp::start(link, told)),
            Self::Openbgpd => Box::new(Openbgpd::start(link, told)),
            Self::Exabgp => Box::new(Exabgp::start(link, told)),
        }
    }
}

/// Which family a prefix is of, as most daemons write it.
pub(crate) fn family(prefix: &IpNet) -> &'static str {
    if prefix.addr().is_ipv4() { "ipv4" } else { "ipv6" }
}

/// A daemon with its namespace, folder and process.
pub(crate) trait Daemon: Send {
    /// Whether the session with a neighbour is established.
    fn is_up(&self, neighbour: IpAddr) -> bool;
    /// Paths from neighbours: those of a prefix, perhaps others too.
    fn routes(&self, prefix: &IpNet) -> Vec<Seen>;
    /// Ends the session for good, with a text for the neighbour.
    fn shut(&self, neighbour: IpAddr, text: &str);
    /// What it knows about the last end of the session.
    fn last_words(&self, neighbour: IpAddr) -> String;
    /// Asks a neighbour for all its routes.
    fn refresh(&self, neighbour: IpAddr);
    /// Kill -9.
    fn kill(&mut self);
    /// Nothing moves any more, and no connection ends.
    fn freeze(&self);
    /// Starts again, as after a crash.
    fn restart(&mut self, told: &Told);
    /// For the report of a test that failed.
    fn state(&self) -> String;
}

impl dyn Daemon + '_ {
    /// Paths of a prefix.
    pub(crate) fn paths(&self, prefix: &str) -> Vec<Seen> {
        let prefix: IpNet = prefix.parse().unwrap();
        self.routes(&prefix).into_iter().filter(|route| route.prefix == Some(prefix)).collect()
    }

    /// Whether it has a route.
    pub(crate) fn has(&self, prefix: &str) -> bool {
        !self.paths(prefix).is_empty()
    }
}
