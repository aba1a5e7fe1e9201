//! What follows from the node and its configuration alone. Never of an item, apart from local blocks.

use crate::config::{Config, Family, MIN_MTU_V4_BYTES, MIN_MTU_V6_BYTES, Mode, OuterFamilies, Tunnel};
use crate::object::{Device, DeviceKind, Key, Object, Target, family_of, of_host};
use crate::vtep;
use cni_core::backend::{Capabilities, Capability, Error, ErrorKind, Item, Result};
use cni_core::model::{Endpoint, InterfaceName, LocalBlock, MacAddr, NetworkItem, NodeContext, never_of_pods, overlap};
use ipnet::IpNet;
use net_linux::host::wanted;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A list of objects under their keys.
pub(crate) type Objects = Vec<(Key, Object)>;

/// The node's part of every translation.
#[derive(Debug, Clone)]
pub struct Compiler {
    pub(super) config: Config,
    pub(super) node: NodeContext,
    pub(super) mac: MacAddr,
    /// Families of the tunnel's outside, the preferred one first; empty without a tunnel.
    pub(super) outer: Vec<Family>,
    pub(super) next_hop_objects: bool,
    /// The tunnel devices; what needs one says so by wanting it too.
    links: Vec<(InterfaceName, Arc<Device>)>,
    /// Our ends of tunnels whose outer packets are not tracked.
    untracked: Vec<SocketAddr>,
    /// Our ends of tunnels that hear nodes only.
    guarded: Vec<SocketAddr>,
    pod_mtu_bytes: u32,
}

impl Compiler {
    /// Takes in the node, and what its kernel can do.
    ///
    /// # Errors
    /// The node has no underlay address of a wanted family, or the MTU does not fit.
    pub fn new(config: &Config, node: &NodeContext, capabilities: &Capabilities) -> Result<Self> {
        let outer = outer_families(config, node)?;
        let pod_mtu_bytes = pod_mtu(config, node, &outer)?;
        let mac = vtep::mac_of(&node.name);
        let next_hop_objects = capabilities.has(Capability::NextHopObjects);
        let (config, node) = (config.clone(), node.clone());
        let (links, untracked, guarded) = (Vec::new(), Vec::new(), Vec::new());
        let mut compiler =
            Self { config, node, mac, outer, next_hop_objects, links, untracked, guarded, pod_mtu_bytes };
        compiler.links = compiler.devices().map(|(outer, name)| (name, Arc::new(compiler.device(outer)))).collect();
        let is_vxlan = compiler.config.mode.tunnel() == Tunnel::Vxlan;
        if is_vxlan && !compiler.config.track_outer && capabilities.has(Capability::UntrackedTunnel) {
            compiler.untracked = compiler.ends().collect();
        }
        if capabilities.has(Capability::GuardedTunnel) {
            compiler.guarded = compiler.ends().collect();
        }
        Ok(compiler)
    }

    /// Our end of the tunnel, in each outer family.
    fn ends(&self) -> impl Iterator<Item = SocketAddr> {
        let ends = self.outer.iter().filter_map(|outer| self.underlay(*outer));
        ends.map(|end| SocketAddr::new(end, self.config.port.get()))
    }

    /// Whether the tunnel hears nodes only, in an outer family.
    pub(super) fn guards(&self, outer: Family) -> bool {
        self.guarded.iter().any(|end| family_of(&end.ip()) == outer)
    }

    /// The tunnel device of an outer family.
    fn device(&self, outer: Family) -> Device {
        let kind = match self.config.mode.tunnel() {
            Tunnel::Udp => DeviceKind::Tun { served: true },
            Tunnel::Vxlan | Tunnel::None => DeviceKind::Vxlan {
                vni: self.config.vni,
                port: self.config.port.get(),
                local: self.underlay(outer).unwrap_or(IpAddr::from([0, 0, 0, 0])),
                mac: self.mac,
                checksum_as_decided: true,
            },
        };
        let settings = Device::SETTINGS.map(|(setting, value)| (setting, value.to_owned())).into();
        Device { kind, mtu_bytes: self.pod_mtu_bytes, up: true, settings }
    }

    /// A tunnel device as an object of an item that needs it: the item then waits for the device, and others do not.
    pub(super) fn link(&self, name: &InterfaceName) -> Option<(Key, Object)> {
        let (name, device) = self.links.iter().find(|(known, _)| known == name)?;
        Some((Key::Link(name.clone()), Object::Link(device.clone())))
    }

    /// The MTU of pod interfaces in bytes.
    #[must_use]
    pub fn pod_mtu_bytes(&self) -> u32 {
        self.pod_mtu_bytes
    }

    /// What peers need to know of this node.
    #[must_use]
    pub fn attributes(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        let text = |value: &dyn fmt::Display| -> Arc<str> { value.to_string().into() };
        let mut attributes = BTreeMap::new();
        if self.config.mode.tunnel() == Tunnel::Vxlan {
            attributes.insert(vtep::ATTRIBUTE_MAC.into(), text(&self.mac));
            attributes.insert(vtep::ATTRIBUTE_VNI.into(), text(&self.config.vni));
        }
        if self.config.mode.tunnel() != Tunnel::None {
            attributes.insert(vtep::ATTRIBUTE_PORT.into(), text(&self.config.port));
        }
        attributes
    }

    /// The tunnel devices with their outer family.
    pub fn devices(&self) -> impl Iterator<Item = (Family, InterfaceName)> + '_ {
        // One TUN device serves both outer families: user space chooses the socket.
        let count = if self.config.mode.tunnel() == Tunnel::Udp { 1 } else { self.outer.len() };
        self.outer.iter().take(count).map(|outer| (*outer, self.config.device_for(*outer)))
    }

    /// Our VTEP's MAC address.
    #[must_use]
    pub fn mac(&self) -> MacAddr {
        self.mac
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

    /// Our underlay address of a family.
    #[must_use]
    pub fn underlay(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::Ipv4 => self.node.underlay.v4.map(|net| net.addr().into()),
            Family::Ipv6 => self.node.underlay.v6.map(|net| net.addr().into()),
        }
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
        for (name, device) in &self.links {
            if matches!(device.kind, DeviceKind::Vxlan { .. }) {
                let own = ipnet::Ipv6Net::new_assert(vtep::link_local(self.mac), 64);
                objects.push((Key::Address(name.clone(), own.into()), Object::Address));
            }
            if self.config.mode.tunnel() == Tunnel::Udp {
                let sockets = self.outer.iter().filter_map(|outer| Some((*outer, self.underlay(*outer)?)));
                objects.extend(sockets.map(|(outer, address)| {
                    (Key::Socket(outer), Object::Socket(SocketAddr::new(address, self.config.port.get()).into()))
                }));
            }
            objects.push((Key::Link(name.clone()), Object::Link(device.clone())));
        }
        objects.extend(of_host(wanted::masquerading(&self.node)));
        objects.extend(of_host(wanted::not_tracked(self.untracked.iter().copied())));
        objects.extend(of_host(wanted::guarded(self.guarded.iter().copied())));
        objects
    }

    /// The objects of a local block.
    ///
    /// # Errors
    /// The block is not a prefix for pods here, or its node address lies outside.
    pub fn block(&self, block: &LocalBlock) -> Result<Objects> {
        let object = format!("block {}", block.prefix);
        self.check_prefix(&object, "prefix", &block.prefix)?;
        let mut objects = Vec::new();
        // A block of one address is its pod's own route.
        if block.prefix.prefix_len() < block.prefix.max_prefix_len() {
            objects.push((Key::Route(block.prefix), Object::Route(Target::Unreachable)));
        }
        if let Some(address) = block.node_address {
            if !block.prefix.contains(&address) {
                let detail = format!("is {address}, outside the block; give one of its addresses that no pod gets");
                return Err(Error::invalid(object, "nodeAddress", detail));
            }
            for (device, _) in &self.links {
                objects.extend(self.link(device));
                objects.push((Key::Address(device.clone(), address.into()), Object::Address));
            }
        }
        Ok(objects)
    }

    fn endpoint(&self, endpoint: &Endpoint) -> Result<Objects> {
        for address in &endpoint.addresses {
            let family = family_of(address);
            if !self.config.families.contains(&family) {
                let detail = format!("has {address}, but {family} pods are off; add it to `families`");
                return Err(Error::invalid(format!("endpoint {}", endpoint.id), "addresses", detail));
            }
        }
        let objects = net_linux::endpoint::compile(endpoint)?;
        Ok(objects.into_iter().map(|(key, object)| (key.into(), Object::Pod(object.into()))).collect())
    }

    /// Refuses what can't be a prefix of pods: the route would break the node or the underlay.
    pub(super) fn check_prefix(&self, object: &str, field: &'static str, prefix: &IpNet) -> Result<()> {
        let refuse = |detail: String| Err(Error::invalid(object, field, detail));
        if *prefix != prefix.trunc() {
            return refuse(format!("is {prefix} with host bits; write {}", prefix.trunc()));
        }
        let family = family_of(&prefix.addr());
        if !self.config.families.contains(&family) {
            return refuse(format!("is {prefix}, but {family} pods are off; add it to `families`"));
        }
        if let Some(special) = never_of_pods(prefix) {
            return refuse(format!("is {prefix}, but {special} is not for pods; use unicast addresses of your own"));
        }
        for segment in self.segments() {
            if overlap(&segment, prefix) {
                let interface = &self.node.underlay.interface;
                return refuse(format!(
                    "is {prefix}, which overlaps {segment} of the underlay ({interface}): routing it would cut the nodes off; \
                     use a pool outside {segment}"
                ));
            }
        }
        Ok(())
    }

    /// The prefixes on link of the underlay.
    fn segments(&self) -> impl Iterator<Item = IpNet> {
        self.node.underlay.segments()
    }

    /// Whether an address is on link of the underlay.
    pub(super) fn on_segment(&self, address: &IpAddr) -> bool {
        self.segments().any(|segment| segment.contains(address))
    }
}

fn node_error(kind: ErrorKind, node: &NodeContext, field: &'static str, detail: impl fmt::Display) -> Error {
    Error { field: Some(field), ..Error::new(kind, "adopt", format!("node {}", node.name), detail) }
}

fn outer_families(config: &Config, node: &NodeContext) -> Result<Vec<Family>> {
    let underlay = &node.underlay;
    let interface = &underlay.interface;
    if underlay.v4.is_none() && underlay.v6.is_none() {
        let detail = format!("{interface} has no address; give it one or choose another interface");
        return Err(node_error(ErrorKind::Unsupported, node, "underlay", detail));
    }
    if config.mode == Mode::HostGw {
        return Ok(Vec::new());
    }
    let wanted = match config.underlay {
        OuterFamilies::Auto if underlay.v4.is_some() => vec![Family::Ipv4],
        OuterFamilies::Auto | OuterFamilies::Ipv6 => vec![Family::Ipv6],
        OuterFamilies::Ipv4 => vec![Family::Ipv4],
        OuterFamilies::Both => vec![Family::Ipv4, Family::Ipv6],
    };
    for family in &wanted {
        let there = match family {
            Family::Ipv4 => underlay.v4.is_some(),
            Family::Ipv6 => underlay.v6.is_some_and(|net| !net.addr().is_unicast_link_local()),
        };
        if !there {
            let detail =
                format!("{interface} has no {family} address that other nodes reach; give it one or change `underlay`");
            return Err(node_error(ErrorKind::Unsupported, node, "underlay", detail));
        }
    }
    Ok(wanted)
}

fn pod_mtu(config: &Config, node: &NodeContext, outer: &[Family]) -> Result<u32> {
    let tunnel = config.mode.tunnel();
    let overhead = outer.iter().map(|family| tunnel.overhead_bytes(*family)).max().unwrap_or(0);
    let underlay = node.underlay.mtu_bytes;
    let most = underlay.saturating_sub(overhead);
    let v6 = config.families.contains(&Family::Ipv6);
    let least = if v6 { MIN_MTU_V6_BYTES } else { MIN_MTU_V4_BYTES };
    if most < least {
        let family = if v6 { Family::Ipv6 } else { Family::Ipv4 };
        let detail = format!(
            "{} has {underlay} bytes, {most} are left of them for pods, {family} needs {least}; raise it to {} or use \
             another mode or family",
            node.underlay.interface,
            least + overhead
        );
        return Err(node_error(ErrorKind::Unsupported, node, "mtu", detail));
    }
    match config.mtu_bytes {
        Some(mtu) if mtu > most => {
            let detail = format!(
                "is {mtu}; {} carries {underlay} bytes less {overhead} for mode {}: write at most {most}, or leave it out",
                node.underlay.interface, config.mode
            );
            Err(node_error(ErrorKind::Invalid, node, "mtu", detail))
        }
        Some(mtu) => Ok(mtu),
        None => Ok(most),
    }
}
