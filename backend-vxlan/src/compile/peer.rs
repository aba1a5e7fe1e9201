//! One peer to routes, and to what the way there needs. Never looks at other peers: the engine finds conflicts.

use super::Compiler;
use super::node::Objects;
use crate::config::{Family, Mode, Tunnel};
use crate::object::{Hop, Key, Object, Target, family_of, of_host};
use crate::vtep::{self, object};
use cni_core::backend::{Error, Result};
use cni_core::model::{Encapsulation, MacAddr, Peer, PeerPrefix};
use ipnet::IpNet;
use net_linux::host::wanted;
use std::net::{IpAddr, SocketAddr};

/// How packets get to a peer.
enum Path {
    /// Plain, to its underlay address.
    Direct(IpAddr),
    /// Wrapped, to its underlay address.
    Wrapped(IpAddr),
}

impl Compiler {
    /// The objects of a peer.
    ///
    /// # Errors
    /// The peer is not acceptable, or there is no way to it in this mode; names the field.
    pub fn peer(&self, peer: &Peer) -> Result<Objects> {
        self.check_identity(peer)?;
        let mac = self.check_mac(peer)?;
        // A peer is heard however we send to it: it may see the way to us otherwise.
        let heard = addresses(peer).filter(|address| self.guards(family_of(address))).map(wanted::heard);
        let mut objects: Objects = of_host(heard).collect();
        for prefix in &peer.prefixes {
            self.check_prefix(&object(peer), "prefixes", &prefix.prefix)?;
            let rivals = peer.prefixes.iter().filter(|other| other.prefix == prefix.prefix);
            if rivals.clone().any(|other| other.encapsulation != prefix.encapsulation) {
                let detail = format!("has {} twice with different encapsulation; leave one", prefix.prefix);
                return Err(Error::invalid(object(peer), "prefixes", detail));
            }
            match self.path(peer, prefix)? {
                Path::Direct(gateway) => {
                    let hop = Hop { device: self.node.underlay.interface.clone(), gateway };
                    self.route(&mut objects, prefix.prefix, hop);
                }
                Path::Wrapped(underlay) if self.config.mode.tunnel() == Tunnel::Udp => {
                    vtep::same(peer, vtep::ATTRIBUTE_PORT, &self.config.port.to_string())?;
                    let to = SocketAddr::new(underlay, self.config.port.get());
                    let device = self.config.device.clone();
                    objects.extend(self.link(&device));
                    objects.push((Key::Forward(prefix.prefix), Object::Forward(to.into())));
                    objects.push((Key::Route(prefix.prefix), Object::Route(Target::Device(device))));
                }
                Path::Wrapped(underlay) => self.vxlan(&mut objects, peer, mac, prefix.prefix, underlay)?,
            }
        }
        objects.sort_by(|a, b| a.0.cmp(&b.0));
        objects.dedup_by(|a, b| a.0 == b.0);
        Ok(objects)
    }

    fn vxlan(
        &self,
        objects: &mut Objects,
        peer: &Peer,
        mac: Option<MacAddr>,
        prefix: IpNet,
        underlay: IpAddr,
    ) -> Result<()> {
        vtep::same(peer, vtep::ATTRIBUTE_VNI, &self.config.vni.to_string())?;
        vtep::same(peer, vtep::ATTRIBUTE_PORT, &self.config.port.to_string())?;
        let mac = mac.ok_or_else(|| {
            let detail = "is not published by the peer; is its agent running, with a mode that has a tunnel?";
            Error::invalid(object(peer), vtep::ATTRIBUTE_MAC, detail)
        })?;
        let device = self.config.device_for(family_of(&underlay));
        let gateway = vtep::link_local(mac);
        objects.extend(self.link(&device));
        objects.push((Key::Fdb(device.clone(), mac), Object::Fdb(underlay)));
        objects.push((Key::Neighbour(device.clone(), gateway.into()), Object::Neighbour(mac)));
        self.route(objects, prefix, Hop { device, gateway: gateway.into() });
        Ok(())
    }

    fn route(&self, objects: &mut Objects, prefix: IpNet, hop: Hop) {
        let known = objects.iter().find_map(|(key, _)| match key {
            Key::NextHop(known) if **known == hop => Some(known.clone()),
            _ => None,
        });
        let hop = known.unwrap_or_else(|| hop.into());
        let target = if self.next_hop_objects {
            objects.push((Key::NextHop(hop.clone()), Object::NextHop));
            Target::Object(hop)
        } else {
            Target::Via(hop)
        };
        objects.push((Key::Route(prefix), Object::Route(target)));
    }

    /// Refuses a peer that is this node, or has an address that no other node can have.
    fn check_identity(&self, peer: &Peer) -> Result<()> {
        if peer.node == self.node.name {
            return Err(Error::invalid(object(peer), "node", "is this node's own name; two nodes share it"));
        }
        for address in addresses(peer) {
            let field = if address.is_ipv4() { "v4" } else { "v6" };
            if self.underlay(family_of(&address)) == Some(address) {
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

    /// The peer's VTEP, where it published one and this mode looks at it.
    fn check_mac(&self, peer: &Peer) -> Result<Option<MacAddr>> {
        if self.config.mode.tunnel() != Tunnel::Vxlan {
            return Ok(None);
        }
        let mac = vtep::mac_of_peer(peer)?;
        let derived = vtep::mac_of(&peer.node);
        if let Some(other) = mac.filter(|mac| *mac != derived) {
            let detail = format!(
                "is {other}, but the VTEP of a node of this name is {derived}; another node's traffic would go there, so \
                 correct what was written into the Node"
            );
            return Err(Error::invalid(object(peer), vtep::ATTRIBUTE_MAC, detail));
        }
        Ok(mac)
    }

    fn path(&self, peer: &Peer, prefix: &PeerPrefix) -> Result<Path> {
        let wanted = prefix.encapsulation.unwrap_or(match self.config.mode {
            Mode::Vxlan | Mode::Udp => Encapsulation::Always,
            Mode::DirectRouting => Encapsulation::CrossSubnet,
            Mode::HostGw => Encapsulation::Never,
        });
        let direct = match wanted {
            Encapsulation::Always => None,
            Encapsulation::CrossSubnet | Encapsulation::Never => self.direct(peer, &prefix.prefix),
        };
        if let Some(gateway) = direct {
            return Ok(Path::Direct(gateway));
        }
        if wanted == Encapsulation::Never || self.config.mode.tunnel() == Tunnel::None {
            return Err(self.no_plain_way(peer, prefix, wanted));
        }
        let reachable = |outer: &&Family| address(peer, **outer).is_some();
        match self.outer.iter().find(reachable).and_then(|outer| address(peer, *outer)) {
            Some(underlay) => Ok(Path::Wrapped(underlay)),
            None => {
                let wanted: Vec<String> = self.outer.iter().map(ToString::to_string).collect();
                let field = if self.outer.contains(&Family::Ipv4) { "v4" } else { "v6" };
                let detail = format!(
                    "is missing: the tunnel here runs over {}; give the peer such an address or set `underlay` on all nodes",
                    wanted.join(" and ")
                );
                Err(Error::invalid(object(peer), field, detail))
            }
        }
    }

    /// The peer's address on our segment that can be the gateway of a prefix. IPv4 goes over IPv6 gateways too
    /// (`RTA_VIA`), IPv6 only over IPv6.
    fn direct(&self, peer: &Peer, prefix: &IpNet) -> Option<IpAddr> {
        addresses(peer)
            .filter(|address| prefix.addr().is_ipv4() || address.is_ipv6())
            .find(|address| self.on_segment(address))
    }

    fn no_plain_way(&self, peer: &Peer, prefix: &PeerPrefix, wanted: Encapsulation) -> Error {
        let family = family_of(&prefix.prefix.addr());
        let field = if family == Family::Ipv4 { "v4" } else { "v6" };
        let why = match (wanted, prefix.encapsulation) {
            (Encapsulation::Always, _) => {
                let detail =
                    format!("mode {} has no tunnel, but the pool of {} wants one", self.config.mode, prefix.prefix);
                return Error::invalid(object(peer), "encapsulation", detail);
            }
            (_, Some(_)) => format!("the pool of {} wants plain routes", prefix.prefix),
            (_, None) => format!("mode {} needs plain routes", self.config.mode),
        };
        let known: Vec<String> = addresses(peer).map(|address| address.to_string()).collect();
        let peer_has = if known.is_empty() { "no address".to_owned() } else { known.join(", ") };
        let interface = &self.node.underlay.interface;
        let detail = format!(
            "{why}, but the peer ({peer_has}) is not on the segment of {interface} with an address that can be the gateway of \
             {}; use mode direct-routing or vxlan",
            prefix.prefix
        );
        Error::invalid(object(peer), field, detail)
    }
}

fn addresses(peer: &Peer) -> impl Iterator<Item = IpAddr> {
    peer.v4.map(IpAddr::from).into_iter().chain(peer.v6.map(IpAddr::from))
}

fn address(peer: &Peer, family: Family) -> Option<IpAddr> {
    addresses(peer).find(|address| family_of(address) == family)
}
