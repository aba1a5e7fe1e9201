//! From a path in the tables to a path that is told to a group of peers. Never a look at what they were told before.

use super::facts::GroupFacts;
use crate::config::PrivateAsns;
use crate::policy::{self, NextHopRule, RouteSource};
use crate::rib::{Own, PathView, PeerKind, Source};
use crate::types::{AsPath, Asn, Attributes, Community, Family, NextHop, Role, Segment};
use ipnet::IpNet;
use std::net::IpAddr;

/// Why peers are not told of a prefix that we have a path of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Withheld {
    /// An aggregate around it is announced instead.
    Suppressed,
    /// It carries NO_ADVERTISE. RFC 1997.
    NoAdvertise,
    /// It carries NO_EXPORT or NO_EXPORT_SUBCONFED, and they are of another system. RFC 1997.
    NoExport,
    /// It is from an internal peer, as they are, and neither is a client. RFC 4271, section 9.2; RFC 4456, section 6.
    Internal,
    /// It is long-lived stale, and they would not know. RFC 9494, section 4.3.
    LongLived,
    /// It was meant for customers only. RFC 9234, section 5.
    Leak,
    /// The export policy says no.
    Policy,
    /// There is no next hop that they could use, and that an UPDATE of their session can carry.
    NextHop,
}

/// What a group is told of a path, or why it is not. Whether an aggregate suppresses it was asked before.
pub(super) fn outbound(own: &Own, to: &GroupFacts, prefix: IpNet, path: &PathView<'_>) -> Result<Attributes, Withheld> {
    let from = path.peer.map(|peer| peer.kind);
    if from == Some(PeerKind::Internal) && to.kind == PeerKind::Internal {
        return Err(Withheld::Internal);
    }
    let carried = path.attributes;
    if carried.has(Community::NO_ADVERTISE) {
        return Err(Withheld::NoAdvertise);
    }
    let is_external = to.kind.is_external();
    if is_external && (carried.has(Community::NO_EXPORT) || carried.has(Community::NO_EXPORT_SUBCONFED)) {
        return Err(Withheld::NoExport);
    }
    if (path.is_long_lived || carried.has(Community::LLGR_STALE)) && !to.long_lived {
        return Err(Withheld::LongLived);
    }
    let only_down = matches!(to.role, Some(Role::Customer | Role::Peer | Role::RouteServerClient));
    if is_external && only_down && carried.only_to_customer.is_some() {
        return Err(Withheld::Leak);
    }
    let mut made = Attributes::clone(carried);
    if path.is_long_lived {
        add(&mut made, Community::LLGR_STALE);
    }
    // RFC 4271, section 5.1.4: a MED goes no farther than the neighbouring system. One of our own policy may.
    if is_external && from.is_some() {
        made.med = None;
    }
    let rule = apply(own, to, prefix, path, &mut made)?;
    made.next_hop = next_hop(to, Family::of(&prefix), path, &made, rule).ok_or(Withheld::NextHop)?;
    if let (false, Some(peer)) = (is_external, path.peer.filter(|peer| !peer.kind.is_external())) {
        // RFC 4456, section 8.
        made.originator.get_or_insert(peer.router_id);
        made.cluster_list.insert(0, own.cluster_id);
    }
    finish(own, to, &mut made);
    Ok(made)
}

/// The default route that a group gets in any case. No policy is asked.
pub(super) fn default_route(own: &Own, to: &GroupFacts, family: Family) -> Option<Attributes> {
    let next_hop = own_next_hop(to, family)?;
    let mut made = Attributes::own(next_hop);
    finish(own, to, &mut made);
    Some(made)
}

fn apply(
    own: &Own,
    to: &GroupFacts,
    prefix: IpNet,
    path: &PathView<'_>,
    made: &mut Attributes,
) -> Result<NextHopRule, Withheld> {
    let Some(policy) = &to.policy else { return Ok(NextHopRule::Usual) };
    let route = policy::Route {
        prefix,
        attributes: made,
        peer: path.peer.map(|peer| &*peer.name),
        interface: path.peer.and_then(|peer| peer.interface.as_deref()),
        source: match (path.source, path.peer) {
            (Source::Aggregate, _) => RouteSource::Aggregate,
            (Source::Peer(_), Some(peer)) if peer.kind.is_external() => RouteSource::Ebgp,
            (Source::Peer(_), _) => RouteSource::Ibgp,
            (Source::Local, _) => RouteSource::Local,
        },
    };
    let accepted = policy.apply(&route, own.asn).ok_or(Withheld::Policy)?;
    if let Some(changed) = accepted.changed {
        *made = *changed;
    }
    Ok(accepted.next_hop)
}

/// Ourselves. On a link-local session where both agreed that IPv4 routes need no IPv4 next hop (RFC 8950), a configured one
/// means nothing on the link. `None` also where no UPDATE of their session can carry it.
fn own_next_hop(to: &GroupFacts, family: Family) -> Option<NextHop> {
    let is_unnumbered = matches!(to.next_hop.v6, Some(NextHop::V6 { link_local: Some(_), .. }));
    let own = match family {
        Family::Ipv4 if is_unnumbered && to.extended_next_hop.contains(&family) => to.next_hop.v6,
        Family::Ipv4 => to.next_hop.v4,
        Family::Ipv6 => to.next_hop.v6,
    };
    own.filter(|own| to.carries(family, *own))
}

fn next_hop(
    to: &GroupFacts,
    family: Family,
    path: &PathView<'_>,
    made: &Attributes,
    rule: NextHopRule,
) -> Option<NextHop> {
    let own = own_next_hop(to, family);
    let address = made.next_hop.address();
    // The link-local address beside a global one means something on its own link only.
    let kept = match made.next_hop {
        NextHop::V6 { global, .. } => NextHop::V6 { global, link_local: None },
        v4 @ NextHop::V4(_) => v4,
    };
    let can_be_kept = to.carries(family, kept) && !address.is_unspecified();
    let is_link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    let keeps = match rule {
        NextHopRule::Own => false,
        NextHopRule::Kept => true,
        NextHopRule::Usual if path.peer.is_none() || is_link_local => false,
        NextHopRule::Usual if to.kind.is_external() => {
            let came_from_there = path.peer.is_some_and(|peer| peer.address.to_canonical() == address);
            !to.next_hop_self
                && to.link.iter().any(|network| network.contains(&address))
                && (came_from_there || !to.neighbours.contains(&address))
        }
        NextHopRule::Usual => !(to.next_hop_self && path.peer.is_some_and(|peer| peer.kind.is_external())),
    };
    if keeps && can_be_kept { Some(kept) } else { own }
}

/// What BGP itself wants of all routes to a group.
fn finish(own: &Own, to: &GroupFacts, made: &mut Attributes) {
    if to.kind.is_external() {
        // RFC 4271, section 5.1.5; RFC 4456, section 8.
        made.local_pref = None;
        made.originator = None;
        made.cluster_list.clear();
        made.extended.retain(|community| community.is_transitive());
        if to.private_asns == PrivateAsns::Remove {
            remove_private(&mut made.as_path);
        }
        made.as_path = made.as_path.prepended(own.asn, 1);
        let marks = matches!(to.role, Some(Role::Provider | Role::Peer | Role::RouteServer));
        if marks && made.only_to_customer.is_none() {
            made.only_to_customer = Some(own.asn);
        }
    } else {
        made.local_pref.get_or_insert(100);
    }
    if to.drain {
        add(made, Community::GRACEFUL_SHUTDOWN);
    }
}

fn add(made: &mut Attributes, community: Community) {
    if let Err(at) = made.communities.binary_search(&community) {
        made.communities.insert(at, community);
    }
}

fn remove_private(path: &mut AsPath) {
    let public = |segment: Segment<'_>| {
        let asns: Vec<Asn> = segment.asns.iter().copied().filter(|asn| !asn.is_private()).collect();
        (segment.kind, asns)
    };
    *path = path.segments().map(public).collect();
}
