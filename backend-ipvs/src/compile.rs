//! Frontends to kernel objects, one at a time. Pure: no kernel, no clock, no memory of other frontends.

use crate::object::{Key, Object};
use crate::rules::{self, Kind, Set};
use cni_core::backend::{Error, ErrorKind, Result};
use cni_core::model::{BackendUse, FrontendKind, Scheduler, ServiceBackend, ServiceItem, TrafficScope};
use cni_core::policy::model::Protocol;
use ipnet::IpNet;
use net_linux::ipvs::{Destination, Flags, Forward, Service, ServiceId};
use net_linux::nft;
use std::net::SocketAddr;

/// What one frontend, or the node, needs.
pub type Objects = Vec<(Key, Object)>;

/// Settings that IPVS needs, each in the node's network namespace only.
///
/// Connections are tracked, so that a masqueraded answer finds its way. Those whose destination is gone end instead of waiting,
/// and clients with affinity to a destination that drains get another one.
const SETTINGS: [(&str, &str); 4] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/vs/conntrack", "1"),
    ("net/ipv4/vs/expire_nodest_conn", "1"),
    ("net/ipv4/vs/expire_quiescent_template", "1"),
];
const SETTING_OF_IPV6: (&str, &str) = ("net/ipv6/conf/all/forwarding", "1");

/// What exists whatever the services are.
#[must_use]
pub fn base(ipv6: bool) -> Objects {
    let settings = SETTINGS.into_iter().chain(ipv6.then_some(SETTING_OF_IPV6));
    let settings = settings.map(|(path, value)| (Key::Sysctl(path.into()), Object::Sysctl(value.into())));
    let fixed = [(Key::Device, Object::Device { intact: true }), (Key::Rules, Object::Rules { intact: true })];
    fixed.into_iter().chain(settings).collect()
}

/// The objects of one frontend.
///
/// # Errors
/// [`ErrorKind::Unsupported`]: a protocol that IPVS does not balance, or direct return over IPv6 or from an endpoint of no node. [`ErrorKind::Invalid`]: a port 0, or a backend of another
/// family.
pub fn compile(item: &ServiceItem) -> Result<Objects> {
    let key = &item.key;
    if !matches!(key.protocol, Protocol::TCP | Protocol::UDP | Protocol::SCTP) {
        let detail = format!("IPVS balances TCP, UDP and SCTP, not {}", key.protocol);
        return Err(Error { field: Some("protocol"), ..Error::new(ErrorKind::Unsupported, "compile", key, detail) });
    }
    if key.port == 0 {
        return Err(Error::invalid(key, "port", "0 is no port; write 1 to 65535"));
    }
    let direct = Direct::of(item)?;
    let (protocol, address) = (key.protocol.0, SocketAddr::new(key.address, key.port));
    let id = ServiceId::address(protocol, address);
    let set = |kind| Set::of(kind, key.address);
    let frontend = || rules::frontend(protocol, address);
    let mut objects = vec![element(set(Kind::Frontends), frontend())];
    if item.kind != FrontendKind::NodePort {
        objects.push((Key::Address(key.address.into()), Object::Address { never_source: true }));
        objects.push(element(set(Kind::Addresses), nft::Key::address(key.address)));
    }
    match direct {
        // The client's address stays: answers need not come back through here.
        Direct::Away => objects.push(element(set(Kind::Away), frontend())),
        Direct::Here => objects.push((Key::Tunnel, Object::Tunnel { intact: true })),
        Direct::No if item.scope == TrafficScope::Cluster => {
            objects.push(element(set(Kind::Masqueraded), frontend()));
        }
        Direct::No => {}
    }
    if let Some(sources) = &item.sources {
        objects.push(element(set(Kind::Limited), frontend()));
        // Elements of one set may not overlap.
        let same_family = sources.iter().filter(|net| net.addr().is_ipv6() == key.address.is_ipv6());
        let fewest = IpNet::aggregate(&same_family.map(IpNet::trunc).collect());
        let clients = fewest.into_iter().map(|net| rules::allowed(protocol, address, net));
        objects.extend(clients.map(|clients| element(set(Kind::Allowed), clients)));
    }
    if direct != Direct::No {
        let ends = item.backends.iter().filter(|backend| backend.address.is_ipv4());
        objects.extend(ends.map(|backend| element(set(Kind::TunnelEnds), nft::Key::address(backend.address))));
    }
    objects.push((Key::Service(id), Object::Service(Box::new(service(item, id)))));
    for backend in item.backends.iter().filter(|backend| direct != Direct::Here || backend.local) {
        let place = SocketAddr::new(backend.address, backend.port);
        if backend.address.is_ipv6() != key.address.is_ipv6() {
            return Err(Error::invalid(
                key,
                "backends",
                format_args!("{place} is of another family than the frontend"),
            ));
        }
        let destination = destination(backend, item.scheduler.weighs(), place, direct);
        objects.push((Key::Destination(id, place), Object::Destination(destination)));
        if direct == Direct::Here {
            objects.push(element(set(Kind::Tunnelled), nft::Key::address(backend.address)));
        }
        // Nobody says where it is: it may be here.
        if backend.local || backend.node.is_none() {
            objects.push(element(set(Kind::Hairpin), rules::hairpin(backend.address)));
        }
    }
    Ok(objects)
}

/// Whether answers of a frontend go to clients directly, and where its endpoints are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direct {
    /// They come back through the node that a packet came to.
    No,
    /// This node has endpoints in use: it uses those, for its own clients and for what others tunnel here. So a packet is
    /// tunnelled once.
    Here,
    /// It has none, and tunnels to endpoints elsewhere.
    Away,
}

impl Direct {
    fn of(item: &ServiceItem) -> Result<Self> {
        const FIELD: &str = "direct-server-return";
        if !item.direct_return {
            return Ok(Self::No);
        }
        if item.key.address.is_ipv6() {
            let error = Error::new(ErrorKind::Unsupported, "compile", &item.key, "packets are tunnelled in IPv4 only");
            return Err(Error { field: Some(FIELD), ..error });
        }
        if let Some(backend) = item.backends.iter().find(|backend| !backend.local && backend.node.is_none()) {
            let detail =
                format!("endpoint {} is on no node that is known: nobody would take in its tunnel", backend.address);
            return Err(Error {
                field: Some(FIELD),
                ..Error::new(ErrorKind::Unsupported, "compile", &item.key, detail)
            });
        }
        Ok(if item.active().any(|backend| backend.local) { Self::Here } else { Self::Away })
    }
}

fn element(set: Set, key: nft::Key) -> (Key, Object) {
    (Key::Element(set, key), Object::Element)
}

fn service(item: &ServiceItem, id: ServiceId) -> Service {
    // Without falling back, a hash that meets a destination of weight 0 refuses the client. The whole connection is hashed for
    // Maglev, the client's address alone for a source hash.
    let flags = match item.scheduler {
        Scheduler::SourceHash => Flags { fallback: true, ..Flags::default() },
        Scheduler::Maglev => Flags { fallback: true, port: true, ..Flags::default() },
        _ => Flags::default(),
    };
    let persistence_seconds = item.affinity_seconds.map(Into::into);
    Service { flags, persistence_seconds, ours: true, ..Service::new(id, item.scheduler.to_string()) }
}

fn destination(backend: &ServiceBackend, weighs: bool, place: SocketAddr, direct: Direct) -> Destination {
    let weight = match backend.usage {
        BackendUse::Active if weighs => backend.weight.into(),
        BackendUse::Active => 1,
        BackendUse::Draining => 0,
    };
    let forward = if direct == Direct::Away && !backend.local { Forward::Ipip } else { Forward::Masquerade };
    Destination { weight, forward, ..Destination::new(place) }
}

#[cfg(test)]
mod tests;
