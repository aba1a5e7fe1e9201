//! One other node: the session with it, and the way into the tunnel to it. Never its routes: those are learned.

use super::node::{Compiler, Objects};
use super::{ATTRIBUTE_ASN, ATTRIBUTE_PORT, ATTRIBUTE_TUNNEL, SESSION_PREFIX};
use crate::config::{Mode, Template, Who};
use crate::object::{FarEnd, Key, Object, Secured, of_host};
use crate::tunnel;
use bgp_speaker::config::{PeerAddress, PeerConfig, PeerName, RemoteAsn, TtlSecurity};
use bgp_speaker::types::Asn;
use cni_core::backend::{Error, Result};
use cni_core::model::{Encapsulation, NodeName, Peer};
use ipnet::IpNet;
use net_linux::host::wanted;
use std::fmt;
use std::net::IpAddr;

/// What the session with a node is called.
#[must_use]
pub(crate) fn session_name(node: &NodeName) -> PeerName {
    format!("{SESSION_PREFIX}{node}").into()
}

impl Compiler {
    /// The objects of a peer.
    ///
    /// # Errors
    /// The peer is not acceptable; names the field.
    pub fn peer(&self, peer: &Peer) -> Result<Objects> {
        self.check_identity(peer)?;
        let mut objects = self.far_end(peer)?;
        let mapped = peer.v6.is_none().then_some(peer.v4).flatten().map(|v4| IpAddr::V6(v4.to_ipv6_mapped()));
        let neighbour = tunnel::link_local(tunnel::mac_of(&peer.node));
        let outer = self.outer(peer).or_else(|| addresses(peer).next());
        if let Some(outer) = outer {
            let end = Object::Node(FarEnd { outer, neighbour });
            objects.extend(addresses(peer).chain(mapped).map(|address| (Key::Node(address), end.clone())));
        }
        for prefix in &peer.prefixes {
            self.check_encapsulation(&object(peer), &prefix.prefix, prefix.encapsulation)?;
            objects.push((Key::Block(prefix.prefix), Object::Block));
            if let Some(wanted) = prefix.encapsulation.filter(|wanted| *wanted != self.config.encapsulation) {
                objects.push((Key::Carriage(prefix.prefix), Object::Carriage(wanted)));
            }
        }
        objects.extend(self.session(peer)?);
        Ok(objects)
    }

    /// Refuses a pool that wants a tunnel where there is none for it.
    pub(super) fn check_encapsulation(
        &self,
        object: &str,
        prefix: &IpNet,
        wanted: Option<Encapsulation>,
    ) -> Result<()> {
        let refuse = |detail: &str| Err(Error::invalid(object, "encapsulation", detail));
        match (wanted, &self.way) {
            (None | Some(Encapsulation::Never), _) => Ok(()),
            (Some(_), None) => {
                refuse("its pool wants a tunnel, but `encapsulation` is Never here; set it to CrossSubnet or Always")
            }
            (Some(_), Some(way)) if !way.carries(prefix) => refuse(
                "its pool wants a tunnel, but ipip carries IPv4 only; set the pool's encapsulation to Never, or \
                 `tunnel: vxlan`",
            ),
            (Some(_), Some(_)) => Ok(()),
        }
    }

    /// Where outer packets to a peer go.
    fn outer(&self, peer: &Peer) -> Option<IpAddr> {
        let way = self.way.as_ref()?;
        addresses(peer).find(|address| address.is_ipv4() == way.own.is_ipv4())
    }

    /// The far end of the tunnel: a neighbour, and whom we hear.
    fn far_end(&self, peer: &Peer) -> Result<Objects> {
        let Some(way) = &self.way else { return Ok(Vec::new()) };
        let Some(outer) = self.outer(peer) else {
            let (field, family) = if way.own.is_ipv4() { ("v4", "IPv4") } else { ("v6", "IPv6") };
            let detail = format!("is missing: the tunnel here runs over {family}; give the peer such an address");
            return Err(Error::invalid(object(peer), field, detail));
        };
        let ours = self.tunnel_text();
        if let Some(theirs) = peer.attributes.get(ATTRIBUTE_TUNNEL).filter(|theirs| ours.as_deref() != Some(&**theirs))
        {
            let detail = format!(
                "is {theirs} (VNI/port, or ipip) there and {} here; set the same `tunnel` and `vxlan` on all nodes",
                ours.unwrap_or_default()
            );
            return Err(Error::invalid(object(peer), ATTRIBUTE_TUNNEL, detail));
        }
        let mut objects: Objects = self.link().into_iter().collect();
        if way.vni.is_some() {
            let mac = tunnel::mac_of(&peer.node);
            let neighbour = tunnel::link_local(mac);
            objects.push((Key::Neighbour(way.device.clone(), neighbour.into()), Object::Neighbour(mac)));
        }
        if self.guards {
            objects.extend(of_host([wanted::heard(outer)]));
        }
        Ok(objects)
    }

    /// The session, where a rule or the mode wants one.
    fn session(&self, peer: &Peer) -> Result<Objects> {
        let Some((template, by_rule)) = self.template_for(peer) else { return Ok(Vec::new()) };
        let asn = self.asn_of(peer)?;
        let own_families: Vec<bool> = self.own().map(|address| address.is_ipv4()).collect();
        let Some(address) = addresses(peer).find(|address| own_families.contains(&address.is_ipv4())) else {
            let field = if peer.v4.is_some() { "v6" } else { "v4" };
            let detail = "is missing: this node and the peer have no address of the same family for a session";
            return Err(Error::invalid(object(peer), field, detail));
        };
        let mut config = PeerConfig {
            address: PeerAddress::Ip(address),
            asn: RemoteAsn::Exactly(asn),
            local: template.config.local.or_else(|| self.own().find(|own| own.is_ipv4() == address.is_ipv4())),
            // Without an IPv6 address of our own, nodes know us by the IPv4 one.
            mapped_next_hop: true,
            ..self.template(template)
        };
        if let Some(port) = peer.attributes.get(ATTRIBUTE_PORT).filter(|_| config.port == self.config.port.get()) {
            config.port = number(peer, ATTRIBUTE_PORT, port)?;
        }
        let internal = asn == self.asn;
        if !internal {
            // What only internal peers can be.
            config.reflector_client = false;
            if !template.says_ttl && !self.on_segment(&address) {
                config.ttl = TtlSecurity::Multihop(255);
            }
        } else if !by_rule {
            let (we, they) = (self.config.reflects(&self.node.labels), self.config.reflects(&peer.labels));
            config.reflector_client = we && !they;
        }
        let session = Secured { config, password_file: template.password_file.clone() };
        Ok(vec![(Key::Session(session_name(&peer.node)), Object::Session(session.into()))])
    }

    /// The first rule that speaks of us and the peer, either way round; else the mode.
    fn template_for(&self, peer: &Peer) -> Option<(&Template, bool)> {
        let own = &self.node.labels;
        let rule = self.config.peers.iter().find(|rule| match &rule.who {
            Who::Nodes(peers) => {
                let ours = rule.nodes.matches(own) && peers.matches(&peer.labels);
                ours || rule.nodes.matches(&peer.labels) && peers.matches(own)
            }
            Who::One { .. } => false,
        });
        if let Some(rule) = rule {
            return Some((&rule.template, true));
        }
        let wanted = match &self.config.mode {
            Mode::Mesh => true,
            Mode::Reflectors { selector, .. } => selector.matches(own) || selector.matches(&peer.labels),
            Mode::None => false,
        };
        wanted.then_some((&self.config.session, false))
    }

    /// What the node says of itself, else what the configuration says of nodes with its labels.
    fn asn_of(&self, peer: &Peer) -> Result<Asn> {
        let Some(text) = peer.attributes.get(ATTRIBUTE_ASN) else { return Ok(self.config.asn_of(&peer.labels)) };
        let number: u32 = number(peer, ATTRIBUTE_ASN, text)?;
        Asn::new(number).ok_or_else(|| Error::invalid(object(peer), ATTRIBUTE_ASN, "is 0, which is no system"))
    }

    /// Refuses a peer that is this node, or has an address that no other node can have.
    fn check_identity(&self, peer: &Peer) -> Result<()> {
        if peer.node == self.node.name {
            return Err(Error::invalid(object(peer), "node", "is this node's own name; two nodes share it"));
        }
        if addresses(peer).next().is_none() {
            return Err(Error::invalid(object(peer), "v4", "is missing, and v6 too; a node needs an address"));
        }
        for address in addresses(peer) {
            let field = if address.is_ipv4() { "v4" } else { "v6" };
            if self.own().any(|own| own == address) {
                let detail = format!("is {address}, this node's own underlay address; each node needs its own");
                return Err(Error::invalid(object(peer), field, detail));
            }
            let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
            if address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast {
                let detail = format!("is {address}, which no other node can have; give a unicast address");
                return Err(Error::invalid(object(peer), field, detail));
            }
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr<Err: fmt::Display>>(peer: &Peer, attribute: &'static str, text: &str) -> Result<T> {
    text.parse().map_err(|error| {
        let detail =
            format!("is {text:?}, which is no number for it ({error}); correct what was written into the Node");
        Error::invalid(object(peer), attribute, detail)
    })
}

/// Addresses that can be reached from another node, IPv4 first.
fn addresses(peer: &Peer) -> impl Iterator<Item = IpAddr> {
    let v6 = peer.v6.filter(|address| !address.is_unicast_link_local());
    peer.v4.map(IpAddr::from).into_iter().chain(v6.map(IpAddr::from))
}

fn object(peer: &Peer) -> String {
    format!("peer {}", peer.node)
}
