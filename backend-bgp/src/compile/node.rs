//! What follows from the node, its configuration and its own items. Never of other nodes.

use super::services;
use super::{ATTRIBUTE_ASN, ATTRIBUTE_PORT, ATTRIBUTE_TUNNEL, IPIP};
use crate::config::{Communities, Config, MIN_MTU_V4_BYTES, MIN_MTU_V6_BYTES, Mode, Template, TunnelKind, Who, listen};
use crate::object::{Device, DeviceKind, Ground, Key, Object, Secured, Way, of_host};
use crate::tunnel;
use bgp_speaker::config::{self as speaker, ListenRange, PeerConfig};
use bgp_speaker::speaker::Origination;
use bgp_speaker::types::{Asn, Family, RouterId};
use cni_core::backend::{Capabilities, Capability, Error, ErrorKind, Item, Result};
use cni_core::model::{
    Endpoint, LocalBlock, MacAddr, NetworkItem, NodeContext, ServiceAddress, never_of_pods, overlap,
};
use ipnet::IpNet;
use net_linux::{host::wanted, tunnel_ends};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// A list of objects under their keys.
pub(crate) type Objects = Vec<(Key, Object)>;

/// The node's part of every translation.
#[derive(Debug, Clone)]
pub struct Compiler {
    pub(super) config: Config,
    pub(super) node: NodeContext,
    pub(super) asn: Asn,
    /// The way into the tunnel, where there is one.
    pub(super) way: Option<Way>,
    device: Option<Arc<Device>>,
    /// Our end of a tunnel that hears nodes only.
    pub(super) guards: bool,
    untracked: bool,
    pod_mtu_bytes: u32,
}

impl Compiler {
    /// Takes in the node, and what its kernel can do.
    ///
    /// # Errors
    /// The node has no underlay address, or the MTU does not fit.
    pub fn new(config: &Config, node: &NodeContext, capabilities: &Capabilities) -> Result<Self> {
        let underlay = &node.underlay;
        let v6 = underlay.v6.map(|net| net.addr()).filter(|address| !address.is_unicast_link_local());
        let Some(own) = underlay.v4.map(|net| net.addr().into()).or(v6.map(IpAddr::V6)) else {
            let detail = format!(
                "{} has no address that other nodes reach; give it one or choose another interface",
                underlay.interface
            );
            return Err(node_error(ErrorKind::Unsupported, node, "underlay", detail));
        };
        let kind = config.tunnel.as_ref().map(|tunnel| &tunnel.kind);
        if own.is_ipv6() && kind == Some(&TunnelKind::Ipip) {
            let detail = format!("{} has no IPv4 address, which ipip needs; write `tunnel: vxlan`", underlay.interface);
            return Err(node_error(ErrorKind::Unsupported, node, "underlay", detail));
        }
        let pod_mtu_bytes = pod_mtu(config, node, own)?;
        services::are_outside(config, node)?;
        let way = config.tunnel.as_ref().map(|tunnel| {
            let vni = match tunnel.kind {
                TunnelKind::Vxlan { vni, .. } => Some(vni),
                TunnelKind::Ipip => None,
            };
            Way { device: tunnel.device.clone(), vni, own }
        });
        let device = kind.map(|kind| {
            let kind = match kind {
                TunnelKind::Vxlan { port, .. } => {
                    DeviceKind::Vxlan { port: port.get(), mac: tunnel::mac_of(&node.name) }
                }
                TunnelKind::Ipip => DeviceKind::Ipip,
            };
            let settings = Device::settings(&kind).map(|(setting, value)| (setting, value.to_owned())).collect();
            Arc::new(Device { kind, mtu_bytes: pod_mtu_bytes, up: true, settings })
        });
        let untracked = matches!(kind, Some(TunnelKind::Vxlan { track_outer: false, .. }));
        Ok(Self {
            asn: config.asn_of(&node.labels),
            guards: way.is_some() && capabilities.has(Capability::GuardedTunnel),
            untracked: untracked && capabilities.has(Capability::UntrackedTunnel),
            config: config.clone(),
            node: node.clone(),
            way,
            device,
            pod_mtu_bytes,
        })
    }

    /// The MTU of pod interfaces in bytes.
    #[must_use]
    pub fn pod_mtu_bytes(&self) -> u32 {
        self.pod_mtu_bytes
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &NodeContext {
        &self.node
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What peers need to know of this node. The system is not among them where labels decide: those can change.
    #[must_use]
    pub fn attributes(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        let text = |value: &dyn fmt::Display| -> Arc<str> { value.to_string().into() };
        let mut attributes = BTreeMap::from([(ATTRIBUTE_PORT.into(), text(&self.config.port))]);
        if self.config.nodes.iter().all(|rule| rule.asn.is_none()) {
            attributes.insert(ATTRIBUTE_ASN.into(), text(&self.config.asn));
        }
        if let Some(tunnel) = self.tunnel_text() {
            attributes.insert(ATTRIBUTE_TUNNEL.into(), tunnel.into());
        }
        attributes
    }

    /// The key of the configuration by which peers would have to know another thing of this node; `None`: there is none.
    #[must_use]
    pub fn told_otherwise(&self, before: &Self) -> Option<&'static str> {
        let (old, new) = (before.attributes(), self.attributes());
        let keys = [(ATTRIBUTE_ASN, "asn"), (ATTRIBUTE_PORT, "port"), (ATTRIBUTE_TUNNEL, "tunnel")];
        keys.into_iter().find(|(attribute, _)| old.get(*attribute) != new.get(*attribute)).map(|(_, key)| key)
    }

    pub(super) fn tunnel_text(&self) -> Option<String> {
        self.config.tunnel.as_ref().map(|tunnel| match tunnel.kind {
            TunnelKind::Vxlan { vni, port, .. } => format!("{vni}/{port}"),
            TunnelKind::Ipip => IPIP.to_owned(),
        })
    }

    /// Our underlay addresses that other nodes reach.
    pub(super) fn own(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.node.underlay.v4.map(|net| IpAddr::V4(net.addr()));
        let v6 = self.node.underlay.v6.map(|net| net.addr()).filter(|address| !address.is_unicast_link_local());
        v4.into_iter().chain(v6.map(IpAddr::V6))
    }

    /// The tunnel device as an object of an item that needs it: the item then waits for the device, and others do not.
    pub(super) fn link(&self) -> Option<(Key, Object)> {
        let (way, device) = (self.way.as_ref()?, self.device.as_ref()?);
        Some((Key::Link(way.device.clone()), Object::Link(device.clone())))
    }

    /// Whether an address is on link of the underlay.
    pub(super) fn on_segment(&self, address: &IpAddr) -> bool {
        self.node.underlay.segments().any(|segment| segment.contains(address))
    }

    /// The objects of one item.
    ///
    /// # Errors
    /// The item is not acceptable; names object and field.
    pub fn compile(&self, item: &NetworkItem) -> Result<Objects> {
        match item {
            NetworkItem::Block(block) => self.block(block),
            NetworkItem::Peer(peer) => self.peer(peer),
            NetworkItem::Endpoint(endpoint) => self.endpoint(endpoint),
            NetworkItem::ServiceAddress(service) => self.service_address(service),
            other => {
                let detail = "this backend does not know this kind of item";
                Err(Error::new(ErrorKind::Unsupported, "compile", other.key(), detail))
            }
        }
    }

    /// The objects that exist whatever the items are.
    #[must_use]
    pub fn base(&self) -> Objects {
        let mut objects = Vec::new();
        let has = |family| self.config.families.contains(&family);
        objects.extend(of_host(wanted::forwarding(has(Family::Ipv4), has(Family::Ipv6))));
        objects.extend(of_host(wanted::masquerading(&self.node)));
        objects.extend(self.own_tunnel());
        objects.push((Key::Speaker, Object::Speaker(self.ground().into())));
        objects.extend(self.fixed_peers());
        let services = self.config.services.iter();
        objects.extend(services.map(|prefix| (Key::Announcement(*prefix), announcement(&Communities::default()))));
        objects
    }

    /// Our end of the tunnel.
    fn own_tunnel(&self) -> Objects {
        let (Some(way), Some(device)) = (&self.way, &self.device) else { return Vec::new() };
        let mut objects = vec![(Key::Link(way.device.clone()), Object::Link(device.clone()))];
        let end = match (&device.kind, way.own) {
            (DeviceKind::Vxlan { port, mac }, _) => {
                let link_local = ipnet::Ipv6Net::new_assert(tunnel::link_local(*mac), 64);
                objects.push((Key::Address(way.device.clone(), link_local.into()), Object::Address));
                let end = SocketAddr::new(way.own, *port);
                objects.extend(of_host(wanted::not_tracked(self.untracked.then_some(end))));
                tunnel_ends::Tunnel::Udp(end)
            }
            (DeviceKind::Ipip, IpAddr::V4(own)) => tunnel_ends::Tunnel::Ipip(own),
            // Refused when the node was taken in.
            (DeviceKind::Ipip, IpAddr::V6(_)) => return objects,
        };
        objects.extend(of_host(wanted::guarded(self.guards.then_some(end))));
        objects
    }

    /// The speaker, without peers and ranges.
    pub(crate) fn speaker(&self) -> speaker::Config {
        let underlay = &self.node.underlay;
        let mut speaker = speaker::Config::new(self.asn, self.router_id());
        speaker.cluster_id = self.config.cluster_of(&self.node.labels);
        speaker.next_hop_v4 = underlay.v4.map(|net| net.addr());
        speaker.next_hop_v6 = self.own().find_map(|address| match address {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        });
        let port = self.config.port.get();
        speaker.listen =
            listen(&self.config, self.own()).into_iter().map(|address| SocketAddr::new(address, port)).collect();
        (speaker.restart, speaker.selection) = (self.config.restart.clone(), self.config.selection.clone());
        speaker
    }

    /// What the speaker is, and what it needs to know to write routes.
    fn ground(&self) -> Ground {
        Ground {
            speaker: self.speaker(),
            encapsulation: self.config.encapsulation,
            tunnel: self.way.clone(),
            segments: self.node.underlay.segments().collect(),
            nodes_tell_blocks: !matches!(self.config.mode, Mode::None),
        }
    }

    /// Given, else our IPv4 address, else 32 bits of a hash of our name.
    fn router_id(&self) -> RouterId {
        let own = || self.node.underlay.v4.and_then(|net| RouterId::new(net.addr()));
        let hashed = || {
            let [_, _, a, b, c, d] = MacAddr::from_name(self.node.name.as_str()).0;
            RouterId::new(Ipv4Addr::new(a.max(1), b, c, d)).expect("the first byte is at least one")
        };
        self.config.router_id.or_else(own).unwrap_or_else(hashed)
    }

    /// Peers that are no nodes, and ranges.
    fn fixed_peers(&self) -> Objects {
        let labels = &self.node.labels;
        let peers = self.config.peers.iter().filter(|rule| rule.nodes.matches(labels)).filter_map(|rule| {
            let Who::One { address, asn } = &rule.who else { return None };
            let config = PeerConfig { address: address.clone(), asn: *asn, ..self.template(&rule.template) };
            let session = Secured { config, password_file: rule.template.password_file.clone() };
            Some((Key::Session(rule.name.clone()), Object::Session(session.into())))
        });
        let ranges = self.config.ranges.iter().filter(|rule| rule.nodes.matches(labels)).map(|rule| {
            let template = self.template(&rule.template);
            let config = ListenRange { range: rule.range, template, limit: rule.limit };
            let range = Secured { config, password_file: rule.template.password_file.clone() };
            (Key::Range(rule.name.clone()), Object::Range(range.into()))
        });
        peers.chain(ranges).collect()
    }

    /// A session as this node has it.
    pub(super) fn template(&self, template: &Template) -> PeerConfig {
        PeerConfig { drain: self.config.drains(&self.node.labels), ..template.config.clone() }
    }

    /// The objects of a local block.
    ///
    /// # Errors
    /// The block is not a prefix for pods here, or its node address lies outside.
    pub fn block(&self, block: &LocalBlock) -> Result<Objects> {
        let object = format!("block {}", block.prefix);
        self.check_prefix(&object, "prefix", &block.prefix)?;
        self.check_encapsulation(&object, &block.prefix, block.encapsulation)?;
        let none = Communities::default();
        let communities = block.pool.as_ref().and_then(|pool| self.config.communities.get(pool)).unwrap_or(&none);
        let mut objects = vec![(Key::Announcement(block.prefix), announcement(communities))];
        // A block of one address is its pod's own route.
        if block.prefix.prefix_len() < block.prefix.max_prefix_len() {
            objects.push((Key::Route(block.prefix), Object::Unreachable));
        }
        if let Some(address) = block.node_address {
            if !block.prefix.contains(&address) {
                let detail = format!("is {address}, outside the block; give one of its addresses that no pod gets");
                return Err(Error::invalid(object, "nodeAddress", detail));
            }
            let way = self.way.as_ref().filter(|way| way.carries(&block.prefix));
            if let (Some(link), Some(way)) = (self.link(), way) {
                objects.push(link);
                objects.push((Key::Address(way.device.clone(), address.into()), Object::Address));
            }
        }
        Ok(objects)
    }

    /// The announcement of a service's address: packets come to this node, and whoever translates services takes them.
    ///
    /// # Errors
    /// The address is not of a family that is on, or it is on the underlay.
    fn service_address(&self, service: &ServiceAddress) -> Result<Objects> {
        let prefix = IpNet::from(service.address);
        self.check_prefix(&format!("service address {}", service.address), "address", &prefix)?;
        Ok(vec![(Key::Announcement(prefix), announcement(&Communities::default()))])
    }

    fn endpoint(&self, endpoint: &Endpoint) -> Result<Objects> {
        for address in &endpoint.addresses {
            let family = Family::of(&IpNet::from(*address));
            if !self.config.families.contains(&family) {
                let detail = format!("has {address}, but {family} pods are off; add it to `families`");
                return Err(Error::invalid(format!("endpoint {}", endpoint.id), "addresses", detail));
            }
        }
        let objects = net_linux::endpoint::compile(endpoint)?.into_iter();
        let own = endpoint.addresses.iter().map(|address| (Key::PodAddress(IpNet::from(*address)), Object::PodAddress));
        Ok(objects.map(|(key, object)| (key.into(), Object::Pod(object.into()))).chain(own).collect())
    }

    /// Refuses what can't be a prefix of pods: the route would break the node or the underlay.
    fn check_prefix(&self, object: &str, field: &'static str, prefix: &IpNet) -> Result<()> {
        let refuse = |detail: String| Err(Error::invalid(object, field, detail));
        if *prefix != prefix.trunc() {
            return refuse(format!("is {prefix} with host bits; write {}", prefix.trunc()));
        }
        let family = Family::of(prefix);
        if !self.config.families.contains(&family) {
            return refuse(format!("is {prefix}, but {family} pods are off; add it to `families`"));
        }
        if let Some(special) = never_of_pods(prefix) {
            return refuse(format!("is {prefix}, but {special} is not for pods; use unicast addresses of your own"));
        }
        if let Some(segment) = self.node.underlay.segments().find(|segment| overlap(segment, prefix)) {
            let interface = &self.node.underlay.interface;
            return refuse(format!(
                "is {prefix}, which overlaps {segment} of the underlay ({interface}): announcing it would cut the nodes \
                 off; use a pool outside {segment}"
            ));
        }
        Ok(())
    }
}

/// What the speaker announces of a prefix of ours.
pub(super) fn announcement(communities: &Communities) -> Object {
    let communities = Origination {
        communities: communities.standard.clone(),
        large: communities.large.clone(),
        ..Origination::default()
    };
    Object::Announcement(communities.into())
}

pub(super) fn node_error(kind: ErrorKind, node: &NodeContext, field: &'static str, detail: impl fmt::Display) -> Error {
    Error { field: Some(field), ..Error::new(kind, "adopt", format!("node {}", node.name), detail) }
}

fn pod_mtu(config: &Config, node: &NodeContext, own: IpAddr) -> Result<u32> {
    let kind = config.tunnel.as_ref().map(|tunnel| &tunnel.kind);
    let overhead = kind.map_or(0, |kind| tunnel::overhead_bytes(kind, own.is_ipv6()));
    let underlay = node.underlay.mtu_bytes;
    let most = underlay.saturating_sub(overhead);
    let v6 = config.families.contains(&Family::Ipv6);
    let least = if v6 { MIN_MTU_V6_BYTES } else { MIN_MTU_V4_BYTES };
    let interface = &node.underlay.interface;
    if most < least {
        let detail = format!(
            "{interface} has {underlay} bytes, {most} are left of them for pods, which need {least}; raise it to {} or use \
             encapsulation Never",
            least + overhead
        );
        return Err(node_error(ErrorKind::Unsupported, node, "mtu", detail));
    }
    match config.mtu_bytes {
        Some(mtu) if mtu > most => {
            let detail = format!(
                "is {mtu}; {interface} carries {underlay} bytes less {overhead} for encapsulation {:?}: write at most \
                 {most}, or leave it out",
                config.encapsulation
            );
            Err(node_error(ErrorKind::Invalid, node, "mtu", detail))
        }
        Some(mtu) => Ok(mtu),
        None => Ok(most),
    }
}
