//! Asking the kernel which way it would send a packet. Never reads a table.

use super::{RTA_DST, RTA_OIF, RTM_GETROUTE, RTM_NEWROUTE, RTMSG_BYTES, Route};
use crate::addr::family;
use crate::netlink::{Attrs, Result, Socket};
use nix::errno::Errno;
use std::net::IpAddr;

impl Route {
    /// The index of the device through which a packet of this node to `address` leaves; `None` when nothing leads there
    /// (no route, or one that refuses).
    ///
    /// # Errors
    /// The kernel refused otherwise, or the socket failed.
    pub fn device_to(socket: &mut Socket, address: IpAddr) -> Result<Option<u32>> {
        let mut head = [0; RTMSG_BYTES];
        head[0] = family(address);
        head[1] = if address.is_ipv4() { 32 } else { 128 };
        let found = socket.query(
            "look up",
            format_args!("route to {address}"),
            RTM_GETROUTE,
            0,
            |message| {
                message.raw(&head).ip(RTA_DST, address);
            },
            |header, payload| {
                let attributes = (header.kind == RTM_NEWROUTE).then(|| Attrs::after(payload, RTMSG_BYTES))?;
                attributes.get(RTA_OIF).and_then(|index| index.u32())
            },
        );
        match found {
            Ok(indices) => Ok(indices.into_iter().next()),
            // What an unreachable, blackhole or prohibit route, or none, answers.
            Err(error)
                if matches!(
                    error.errno(),
                    Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EINVAL | Errno::EACCES)
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
