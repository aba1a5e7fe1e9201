//! Asking the kernel which way it would send a packet. Never reads a table.

use super::{RTA_DST, RTA_OIF, RTM_GETROUTE, RTM_NEWROUTE, RTMSG_BYTES, Route, RouteKind, parse};
use crate::addr::family;
use crate::netlink::{Attrs, Result, Socket};
use nix::errno::Errno;
use std::net::IpAddr;

/// The table entry that matches is asked for, not the answer to one packet (`RTM_F_FIB_MATCH`, Linux 4.13).
const RTM_F_FIB_MATCH: u32 = 0x2000;

/// What the kernel's table says about an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The entry that matches, as it stands in the table.
    pub entry: Route,
    /// The device and gateway of one packet, where the entry has a next-hop object instead of its own.
    pub packet: Route,
}

impl Route {
    /// The index of the device through which a packet of this node to `address` leaves; `None` when nothing leads there
    /// (no route, or one that refuses).
    ///
    /// # Errors
    /// The kernel refused otherwise, or the socket failed.
    pub fn device_to(socket: &mut Socket, address: IpAddr) -> Result<Option<u32>> {
        ask(socket, address, None, 0, |_, payload| {
            Attrs::after(payload, RTMSG_BYTES).get(RTA_OIF).and_then(|index| index.u32())
        })
    }

    /// The entry of the kernel's tables that a packet of this node to `address` (through the device with this index, when
    /// one is given) follows; `None` when nothing leads there.
    ///
    /// # Errors
    /// The kernel refused otherwise, or the socket failed.
    pub fn lookup(socket: &mut Socket, address: IpAddr, device: Option<u32>) -> Result<Option<Found>> {
        let Some(entry) = ask(socket, address, device, RTM_F_FIB_MATCH, parse)? else { return Ok(None) };
        if !matches!(entry.kind, RouteKind::Unicast | RouteKind::Local) {
            return Ok(None);
        }
        let packet = match entry.nexthop_id {
            None => Some(entry.clone()),
            // The answer to a packet is a cache entry, which is no route of a table to the parser.
            Some(_) => ask(socket, address, device, 0, |header, payload| {
                let mut copy = payload.to_vec();
                copy.get_mut(8..RTMSG_BYTES)?.fill(0);
                parse(header, &copy).map(|found| Route { nexthop_id: None, ..found })
            })?,
        };
        Ok(packet.map(|packet| Found { entry, packet }))
    }
}

fn ask<T>(
    socket: &mut Socket,
    address: IpAddr,
    device: Option<u32>,
    flags: u32,
    mut read: impl FnMut(crate::netlink::Header, &[u8]) -> Option<T>,
) -> Result<Option<T>> {
    let mut head = [0; RTMSG_BYTES];
    head[0] = family(address);
    head[1] = if address.is_ipv4() { 32 } else { 128 };
    head[8..12].copy_from_slice(&flags.to_ne_bytes());
    let found = socket.query(
        "look up",
        format_args!("route to {address}"),
        RTM_GETROUTE,
        0,
        |message| {
            message.raw(&head).ip(RTA_DST, address);
            if let Some(index) = device {
                message.u32(RTA_OIF, index);
            }
        },
        |header, payload| (header.kind == RTM_NEWROUTE).then(|| read(header, payload)).flatten(),
    );
    match found {
        Ok(found) => Ok(found.into_iter().next()),
        // What an unreachable, blackhole or prohibit route, or none, answers.
        Err(error)
            if matches!(
                error.errno(),
                Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EINVAL | Errno::EACCES | Errno::ENODEV)
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
