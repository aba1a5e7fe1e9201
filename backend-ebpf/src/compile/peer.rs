//! One other node: routes to its pods, and what the programs have to know of them. Never looks at other peers: the engine
//! finds conflicts.

use super::ATTRIBUTE_TUNNEL;
use super::node::{Compiler, Objects};
use crate::config::Mode;
use crate::lengths::PrefixLength;
use crate::object::{Carriage, Key, Object, Target, of_host};
use cni_core::backend::{Error, Result};
use cni_core::model::{Encapsulation, Peer, PeerPrefix};
use ipnet::IpNet;
use net_linux::host::wanted;
use std::net::IpAddr;

impl Compiler {
    /// The objects of a peer.
    ///
    /// # Errors
    /// The peer is not acceptable, or there is no way to it in this mode; names the field.
    pub fn peer(&self, peer: &Peer) -> Result<Objects> {
        self.check_identity(peer)?;
        let mut objects = Objects::new();
        if self.config.mode == Mode::Vxlan {
            objects.extend(self.heard(peer)?);
        }
        for prefix in &peer.prefixes {
            self.check_prefix(&object(peer), "prefixes", &prefix.prefix)?;
            let rivals = peer.prefixes.iter().filter(|other| other.prefix == prefix.prefix);
            if rivals.clone().any(|other| other.encapsulation != prefix.encapsulation) {
                let detail = format!("has {} twice with different encapsulation; leave one", prefix.prefix);
                return Err(Error::invalid(object(peer), "prefixes", detail));
            }
            match self.config.mode {
                Mode::Vxlan => self.wrapped(&mut objects, peer, prefix)?,
                Mode::Native => self.plain(&mut objects, peer, prefix)?,
            }
        }
        objects.sort_by(|a, b| a.0.cmp(&b.0));
        objects.dedup_by(|a, b| a.0 == b.0);
        Ok(objects)
    }

    /// Where outer packets to a peer go.
    fn outer(&self, peer: &Peer) -> Result<IpAddr> {
        let same = |address: &IpAddr| address.is_ipv4() == self.own.is_ipv4();
        addresses(peer).find(same).ok_or_else(|| {
            let (field, family) = if self.own.is_ipv4() { ("v4", "IPv4") } else { ("v6", "IPv6") };
            let detail = format!("is missing: the tunnel here runs over {family}; give the peer such an address");
            Error::invalid(object(peer), field, detail)
        })
    }

    /// The peer may send through the tunnel.
    fn heard(&self, peer: &Peer) -> Result<Objects> {
        let outer = self.outer(peer)?;
        let ours = self.tunnel_text();
        let theirs = peer.attributes.get(ATTRIBUTE_TUNNEL);
        if let Some(theirs) = theirs.filter(|theirs| ours.as_deref() != Some(&**theirs)) {
            let detail = format!(
                "is {theirs} (VNI/port) there and {} here; set the same on all nodes",
                ours.unwrap_or_default()
            );
            return Err(Error::invalid(object(peer), ATTRIBUTE_TUNNEL, detail));
        }
        Ok(of_host(self.guards.then(|| wanted::heard(outer))).collect())
    }

    fn wrapped(&self, objects: &mut Objects, peer: &Peer, prefix: &PeerPrefix) -> Result<()> {
        if prefix.encapsulation == Some(Encapsulation::Never) {
            let detail =
                format!("the pool of {} wants plain routes, which mode vxlan has not; use mode native", prefix.prefix);
            return Err(Error::invalid(object(peer), "encapsulation", detail));
        }
        let outer = self.outer(peer)?;
        objects.extend(self.link());
        objects.extend(self.programs());
        objects.extend(way(prefix.prefix, outer, Carriage::Wrapped));
        let target = Target::Device(self.config.device.clone());
        objects.push((Key::Route(prefix.prefix), Object::Route(target)));
        Ok(())
    }

    fn plain(&self, objects: &mut Objects, peer: &Peer, prefix: &PeerPrefix) -> Result<()> {
        if prefix.encapsulation == Some(Encapsulation::Always) {
            let detail =
                format!("the pool of {} wants a tunnel, which mode native has not; use mode vxlan", prefix.prefix);
            return Err(Error::invalid(object(peer), "encapsulation", detail));
        }
        let gateway = self.gateway(peer, &prefix.prefix).ok_or_else(|| self.no_plain_way(peer, &prefix.prefix))?;
        if self.config.fast_path {
            objects.extend(self.programs());
            objects.extend(way(prefix.prefix, gateway, Carriage::Plain));
        }
        let target = Target::Via(self.node.underlay.interface.clone(), gateway);
        objects.push((Key::Route(prefix.prefix), Object::Route(target)));
        Ok(())
    }

    /// The peer's address on our segment that can be the gateway of a prefix. IPv4 goes over IPv6 gateways too
    /// (`RTA_VIA`), IPv6 only over IPv6.
    fn gateway(&self, peer: &Peer, prefix: &IpNet) -> Option<IpAddr> {
        addresses(peer)
            .filter(|address| prefix.addr().is_ipv4() || address.is_ipv6())
            .find(|address| self.node.underlay.segments().any(|segment| segment.contains(address)))
    }

    fn no_plain_way(&self, peer: &Peer, prefix: &IpNet) -> Error {
        let known: Vec<String> = addresses(peer).map(|address| address.to_string()).collect();
        let peer_has = if known.is_empty() { "no address".to_owned() } else { known.join(", ") };
        let interface = &self.node.underlay.interface;
        let detail = format!(
            "mode native needs plain routes, but the peer ({peer_has}) is not on the segment of {interface} with an address \
             that can be the gateway of {prefix}; use mode vxlan"
        );
        Error::invalid(object(peer), if prefix.addr().is_ipv4() { "v4" } else { "v6" }, detail)
    }

    /// Refuses a peer that is this node, or has an address that no other node can have.
    fn check_identity(&self, peer: &Peer) -> Result<()> {
        if peer.node == self.node.name {
            return Err(Error::invalid(object(peer), "node", "is this node's own name; two nodes share it"));
        }
        let underlay = &self.node.underlay;
        let own = [underlay.v4.map(|net| IpAddr::V4(net.addr())), underlay.v6.map(|net| IpAddr::V6(net.addr()))];
        for address in addresses(peer) {
            let field = if address.is_ipv4() { "v4" } else { "v6" };
            if own.contains(&Some(address)) {
                let detail = format!("is {address}, this node's own underlay address; each node needs its own");
                return Err(Error::invalid(object(peer), field, detail));
            }
            let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
            if address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast {
                let detail = format!("is {address}, which no other node can have; give a unicast address");
                return Err(Error::invalid(object(peer), field, detail));
            }
        }
        for prefix in &peer.prefixes {
            if let Some(address) = addresses(peer).find(|address| prefix.prefix.contains(address)) {
                let detail = format!("has {}, which holds the peer's own underlay address {address}", prefix.prefix);
                return Err(Error::invalid(object(peer), "prefixes", detail));
            }
        }
        Ok(())
    }
}

/// What the programs have to know of a prefix.
fn way(prefix: IpNet, node: IpAddr, carriage: Carriage) -> Objects {
    vec![(Key::Length(PrefixLength::of(&prefix)), Object::Length), (Key::Way(prefix), Object::Way(node, carriage))]
}

fn addresses(peer: &Peer) -> impl Iterator<Item = IpAddr> {
    peer.v4.map(IpAddr::from).into_iter().chain(peer.v6.map(IpAddr::from))
}

fn object(peer: &Peer) -> String {
    format!("peer {}", peer.node)
}
