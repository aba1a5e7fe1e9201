//! Finds the network below the pods: the interface of the default route, and its addresses. Never changes anything.

use super::error::NodeError;
use crate::config::UnderlayConfig;
use cni_core::model::{InterfaceName, Underlay};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use net_linux::addr::Address;
use net_linux::link::{Link, LinkFilter, LinkId};
use net_linux::netlink::Socket;
use net_linux::route::{MAIN_TABLE, Route, RouteFilter};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What the kernel says of links, addresses and default routes.
struct Seen {
    links: Vec<Link>,
    addresses: Vec<Address>,
    defaults: Vec<Route>,
}

fn wrong(field: &'static str, problem: impl Into<String>) -> NodeError {
    NodeError::Underlay { field, problem: problem.into() }
}

/// Reads the namespace of the calling thread and settles what the configuration leaves open.
///
/// # Errors
/// [`NodeError::Underlay`] that names the key to write.
pub(crate) fn detect(config: &UnderlayConfig) -> Result<Underlay, NodeError> {
    let failed = |error: net_linux::netlink::Error| wrong("interface", error.to_string());
    let mut socket = Socket::route().map_err(failed)?;
    let filter = RouteFilter { table: Some(MAIN_TABLE), ..RouteFilter::default() };
    let routes = Route::dump(&mut socket, &filter).map_err(failed)?;
    let seen = Seen {
        links: Link::dump(&mut socket, &LinkFilter::default()).map_err(failed)?,
        addresses: Address::dump(&mut socket, None).map_err(failed)?,
        defaults: routes.into_iter().filter(|route| route.destination.prefix_len() == 0).collect(),
    };
    choose(config, &seen)
}

/// The addresses of each interface of the calling thread's namespace; interfaces without addresses are left out.
///
/// # Errors
/// The kernel could not be read.
pub(crate) fn interfaces() -> Result<BTreeMap<InterfaceName, BTreeSet<IpAddr>>, NodeError> {
    let failed = |error: net_linux::netlink::Error| wrong("interface", error.to_string());
    let mut socket = Socket::route().map_err(failed)?;
    let mut by_index: BTreeMap<u32, BTreeSet<IpAddr>> = BTreeMap::new();
    for held in Address::dump(&mut socket, None).map_err(failed)? {
        by_index.entry(held.index).or_default().insert(held.address.addr());
    }
    let mut interfaces = BTreeMap::new();
    for (index, addresses) in by_index {
        // One that went in between has no addresses any more.
        let Some(link) = Link::get(&mut socket, &LinkId::Index(index)).map_err(failed)? else { continue };
        if let Ok(name) = InterfaceName::new(&link.name) {
            interfaces.insert(name, addresses);
        }
    }
    Ok(interfaces)
}

fn choose(config: &UnderlayConfig, seen: &Seen) -> Result<Underlay, NodeError> {
    let link = match (&config.interface, config.v4.map(IpNet::V4).or(config.v6.map(IpNet::V6))) {
        (Some(name), _) => seen.links.iter().find(|link| link.name == name.as_str()).ok_or_else(|| {
            let names: Vec<&str> = seen.links.iter().map(|link| link.name.as_str()).collect();
            wrong("interface", format!("there is no {name}; there are: {}", names.join(", ")))
        })?,
        (None, Some(address)) => {
            let holder = seen.addresses.iter().find(|held| held.address.addr() == address.addr());
            holder.and_then(|held| link_of(seen, held.index)).ok_or_else(|| {
                let field = if address.addr().is_ipv4() { "v4" } else { "v6" };
                wrong(field, format!("no interface has {}", address.addr()))
            })?
        }
        (None, None) => {
            // The lowest metric wins, as in the kernel; IPv4 before IPv6 where both are equal.
            let best = seen.defaults.iter().filter(|route| route.index.is_some());
            let best = best.min_by_key(|route| (route.metric, route.destination.addr().is_ipv6()));
            best.and_then(|route| link_of(seen, route.index?)).ok_or_else(|| {
                wrong("interface", "there is no default route to tell it from; write `underlay: {interface: NAME}`")
            })?
        }
    };
    let on_link: Vec<&Address> = seen.addresses.iter().filter(|address| address.index == link.index).collect();
    let v4 = on_link.iter().find_map(|address| match address.address {
        IpNet::V4(v4) => Some(v4),
        IpNet::V6(_) => None,
    });
    let v6 = on_link.iter().find_map(|address| match address.address {
        IpNet::V6(v6) if !v6.addr().is_unicast_link_local() && !address.tentative => Some(v6),
        _ => None,
    });
    for (field, wanted) in [("v4", config.v4.map(IpNet::V4)), ("v6", config.v6.map(IpNet::V6))] {
        // On any interface: nodes that speak BGP have theirs on the loopback device.
        let there = |address: &IpNet| seen.addresses.iter().any(|held| held.address.addr() == address.addr());
        if let Some(wanted) = wanted.filter(|wanted| !there(wanted)) {
            let problem = format!("no interface has {}; peers could not reach this node there", wanted.addr());
            return Err(wrong(field, problem));
        }
    }
    let (v4, v6): (Option<Ipv4Net>, Option<Ipv6Net>) = (config.v4.or(v4), config.v6.or(v6));
    if v4.is_none() && v6.is_none() {
        return Err(wrong(
            "v4",
            format!("{} has no usable address; give it one, or name another interface", link.name),
        ));
    }
    Ok(Underlay {
        interface: InterfaceName::new(&link.name).map_err(|error| wrong("interface", error.to_string()))?,
        index: link.index,
        mtu_bytes: link.mtu_bytes,
        v4,
        v6,
    })
}

fn link_of(seen: &Seen, index: u32) -> Option<&Link> {
    seen.links.iter().find(|link| link.index == index)
}
