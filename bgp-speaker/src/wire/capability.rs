//! Capabilities of an OPEN. RFC 5492. One that is malformed or unknown says nothing. Never what is agreed on.

use super::codes::{UNICAST, afi, capability as code, family};
use crate::types::{
    AddPathMode, Asn, Capabilities, Family, GracefulRestart, LongLivedFamily, OpenSubcode, RestartFamily, Role,
};

/// R bit of graceful restart. RFC 4724, section 3.
const RESTARTING: u16 = 0x8000;
/// N bit of graceful restart. RFC 8538, section 2.
const NOTIFICATION: u16 = 0x4000;
/// Restart time: twelve bits of seconds.
const RESTART_TIME: u16 = 0x0fff;
/// F bit of a family.
const FORWARDING: u8 = 0x80;
/// Long-lived stale time: 24 bits of seconds. RFC 9494, section 3.
const MOST_STALE_SECONDS: u32 = 0x00ff_ffff;

fn short(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high, low])
}

/// Takes in one capability. `None`: malformed or unknown.
fn read_one(code: u8, value: &[u8], into: &mut Capabilities) -> Option<()> {
    match (code, value) {
        (code::MULTIPROTOCOL, &[high, low, _, safi]) => {
            into.families.insert(family(short(high, low), safi)?);
        }
        (code::ROUTE_REFRESH, []) => into.route_refresh = true,
        (code::ENHANCED_REFRESH, []) => into.enhanced_route_refresh = true,
        (code::EXTENDED_MESSAGE, []) => into.extended_message = true,
        (code::FOUR_OCTET_ASN, _) => into.asn = Some(Asn::new(u32::from_be_bytes(value.try_into().ok()?))?),
        (code::EXTENDED_NEXT_HOP, _) => {
            for &[high, low, zero, safi, hop_high, hop_low] in value.as_chunks::<6>().0 {
                let family = family(short(high, low), safi).filter(|_| zero == 0);
                if short(hop_high, hop_low) == afi(Family::Ipv6) {
                    into.extended_next_hop.extend(family);
                }
            }
        }
        (code::ADD_PATH, _) => {
            for &[high, low, safi, mode] in value.as_chunks::<4>().0 {
                let mode = match mode {
                    1 => AddPathMode::Receive,
                    2 => AddPathMode::Send,
                    3 => AddPathMode::Both,
                    // RFC 7911, section 4: passed over.
                    _ => continue,
                };
                into.add_path.extend(family(short(high, low), safi).map(|family| (family, mode)));
            }
        }
        (code::GRACEFUL_RESTART, &[high, low, ref families @ ..]) => {
            let bits = short(high, low);
            let families = families.as_chunks::<4>().0.iter().filter_map(|&[high, low, safi, flags]| {
                let family = family(short(high, low), safi)?;
                Some(RestartFamily { family, forwarding_kept: flags & FORWARDING != 0 })
            });
            into.graceful_restart = Some(GracefulRestart {
                restarting: bits & RESTARTING != 0,
                notification: bits & NOTIFICATION != 0,
                restart_time_seconds: bits & RESTART_TIME,
                families: families.collect(),
            });
        }
        (code::LONG_LIVED, _) => {
            let families = value.as_chunks::<7>().0.iter().filter_map(|&[high, low, safi, flags, a, b, c]| {
                let family = family(short(high, low), safi)?;
                let stale_time_seconds = u32::from_be_bytes([0, a, b, c]);
                Some(LongLivedFamily { family, forwarding_kept: flags & FORWARDING != 0, stale_time_seconds })
            });
            into.long_lived = families.collect();
        }
        (code::ROLE, &[role]) => {
            let role = match role {
                0 => Role::Provider,
                1 => Role::RouteServer,
                2 => Role::RouteServerClient,
                3 => Role::Customer,
                4 => Role::Peer,
                _ => return None,
            };
            // RFC 9234, section 4.2: two that differ are none. What is in `unknown` tells them from no role.
            if into.role.is_some_and(|other| other != role) {
                return None;
            }
            into.role = Some(role);
        }
        _ => return None,
    }
    Some(())
}

/// Reads the value of one optional parameter.
///
/// # Errors
/// The subcode of an OPEN that is refused: a capability goes on behind its end, or the peer's system is number 0 (RFC 7607,
/// section 2).
pub(super) fn read(mut value: &[u8], into: &mut Capabilities) -> Result<(), OpenSubcode> {
    while !value.is_empty() {
        let (&[code, length], rest) = value.split_first_chunk::<2>().ok_or(OpenSubcode::Other(0))?;
        let (inner, rest) = rest.split_at_checked(usize::from(length)).ok_or(OpenSubcode::Other(0))?;
        if (code, inner) == (code::FOUR_OCTET_ASN, &[0; 4]) {
            return Err(OpenSubcode::BadPeerAs);
        }
        if read_one(code, inner, into).is_none() && !into.unknown.contains(&code) {
            into.unknown.push(code);
        }
        value = rest;
    }
    Ok(())
}

/// Writes all but the unknown ones.
pub(super) fn write(capabilities: &Capabilities, to: &mut Vec<u8>) {
    let mut put = |code: u8, value: &[u8]| {
        to.extend([code, u8::try_from(value.len()).unwrap_or(u8::MAX)]);
        to.extend_from_slice(value);
    };
    let name = |family: Family| {
        let [high, low] = afi(family).to_be_bytes();
        [high, low, UNICAST]
    };
    for family in &capabilities.families {
        let [high, low, safi] = name(*family);
        put(code::MULTIPROTOCOL, &[high, low, 0, safi]);
    }
    if capabilities.route_refresh {
        put(code::ROUTE_REFRESH, &[]);
    }
    if !capabilities.extended_next_hop.is_empty() {
        let [hop_high, hop_low] = afi(Family::Ipv6).to_be_bytes();
        let families = capabilities.extended_next_hop.iter().flat_map(|family| {
            let [high, low, safi] = name(*family);
            [high, low, 0, safi, hop_high, hop_low]
        });
        put(code::EXTENDED_NEXT_HOP, &families.collect::<Vec<_>>());
    }
    if capabilities.extended_message {
        put(code::EXTENDED_MESSAGE, &[]);
    }
    if let Some(role) = capabilities.role {
        let role = match role {
            Role::Provider => 0,
            Role::RouteServer => 1,
            Role::RouteServerClient => 2,
            Role::Customer => 3,
            Role::Peer => 4,
        };
        put(code::ROLE, &[role]);
    }
    if let Some(restart) = &capabilities.graceful_restart {
        let mut bits = restart.restart_time_seconds.min(RESTART_TIME);
        bits |= if restart.restarting { RESTARTING } else { 0 };
        bits |= if restart.notification { NOTIFICATION } else { 0 };
        let mut value = bits.to_be_bytes().to_vec();
        for kept in &restart.families {
            value.extend(name(kept.family));
            value.push(if kept.forwarding_kept { FORWARDING } else { 0 });
        }
        put(code::GRACEFUL_RESTART, &value);
    }
    if let Some(asn) = capabilities.asn {
        put(code::FOUR_OCTET_ASN, &asn.get().to_be_bytes());
    }
    if !capabilities.add_path.is_empty() {
        let families = capabilities.add_path.iter().flat_map(|(family, mode)| {
            let [high, low, safi] = name(*family);
            let mode = match mode {
                AddPathMode::Receive => 1,
                AddPathMode::Send => 2,
                AddPathMode::Both => 3,
            };
            [high, low, safi, mode]
        });
        put(code::ADD_PATH, &families.collect::<Vec<_>>());
    }
    if capabilities.enhanced_route_refresh {
        put(code::ENHANCED_REFRESH, &[]);
    }
    if !capabilities.long_lived.is_empty() {
        let families = capabilities.long_lived.iter().flat_map(|kept| {
            let [high, low, safi] = name(kept.family);
            let [_, a, b, c] = kept.stale_time_seconds.min(MOST_STALE_SECONDS).to_be_bytes();
            [high, low, safi, if kept.forwarding_kept { FORWARDING } else { 0 }, a, b, c]
        });
        put(code::LONG_LIVED, &families.collect::<Vec<_>>());
    }
}
