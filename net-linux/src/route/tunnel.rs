//! Lightweight tunnels: which outer packet a route or next-hop object asks of a device that collects metadata.
//! Never the device.

use crate::netlink::{Attr, Message};
use std::net::IpAddr;

const LWTUNNEL_ENCAP_IP: u16 = 2;
const LWTUNNEL_ENCAP_IP6: u16 = 4;
const LWTUNNEL_IP_ID: u16 = 1;
const LWTUNNEL_IP_DST: u16 = 2;
const LWTUNNEL_IP_SRC: u16 = 3;

/// The outer packet (`ip route .. encap ip id VNI dst ADDRESS`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TunnelKey {
    /// The tunnel's id: the VXLAN network.
    pub id: u64,
    /// The tunnel endpoint.
    pub destination: IpAddr,
    /// Our outer address; `None` takes the device's or the route's.
    pub source: Option<IpAddr>,
}

impl TunnelKey {
    /// Writes the kind and the nest under these attribute numbers.
    pub(crate) fn write(&self, message: &mut Message<'_>, kind: u16, nest: u16) {
        message.u16(kind, if self.destination.is_ipv4() { LWTUNNEL_ENCAP_IP } else { LWTUNNEL_ENCAP_IP6 });
        message.nest(nest, |tunnel| {
            tunnel.be64(LWTUNNEL_IP_ID, self.id).ip(LWTUNNEL_IP_DST, self.destination);
            if let Some(source) = self.source {
                tunnel.ip(LWTUNNEL_IP_SRC, source);
            }
        });
    }

    /// Reads the nest; `None` when it is of another kind of tunnel.
    pub(crate) fn read(kind: Option<u16>, nest: Attr<'_>) -> Option<Self> {
        if !matches!(kind?, LWTUNNEL_ENCAP_IP | LWTUNNEL_ENCAP_IP6) {
            return None;
        }
        let attributes = nest.nested();
        Some(Self {
            id: attributes.get(LWTUNNEL_IP_ID)?.be64()?,
            destination: attributes.get(LWTUNNEL_IP_DST)?.ip()?,
            source: attributes
                .get(LWTUNNEL_IP_SRC)
                .and_then(|source| source.ip())
                .filter(|address| !address.is_unspecified()),
        })
    }
}
