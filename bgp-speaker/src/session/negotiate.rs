//! Whether a peer is the right one, and what both sides agree on. RFC 4271, section 6.2. Never the state of a connection.

use super::config::Config;
use crate::types::{
    AddPathMode, Asn, Family, GracefulRestart, LongLivedFamily, Negotiated, Notification, Open, OpenSubcode, Role,
};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;

/// Capability code of a role. RFC 9234, section 4.1.
const ROLE: u8 = 9;
/// The longest message with RFC 8654.
const EXTENDED_BYTES: u16 = u16::MAX;
/// The longest message without. RFC 4271, section 4.1.
const USUAL_BYTES: u16 = 4096;

fn refuse(subcode: OpenSubcode) -> Notification {
    Notification::Open(subcode, Bytes::new())
}

/// What holds on a session of `config` after the peer has sent `open`.
///
/// # Errors
/// The NOTIFICATION for a peer that will not do.
pub(super) fn negotiate(config: &Config, open: &Open) -> Result<Negotiated, Notification> {
    let (ours, theirs) = (config.open().capabilities, &open.capabilities);
    let peer_asn = theirs.asn.or_else(|| Asn::new(open.asn.into())).ok_or_else(|| refuse(OpenSubcode::BadPeerAs))?;
    if !config.peer.asn.allows(peer_asn, config.asn) {
        return Err(refuse(OpenSubcode::BadPeerAs));
    }
    let is_internal = peer_asn == config.asn;
    // RFC 6286, section 2.2: between systems, two speakers may have the same one.
    if open.id == config.router_id && is_internal {
        return Err(refuse(OpenSubcode::BadIdentifier));
    }
    let hold_time = hold_time(config, open.hold_time_seconds)?;
    let role = role(config, open, is_internal)?;
    // RFC 4760, section 8: without the capability, IPv4 is meant. One of other families only is not without.
    let has_none = theirs.families.is_empty() && !theirs.unknown.contains(&1);
    let their_families = if has_none { BTreeSet::from([Family::Ipv4]) } else { theirs.families.clone() };
    let families: BTreeSet<Family> = ours.families.intersection(&their_families).copied().collect();
    if families.is_empty() {
        return Err(unsupported(&ours.families));
    }
    let agreed = |a: &BTreeSet<Family>, b: &BTreeSet<Family>| -> BTreeSet<Family> {
        families.iter().copied().filter(|family| a.contains(family) && b.contains(family)).collect()
    };
    // RFC 7911, section 4.
    let paths = |from: &std::collections::BTreeMap<Family, AddPathMode>,
                 to: &std::collections::BTreeMap<Family, AddPathMode>| {
        let both = |family: &Family| {
            let sends = from.get(family).is_some_and(|mode| *mode != AddPathMode::Receive);
            sends && to.get(family).is_some_and(|mode| *mode != AddPathMode::Send)
        };
        families.iter().copied().filter(both).collect::<BTreeSet<_>>()
    };
    let graceful_restart = theirs.graceful_restart.as_ref().map(|restart| GracefulRestart {
        // RFC 8538, section 2: only where both say so.
        notification: restart.notification && config.restart.notification,
        families: restart.families.iter().copied().filter(|kept| families.contains(&kept.family)).collect(),
        ..restart.clone()
    });
    // RFC 9494, section 4.1: nothing without graceful restart.
    let long_lived: Vec<LongLivedFamily> = theirs
        .long_lived
        .iter()
        .copied()
        .filter(|kept| families.contains(&kept.family) && !ours.long_lived.is_empty() && graceful_restart.is_some())
        .collect();
    Ok(Negotiated {
        peer_asn,
        peer_id: open.id,
        hold_time,
        four_octet_asn: theirs.asn.is_some(),
        max_message_bytes: if theirs.extended_message { EXTENDED_BYTES } else { USUAL_BYTES },
        route_refresh: theirs.route_refresh,
        enhanced_route_refresh: theirs.enhanced_route_refresh,
        extended_next_hop: agreed(&ours.extended_next_hop, &theirs.extended_next_hop),
        add_path_in: paths(&theirs.add_path, &ours.add_path),
        add_path_out: paths(&ours.add_path, &theirs.add_path),
        graceful_restart,
        long_lived,
        role,
        families,
    })
}

/// RFC 4271, sections 4.2 and 6.2.
fn hold_time(config: &Config, offered: u16) -> Result<Duration, Notification> {
    let hold = &config.peer.hold;
    let agreed = offered.min(hold.hold_seconds);
    // 0 is for ever: longer than any least time, but a peer that is gone would never be missed.
    if matches!(offered, 1 | 2) || agreed < hold.least_seconds {
        return Err(refuse(OpenSubcode::UnacceptableHoldTime));
    }
    Ok(Duration::from_secs(agreed.into()))
}

/// RFC 9234, section 4.2: between systems only.
fn role(config: &Config, open: &Open, is_internal: bool) -> Result<Option<Role>, Notification> {
    let Some(ours) = config.peer.role.filter(|_| !is_internal) else { return Ok(None) };
    match open.capabilities.role {
        // Unknown, or two that differ.
        _ if open.capabilities.unknown.contains(&ROLE) => Err(refuse(OpenSubcode::RoleMismatch)),
        Some(theirs) if theirs == ours.counterpart() => Ok(Some(ours)),
        None if !config.peer.strict_role => Ok(None),
        _ => Err(refuse(OpenSubcode::RoleMismatch)),
    }
}

/// The capabilities that the peer would need. RFC 5492, section 5.
fn unsupported(families: &BTreeSet<Family>) -> Notification {
    let capability = |family: &Family| [1, 4, 0, if *family == Family::Ipv4 { 1 } else { 2 }, 0, 1];
    let data: Vec<u8> = families.iter().flat_map(capability).collect();
    Notification::Open(OpenSubcode::UnsupportedCapability, data.into())
}
