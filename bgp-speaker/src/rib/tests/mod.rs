//! Laws of the tables, and what other tests need to fill some.

mod choice;
mod incoming;
mod keeping;

use super::{Own, PeerFacts, PeerKind, Rib};
use crate::config::Selection;
use crate::speaker::{Resolution, Via};
use crate::types::{
    Announcement, AsPath, Asn, Attributes, Family, NextHop, Nlri, PathId, PeerId, RouterId, Update, Withdrawal,
};
use ipnet::IpNet;
use std::net::Ipv4Addr;
use std::sync::Arc;

pub(crate) const OWN: u32 = 64_512;

pub(crate) fn asn(number: u32) -> Asn {
    Asn::new(number).unwrap()
}

pub(crate) fn id(last: u8) -> RouterId {
    RouterId::new(Ipv4Addr::new(192, 0, 2, last)).unwrap()
}

pub(crate) fn own() -> Own {
    Own { asn: asn(OWN), router_id: id(254), cluster_id: id(253), selection: Selection::default() }
}

/// Peers 0 and 1 are external, 2 and 3 clients, the others internal.
pub(crate) fn facts(peer: u32) -> PeerFacts {
    let kind = match peer {
        0 | 1 => PeerKind::External,
        2 | 3 => PeerKind::Client,
        _ => PeerKind::Internal,
    };
    let last = 1 + u8::try_from(peer).unwrap();
    let system = if kind.is_external() { asn(65_001 + peer) } else { asn(OWN) };
    PeerFacts::new(format!("peer-{peer}").into(), kind, system, id(last), Ipv4Addr::new(192, 0, 2, last).into())
}

pub(crate) fn announce(nlri: Nlri, attributes: &Attributes) -> Update {
    let family = Family::of(&nlri.prefix);
    let attributes = Arc::new(attributes.clone());
    Update { announcements: vec![Announcement { family, attributes, nlri: vec![nlri] }], ..Update::default() }
}

pub(crate) fn withdraw(nlri: Nlri) -> Update {
    let family = Family::of(&nlri.prefix);
    Update { withdrawals: vec![Withdrawal { family, nlri: vec![nlri] }], ..Update::default() }
}

pub(crate) fn nlri(prefix: IpNet, path: u32) -> Nlri {
    Nlri { prefix, path: PathId(path) }
}

pub(crate) fn ways(metric: Option<u32>) -> Vec<Resolution> {
    let via = Via { interface: "eth0".into(), gateway: None };
    metric.into_iter().map(|metric| Resolution { metric, via: via.clone() }).collect()
}

/// The prefix of most tests.
pub(crate) const NET: &str = "198.51.100.0/24";

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// As peer `peer` would announce it, over itself.
pub(crate) fn plain(peer: u32) -> Attributes {
    let facts = facts(peer);
    let mut made = Attributes::own(NextHop::from(facts.address));
    let path = if facts.kind.is_external() { vec![facts.asn, asn(65_100)] } else { vec![asn(65_100)] };
    made.as_path = AsPath::sequence(path);
    made
}

/// Tables with peers `0..peers`, whose own addresses are on the link.
pub(crate) fn tables(peers: u32) -> Rib {
    let mut rib = Rib::new(own());
    for peer in 0..peers {
        rib.peer_up(PeerId(peer), facts(peer), None);
    }
    rib
}

/// All next hops are on the link.
pub(crate) fn resolve_all(rib: &mut Rib) {
    for change in rib.take_next_hops() {
        if let super::NextHopChange::Track(address) = change {
            rib.resolve(address, ways(Some(0)));
        }
    }
}

pub(crate) fn put(rib: &mut Rib, peer: u32, prefix: &str, attributes: &Attributes) {
    rib.update(PeerId(peer), &announce(nlri(net(prefix), 0), attributes)).unwrap();
    resolve_all(rib);
}

/// Which peer has the best path.
pub(crate) fn best(rib: &Rib, prefix: &str) -> Option<u32> {
    let prefix = net(prefix);
    rib.best(Family::of(&prefix), rib.slot(&prefix)?)?.source.peer().map(|peer| peer.0)
}

/// Ourselves, choosing in another way.
pub(crate) fn choosing(selection: Selection) -> Own {
    Own { selection, ..own() }
}
