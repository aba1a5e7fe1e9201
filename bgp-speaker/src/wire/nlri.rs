//! Prefixes as they stand in a message. RFC 4271, section 4.3; RFC 4760, section 5; RFC 7911, section 3.

use crate::types::{Family, Nlri, PathId};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A prefix is longer than an address, or ends in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

/// Reads all of `bytes`. Bits behind a prefix's length say nothing (RFC 4271, section 4.3).
pub(super) fn read(family: Family, with_ids: bool, mut bytes: &[u8]) -> Result<Vec<Nlri>, Broken> {
    // A /24 with its length, or a /64: what tables are full of.
    let usual = if family == Family::Ipv4 { 4 } else { 7 } + if with_ids { 4 } else { 0 };
    let mut nlri = Vec::with_capacity(bytes.len().div_ceil(usual));
    while !bytes.is_empty() {
        let path = if with_ids {
            let (id, rest) = bytes.split_first_chunk::<4>().ok_or(Broken)?;
            bytes = rest;
            PathId(u32::from_be_bytes(*id))
        } else {
            PathId::default()
        };
        let (length, rest) = bytes.split_first().ok_or(Broken)?;
        let (address, rest) = rest.split_at_checked(usize::from(length.div_ceil(8))).ok_or(Broken)?;
        bytes = rest;
        nlri.push(Nlri { prefix: prefix(family, *length, address)?, path });
    }
    Ok(nlri)
}

fn prefix(family: Family, length: u8, address: &[u8]) -> Result<IpNet, Broken> {
    match family {
        Family::Ipv4 => {
            let mut octets = [0; 4];
            octets.get_mut(..address.len()).ok_or(Broken)?.copy_from_slice(address);
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(length.into()).ok_or(Broken)?).unwrap_or(0);
            let network = Ipv4Addr::from(u32::from_be_bytes(octets) & mask);
            Ipv4Net::new(network, length).map(IpNet::V4).map_err(|_| Broken)
        }
        Family::Ipv6 => {
            let mut octets = [0; 16];
            octets.get_mut(..address.len()).ok_or(Broken)?.copy_from_slice(address);
            let mask = u128::MAX.checked_shl(128_u32.checked_sub(length.into()).ok_or(Broken)?).unwrap_or(0);
            let network = Ipv6Addr::from(u128::from_be_bytes(octets) & mask);
            Ipv6Net::new(network, length).map(IpNet::V6).map_err(|_| Broken)
        }
    }
}

/// Most bytes that a prefix takes: a path id, a length, an address.
pub(super) const MOST_BYTES: usize = 4 + 1 + 16;

/// Writes one prefix; how many bytes of `to` it took.
pub(super) fn write(nlri: &Nlri, with_ids: bool, to: &mut [u8; MOST_BYTES]) -> usize {
    let mut at = 0;
    if with_ids {
        to[..4].copy_from_slice(&nlri.path.0.to_be_bytes());
        at = 4;
    }
    to[at] = nlri.prefix.prefix_len();
    at += 1;
    let bytes = usize::from(nlri.prefix.prefix_len().div_ceil(8));
    match nlri.prefix {
        IpNet::V4(prefix) => to[at..at + bytes].copy_from_slice(&prefix.addr().octets()[..bytes]),
        IpNet::V6(prefix) => to[at..at + bytes].copy_from_slice(&prefix.addr().octets()[..bytes]),
    }
    at + bytes
}
