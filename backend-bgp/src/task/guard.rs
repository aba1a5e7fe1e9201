//! What peers that are no nodes may not announce: addresses of pods. Never a word on what nodes announce to each other.
//!
//! A longer prefix wins, whoever it comes from: one peer outside with a pod's `/32` would take that pod's traffic. Where nodes
//! have sessions among themselves they need nobody else to tell them where pods are.

use crate::compile::SESSION_PREFIX;
use crate::table::Wanted;
use bgp_speaker::config::{Config, PeerConfig};
use bgp_speaker::policy::{Policy, RawDefault, RawMatches, RawPolicy, RawPrefix, RawStatement, RawThen};
use ipnet::IpNet;
use std::sync::Arc;

/// Gives peers and ranges that have no import policy, and are no nodes, one that rejects what is inside of the blocks of
/// nodes and of what this node announces.
pub(super) fn guard(wanted: &Wanted, config: &mut Config) {
    let tells = wanted.ground.as_ref().is_some_and(|ground| ground.nodes_tell_blocks);
    let is_open = |peer: &PeerConfig| peer.import.is_none();
    let outside = config.peers.iter_mut().filter(|(name, _)| !name.starts_with(SESSION_PREFIX)).map(|(_, peer)| peer);
    let ranges = config.ranges.values_mut().map(|range| &mut range.template);
    let mut open = outside.chain(ranges).filter(|peer| is_open(peer)).peekable();
    if !tells || open.peek().is_none() {
        return;
    }
    let policy = policy(wanted);
    open.for_each(|peer| peer.import = Some(policy.clone()));
}

fn policy(wanted: &Wanted) -> Arc<Policy> {
    let blocks: Vec<IpNet> = wanted.blocks.keys().chain(wanted.announcements.keys()).map(IpNet::trunc).collect();
    let inside = |prefix: IpNet| RawPrefix { prefix, at_least: None, at_most: Some(prefix.max_prefix_len()) };
    let prefixes = IpNet::aggregate(&blocks).into_iter().map(inside).collect();
    let matches = RawMatches { prefixes: Some(prefixes), ..RawMatches::default() };
    let statement = RawStatement { matches, then: RawThen::Reject, ..RawStatement::default() };
    // An empty list of prefixes would be refused, and there is nothing to protect.
    let statements = if blocks.is_empty() { Vec::new() } else { vec![statement] };
    let policy = Policy::import(&RawPolicy { statements, default: RawDefault::Accept });
    Arc::new(
        policy.expect("its prefixes have no host bits, reach to the length of an address, and nothing else is in it"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config as Section;
    use crate::object::Ground;
    use bgp_speaker::policy::{Route, RouteSource};
    use bgp_speaker::speaker::Origination;
    use bgp_speaker::types::{Asn, Attributes, NextHop, RouterId};
    use cni_core::model::Encapsulation;
    use std::net::Ipv4Addr;

    const NAMES: [&str; 2] = ["node/b", "tor"];

    fn guarded(nodes_tell_blocks: bool) -> Config {
        let own = Asn::new(64_512).unwrap();
        let speaker = Config::new(own, RouterId::new([192, 0, 2, 1].into()).unwrap());
        let mut config = speaker.clone();
        config.peers.extend(NAMES.map(|name| (name.into(), Section::default().session.config)));
        let encapsulation = Encapsulation::Never;
        let ground = Ground { speaker, encapsulation, tunnel: None, segments: Vec::new(), nodes_tell_blocks };
        let mut wanted = Wanted { ground: Some(ground), ..Wanted::default() };
        wanted.blocks.insert("10.244.2.0/26".parse().unwrap(), ());
        wanted.blocks.insert("10.244.2.64/26".parse().unwrap(), ());
        wanted.announcements.insert("10.244.1.0/26".parse().unwrap(), Origination::default());
        guard(&wanted, &mut config);
        config
    }

    fn passes(config: &Config, peer: &str, prefix: &str) -> bool {
        let attributes = Attributes::own(NextHop::V4(Ipv4Addr::new(192, 0, 2, 254)));
        let prefix = prefix.parse().unwrap();
        let route =
            Route { prefix, attributes: &attributes, peer: Some(peer), interface: None, source: RouteSource::Ebgp };
        config.peers[peer].import.as_ref().is_none_or(|policy| policy.apply(&route, config.asn).is_some())
    }

    #[test]
    fn a_peer_that_is_no_node_cannot_take_what_is_inside_a_block() {
        let config = guarded(true);
        for taken in ["10.244.2.5/32", "10.244.2.0/26", "10.244.2.64/26", "10.244.1.7/32"] {
            assert!(!passes(&config, "tor", taken), "{taken}");
            assert!(passes(&config, "node/b", taken), "{taken}");
        }
        for other in ["0.0.0.0/0", "10.244.0.0/16", "10.244.3.0/26", "198.51.100.0/24", "2001:db8::/32"] {
            assert!(passes(&config, "tor", other), "{other}");
        }
    }

    #[test]
    fn where_nodes_have_no_sessions_among_themselves_others_may_tell_of_blocks() {
        assert!(passes(&guarded(false), "tor", "10.244.2.0/26"));
    }

    #[test]
    fn what_the_operator_says_of_an_import_is_left_alone() {
        let mut config = guarded(true);
        let accept = RawPolicy { statements: Vec::new(), default: RawDefault::Accept };
        let own = Arc::new(Policy::import(&accept).unwrap());
        config.peers.get_mut("tor").unwrap().import = Some(own.clone());
        let mut again = config.clone();
        let ground = Ground {
            speaker: config.clone(),
            encapsulation: Encapsulation::Never,
            tunnel: None,
            segments: Vec::new(),
            nodes_tell_blocks: true,
        };
        guard(&Wanted { ground: Some(ground), ..Wanted::default() }, &mut again);
        assert_eq!(again.peers["tor"].import, Some(own));
    }
}
