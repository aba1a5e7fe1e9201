//! What a speaker would refuse on some node, refused when the section is read, by its own keys. Never looks at the node.

use super::fields::{key_of, key_of_session};
use super::values::{Result, at};
use super::{Config, NodeSelector, PeerRule, RangeRule, Template, Who};
use bgp_speaker::config::{self as speaker, ListenRange, PeerAddress, PeerConfig};
use bgp_speaker::types::RouterId;
use cni_core::strict::StrictError;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// The key of sessions among nodes, and of each peer's.
const SESSION: &str = "session";

impl Config {
    /// What a speaker would refuse on some node, refused now. Ranges and addresses of different nodes may be the same.
    pub(super) fn check_as_speaker(&self) -> Result<()> {
        let own = RouterId::new(Ipv4Addr::new(192, 0, 2, 1)).expect("192.0.2.1 is not 0.0.0.0");
        let check = |peers: BTreeMap<Arc<str>, PeerConfig>, ranges: BTreeMap<Arc<str>, ListenRange>, path: &str| {
            let mut config = speaker::Config::new(self.asn, own);
            (config.restart, config.selection) = (self.restart.clone(), self.selection.clone());
            (config.peers, config.ranges) = (peers, ranges);
            config.check().map_err(|error| {
                let path = match error.at.as_str() {
                    "speaker" => at(key_of(error.field)),
                    _ if path == SESSION => at(&format!("{SESSION}.{}", key_of_session(error.field))),
                    _ => at(&format!("{path}.{}", key_of(error.field))),
                };
                StrictError { path, problem: error.why.to_string() }
            })
        };
        let example = |template: &Template| {
            let address = PeerAddress::Ip(Ipv4Addr::new(192, 0, 2, 2).into());
            PeerConfig { address, ..template.config.clone() }
        };
        check([("session".into(), example(&self.session))].into(), BTreeMap::new(), SESSION)?;
        // Rules that some node has both of for certain have to be apart; those of different selectors may take turns.
        let meet = |one: &NodeSelector, two: &NodeSelector| one == two || [one, two].contains(&&NodeSelector::All);
        // The speaker blames the later of two names: `~` is in no name and after all of them.
        let judged = |name: &str| -> Arc<str> { format!("~{name}").into() };
        let session = |rule: &PeerRule| match &rule.who {
            Who::One { address, asn } => {
                PeerConfig { address: address.clone(), asn: *asn, ..rule.template.config.clone() }
            }
            Who::Nodes(_) => example(&rule.template),
        };
        let is_one = |rule: &&PeerRule| matches!(rule.who, Who::One { .. });
        for (index, rule) in self.peers.iter().enumerate() {
            let path = format!("peers[{index}]");
            let alone: BTreeMap<_, _> = [(judged(&rule.name), session(rule))].into();
            check(alone.clone(), BTreeMap::new(), &path)?;
            for other in self.peers[..index].iter().filter(|other| is_one(&rule) && is_one(other)) {
                if meet(&rule.nodes, &other.nodes) {
                    let mut both = alone.clone();
                    both.insert(other.name.clone(), session(other));
                    check(both, BTreeMap::new(), &path)?;
                }
            }
        }
        let listen =
            |rule: &RangeRule| ListenRange { range: rule.range, template: example(&rule.template), limit: rule.limit };
        for (index, rule) in self.ranges.iter().enumerate() {
            let path = format!("listenRanges[{index}]");
            let alone: BTreeMap<_, _> = [(judged(&rule.name), listen(rule))].into();
            check(BTreeMap::new(), alone.clone(), &path)?;
            for other in self.ranges[..index].iter().filter(|other| meet(&rule.nodes, &other.nodes)) {
                let mut both = alone.clone();
                both.insert(other.name.clone(), listen(other));
                check(BTreeMap::new(), both, &path)?;
            }
        }
        Ok(())
    }
}
