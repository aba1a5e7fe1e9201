//! From a path as it came to a path as it counts. Never a look at other paths.

use super::Own;
use super::path::Refused;
use super::peer::PeerFacts;
use crate::policy::{self, Policy};
use crate::types::{Attributes, Community, Role};
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;

/// What the rules of BGP, then the operator, make of a path.
pub(super) fn import(
    own: &Own,
    facts: &PeerFacts,
    policy: Option<&Policy>,
    prefix: IpNet,
    received: &Arc<Attributes>,
) -> Result<Arc<Attributes>, Refused> {
    refuse(own, facts, received)?;
    let mut attributes = Arc::clone(received);
    if facts.kind.is_external() {
        // RFC 4271, section 5.1.5, and RFC 4456, section 8: these mean nothing from another system.
        if attributes.local_pref.is_some() || attributes.originator.is_some() || !attributes.cluster_list.is_empty() {
            let stripped = Arc::make_mut(&mut attributes);
            stripped.local_pref = None;
            stripped.originator = None;
            stripped.cluster_list.clear();
        }
        // RFC 9234, section 5: who is not our customer says so for us, should it not know how to.
        let marks = matches!(facts.role, Some(Role::Customer | Role::Peer | Role::RouteServerClient));
        if marks && attributes.only_to_customer.is_none() {
            Arc::make_mut(&mut attributes).only_to_customer = Some(facts.asn);
        }
    }
    let Some(mut attributes) = apply(own, facts, policy, prefix, attributes) else { return Err(Refused::Policy) };
    // RFC 8326, section 4.3. A policy cannot undo it: the peer is about to go.
    let goes = own.selection.graceful_shutdown && facts.kind.is_external();
    if goes && attributes.has(Community::GRACEFUL_SHUTDOWN) && attributes.local_pref != Some(0) {
        Arc::make_mut(&mut attributes).local_pref = Some(0);
    }
    Ok(attributes)
}

fn apply(
    own: &Own,
    facts: &PeerFacts,
    policy: Option<&Policy>,
    prefix: IpNet,
    attributes: Arc<Attributes>,
) -> Option<Arc<Attributes>> {
    let Some(policy) = policy else { return Some(attributes) };
    let route = policy::Route {
        prefix,
        attributes: &attributes,
        peer: Some(&facts.name),
        interface: facts.interface.as_deref(),
        source: if facts.kind.is_external() { policy::RouteSource::Ebgp } else { policy::RouteSource::Ibgp },
    };
    let accepted = policy.apply(&route, own.asn)?;
    Some(accepted.changed.map_or_else(|| Arc::clone(&attributes), |changed| Arc::new(*changed)))
}

fn refuse(own: &Own, facts: &PeerFacts, received: &Attributes) -> Result<(), Refused> {
    let own_on_path = received.as_path.asns().filter(|asn| *asn == own.asn).count();
    if own_on_path > facts.allow_own_asn.into() {
        return Err(Refused::OwnAsn);
    }
    if facts.local == Some(received.next_hop.address()) {
        return Err(Refused::OwnNextHop);
    }
    if !is_on_link(facts, received.next_hop.address()) {
        return Err(Refused::OffLink);
    }
    if !facts.kind.is_external() {
        if received.originator == Some(own.router_id) {
            return Err(Refused::Originator);
        }
        if received.cluster_list.contains(&own.cluster_id) {
            return Err(Refused::Cluster);
        }
        return Ok(());
    }
    // A route server does not put itself on the path. RFC 7947, section 2.2.2.
    let skips = facts.skip_first_asn_check || facts.role == Some(Role::RouteServerClient);
    if !skips && received.as_path.neighbour() != Some(facts.asn) {
        return Err(Refused::FirstAsn);
    }
    // RFC 9234, section 5, ingress 1 and 2.
    let leaked = match (facts.role, received.only_to_customer) {
        (Some(Role::Provider | Role::RouteServer), Some(_)) => true,
        (Some(Role::Peer), Some(asn)) => asn != facts.asn,
        _ => false,
    };
    if leaked { Err(Refused::Leak) } else { Ok(()) }
}

/// Whether a next hop can be one of an external peer that is one hop away, as far as our networks are known.
fn is_on_link(facts: &PeerFacts, next_hop: IpAddr) -> bool {
    let next_hop = next_hop.to_canonical();
    let is_link_local = matches!(next_hop, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let mut known = facts.link.iter().filter(|network| network.addr().is_ipv4() == next_hop.is_ipv4()).peekable();
    let judges = known.peek().is_some() && !is_link_local && next_hop != facts.address.to_canonical();
    !judges || known.any(|network| is_host(*network, next_hop))
}

/// Whether an address is one of a network that a host can have.
fn is_host(network: IpNet, address: IpAddr) -> bool {
    let is_for_all = match network {
        // RFC 3021: a network of two has no address for all.
        IpNet::V4(v4) if v4.prefix_len() < 31 => address == v4.network() || address == v4.broadcast(),
        _ => false,
    };
    network.contains(&address) && !is_for_all
}
