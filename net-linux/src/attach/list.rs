//! Our attachments as the host shows them. Never looks into a pod.

use crate::link::{Link, LinkFilter, LinkKind};
use crate::marks;
use crate::netlink::{Result, Socket};
use cni_core::model::{EndpointId, InterfaceName, MacAddr};

/// The host's end of an attachment of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// Container and interface, from the alias.
    pub id: EndpointId,
    /// The host's end.
    pub host_interface: InterfaceName,
    /// Its index.
    pub host_index: u32,
    /// Its Ethernet address.
    pub host_mac: Option<MacAddr>,
    /// MTU in bytes.
    pub mtu_bytes: u32,
    /// Administratively up.
    pub up: bool,
    /// Detached, and only waiting to be reaped.
    pub doomed: bool,
}

/// The host's ends of our veths with what their aliases say.
pub(crate) fn our_veths(socket: &mut Socket) -> Result<Vec<(Link, EndpointId)>> {
    let links = Link::dump(socket, &LinkFilter { kind: Some("veth"), ..LinkFilter::default() })?;
    Ok(links.into_iter().filter_map(|link| endpoint_of(&link).map(|id| (link, id))).collect())
}

/// The endpoint that a link of ours is for.
pub(super) fn endpoint_of(link: &Link) -> Option<EndpointId> {
    link.our_id().and_then(|id| EndpointId::new(id).ok())
}

/// Whether a link is in the group of doomed links.
pub(super) fn is_doomed(link: &Link) -> bool {
    link.group == marks::DOOMED_LINK_GROUP
}

/// Whether a link is a veth of ours whose making was cut short before it got its alias.
pub(super) fn is_staged(link: &Link) -> bool {
    link.group == marks::STAGED_LINK_GROUP && link.kind == LinkKind::Veth && marks::is_host_interface(&link.name)
}

pub(super) fn list(socket: &mut Socket) -> Result<Vec<Attached>> {
    let attached = our_veths(socket)?.into_iter().filter_map(|(link, id)| {
        Some(Attached {
            id,
            host_interface: InterfaceName::new(&link.name).ok()?,
            host_index: link.index,
            host_mac: link.mac,
            mtu_bytes: link.mtu_bytes,
            up: link.up,
            doomed: is_doomed(&link),
        })
    });
    Ok(attached.collect())
}
