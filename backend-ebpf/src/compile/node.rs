//! What follows from the node, its configuration and its own items. Never of other nodes.

use super::ATTRIBUTE_TUNNEL;
use crate::config::{Config, Engine, Family, MIN_MTU_V4_BYTES, MIN_MTU_V6_BYTES, Mode};
use crate::object::{Device, Key, Masquerading, Object, PodEntry, Programs, Target, of_host};
use cni_core::backend::{Capabilities, Capability, Error, ErrorKind, Item, Result};
use cni_core::model::{Endpoint, LocalBlock, MacAddr, NetworkItem, NodeContext, never_of_pods, overlap};
use ipnet::IpNet;
use net_linux::{host::wanted, masquerade, tunnel_ends};
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
    /// Our underlay address, which also says what the tunnel runs over.
    pub(super) own: IpAddr,
    device: Option<Arc<Device>>,
    programs: Option<Arc<Programs>>,
    /// The tunnel hears nodes only.
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
        let pod_mtu_bytes = pod_mtu(config, node, own)?;
        let wraps = config.mode == Mode::Vxlan;
        let device = wraps.then(|| {
            let settings = Device::SETTINGS.map(|(setting, value)| (setting, value.to_owned())).into();
            let mac = MacAddr::from_name(&format!("ebpf-tunnel/{}", node.name));
            Arc::new(Device { port: config.port.get(), mac, mtu_bytes: pod_mtu_bytes, up: true, settings })
        });
        let programs = config.needs_programs().then(|| {
            Arc::new(Programs {
                tunnel: wraps.then(|| config.device.clone()),
                underlay: underlay.interface.clone(),
                local: own,
                vni: config.vni,
                fast_path: config.fast_path,
                sizes: (config.max_pods, config.max_prefixes),
            })
        });
        Ok(Self {
            own,
            device,
            programs,
            guards: wraps && capabilities.has(Capability::GuardedTunnel),
            untracked: wraps && capabilities.has(Capability::UntrackedTunnel),
            config: config.clone(),
            node: node.clone(),
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

    /// What peers need to know of this node.
    #[must_use]
    pub fn attributes(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        self.tunnel_text().map(|text| (ATTRIBUTE_TUNNEL.into(), text.into())).into_iter().collect()
    }

    pub(super) fn tunnel_text(&self) -> Option<String> {
        self.device.as_ref().map(|device| format!("{}/{}", self.config.vni, device.port))
    }

    /// The tunnel device as an object of an item that needs it: the item then waits for the device, and others do not.
    pub(super) fn link(&self) -> Option<(Key, Object)> {
        let device = self.device.as_ref()?;
        Some((Key::Link(self.config.device.clone()), Object::Link(device.clone())))
    }

    /// The same of the node's programs.
    pub(crate) fn programs(&self) -> Option<(Key, Object)> {
        Some((Key::Programs, Object::Programs(self.programs.clone()?)))
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
        match self.config.masquerade {
            Engine::Nftables => objects.extend(of_host(wanted::masquerading(&self.node))),
            Engine::Ebpf => objects.extend(self.masquerading()),
        }
        objects.extend(self.link());
        objects.extend(self.programs());
        let end = SocketAddr::new(self.own, self.config.port.get());
        objects.extend(of_host(wanted::not_tracked(self.untracked.then_some(end))));
        objects.extend(of_host(wanted::guarded(self.guards.then_some(tunnel_ends::Tunnel::Udp(end)))));
        objects
    }

    /// What the host's stack would masquerade, as an object of the programs'.
    fn masquerading(&self) -> Option<(Key, Object)> {
        let (_, wanted) = masquerade::objects(&self.node).pop()?;
        let underlay = &self.node.underlay;
        let object = Masquerading {
            interface: underlay.interface.clone(),
            v4: underlay.v4.map(|net| net.addr()),
            v6: underlay.v6.map(|net| net.addr()).filter(|address| !address.is_unicast_link_local()),
            ports: self.config.masquerade_ports,
            room: self.config.max_masqueraded,
            sources: wanted.sources,
            keep: wanted.keep,
        };
        Some((Key::Masquerade, Object::Masquerade(object.into())))
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
            if let Some(link) = self.link() {
                objects.push(link);
                objects.push((Key::Address(self.config.device.clone(), address.into()), Object::Address));
            }
        }
        Ok(objects)
    }

    fn endpoint(&self, endpoint: &Endpoint) -> Result<Objects> {
        for address in &endpoint.addresses {
            let family = Family::of(address);
            if !self.config.families.contains(&family) {
                let detail = format!("has {address}, but {family} pods are off; add it to `families`");
                return Err(Error::invalid(format!("endpoint {}", endpoint.id), "addresses", detail));
            }
        }
        let objects = net_linux::endpoint::compile(endpoint)?.into_iter();
        let mut objects: Objects = objects.map(|(key, object)| (key.into(), Object::Pod(object.into()))).collect();
        if self.config.fast_path {
            let entry = PodEntry {
                interface: endpoint.host_interface.clone(),
                pod_mac: endpoint.pod_mac,
                host_mac: endpoint.host_mac,
            };
            let entries = endpoint.addresses.iter();
            objects.extend(entries.map(|address| (Key::PodEntry(*address), Object::PodEntry(Box::new(entry.clone())))));
            objects.push((Key::PodProgram(endpoint.host_interface.clone()), Object::PodProgram));
            objects.extend(self.programs());
        }
        Ok(objects)
    }

    /// Refuses what can't be a prefix of pods: the route would break the node or the underlay.
    pub(super) fn check_prefix(&self, object: &str, field: &'static str, prefix: &IpNet) -> Result<()> {
        let refuse = |detail: String| Err(Error::invalid(object, field, detail));
        if *prefix != prefix.trunc() {
            return refuse(format!("is {prefix} with host bits; write {}", prefix.trunc()));
        }
        let family = Family::of(&prefix.addr());
        if !self.config.families.contains(&family) {
            return refuse(format!("is {prefix}, but {family} pods are off; add it to `families`"));
        }
        if let Some(special) = never_of_pods(prefix) {
            return refuse(format!("is {prefix}, but {special} is not for pods; use unicast addresses of your own"));
        }
        if let Some(segment) = self.node.underlay.segments().find(|segment| overlap(segment, prefix)) {
            let interface = &self.node.underlay.interface;
            return refuse(format!(
                "is {prefix}, which overlaps {segment} of the underlay ({interface}): routing it would cut the nodes off; \
                 use a pool outside {segment}"
            ));
        }
        Ok(())
    }
}

fn node_error(kind: ErrorKind, node: &NodeContext, field: &'static str, detail: impl fmt::Display) -> Error {
    Error { field: Some(field), ..Error::new(kind, "adopt", format!("node {}", node.name), detail) }
}

fn pod_mtu(config: &Config, node: &NodeContext, own: IpAddr) -> Result<u32> {
    let overhead = if config.mode == Mode::Vxlan { Family::of(&own).overhead_bytes() } else { 0 };
    let underlay = node.underlay.mtu_bytes;
    let most = underlay.saturating_sub(overhead);
    let v6 = config.families.contains(&Family::Ipv6);
    let least = if v6 { MIN_MTU_V6_BYTES } else { MIN_MTU_V4_BYTES };
    let interface = &node.underlay.interface;
    if most < least {
        let detail = format!(
            "{interface} has {underlay} bytes, {most} are left of them for pods, which need {least}; raise it to {}, or use \
             mode native",
            least + overhead
        );
        return Err(node_error(ErrorKind::Unsupported, node, "mtu", detail));
    }
    match config.mtu_bytes {
        Some(mtu) if mtu > most => {
            let detail = format!(
                "is {mtu}; {interface} carries {underlay} bytes less {overhead} for mode {}: write at most {most}, or leave \
                 it out",
                config.mode
            );
            Err(node_error(ErrorKind::Invalid, node, "mtu", detail))
        }
        Some(mtu) => Ok(mtu),
        None => Ok(most),
    }
}
