//! Which way a node sends packets. Read from the kernel's own tables, never guessed from the configuration.

use super::LabError;
use crate::scenario::PathKind;
use net_linux::link::{Link, LinkFilter, LinkId, LinkKind};
use net_linux::netlink::Socket;
use net_linux::netns::NetNs;
use net_linux::route::Route;
use std::net::IpAddr;

/// The way from a node to a pod's address.
pub(super) fn path_kind(node: &NetNs, to: IpAddr) -> Result<PathKind, LabError> {
    node.run(|| {
        let mut socket = Socket::route()?;
        let Some(index) = Route::device_to(&mut socket, to)? else { return Ok(PathKind::None) };
        let Some(link) = Link::get(&mut socket, &LinkId::Index(index))? else { return Ok(PathKind::None) };
        Ok(match link.kind {
            LinkKind::Vxlan(_) => PathKind::Tunnel,
            LinkKind::Tun => PathKind::UserTunnel,
            _ if link.name == super::node::UNDERLAY => PathKind::Direct,
            LinkKind::Veth => PathKind::Local,
            _ => PathKind::None,
        })
    })?
}

/// Host ends of pods in the calling thread's namespace.
pub(super) fn pod_links() -> Result<Vec<String>, LabError> {
    let mut socket = Socket::route()?;
    let veths = Link::dump(&mut socket, &LinkFilter { kind: Some("veth"), master: None })?;
    Ok(veths.into_iter().filter(|link| link.our_id().is_some()).map(|link| link.name).collect())
}
