//! What a configuration must be before a speaker takes it. Never changes it.

use super::{
    AddPath, Bfd, Config, ConfigError, Hold, LongLived, MaxPrefixes, PeerAddress, PeerConfig, Refusal, RemoteAsn,
    Restart, Selection, TtlSecurity,
};
use crate::types::{Asn, Family};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// Bytes that a device's name may have: `IFNAMSIZ` less the closing zero.
const MOST_NAME_BYTES: usize = 15;
/// Bytes of a shutdown communication. RFC 9003, section 2.
const MOST_TEXT_BYTES: usize = 255;
/// Seconds in 24 bits. RFC 9494, section 3.
const MOST_LONG_LIVED_SECONDS: u32 = 0x00ff_ffff;

type Found = Result<(), (&'static str, Refusal)>;

fn range(field: &'static str, found: u64, least: u64, most: u64, unit: &'static str) -> Found {
    if (least..=most).contains(&found) { Ok(()) } else { Err((field, Refusal::Range { found, least, most, unit })) }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn seconds(time: Duration) -> u64 {
    // A part of a second is not nothing.
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

impl Config {
    /// Refuses what cannot be.
    ///
    /// # Errors
    ///
    /// The first thing wrong, with object, field and what would be right.
    pub fn check(&self) -> Result<(), ConfigError> {
        let at_speaker = |(field, why)| ConfigError { at: "speaker".to_owned(), field, why };
        usable(self.asn).map_err(at_speaker)?;
        self.selection.check().map_err(at_speaker)?;
        self.restart.check().map_err(at_speaker)?;
        self.listen_once().map_err(at_speaker)?;
        for prefix in self.aggregates.keys() {
            host_bits("prefix", *prefix).map_err(|(field, why)| ConfigError {
                at: format!("aggregate {prefix}"),
                field,
                why,
            })?;
        }
        for (name, peer) in &self.peers {
            let at = |(field, why)| ConfigError { at: format!("peer {name}"), field, why };
            peer.check_address().map_err(at)?;
            self.is_another(peer).map_err(at)?;
            peer.check(self.asn).map_err(at)?;
        }
        self.addresses_differ()?;
        for (name, listen) in &self.ranges {
            let at = |(field, why)| ConfigError { at: format!("range {name}"), field, why };
            host_bits("range", listen.range).map_err(at)?;
            range("limit", listen.limit.into(), 1, 100_000, "").map_err(at)?;
            listen.template.check(self.asn).map_err(at)?;
        }
        self.ranges_are_apart()
    }

    fn listen_once(&self) -> Found {
        let mut seen = BTreeSet::new();
        for address in &self.listen {
            if !seen.insert(address) {
                return Err(("listen", Refusal::Twice { address: *address }));
            }
        }
        Ok(())
    }

    /// Whether a peer is not ourselves, as far as a configuration can tell.
    fn is_another(&self, peer: &PeerConfig) -> Found {
        let PeerAddress::Ip(address) = peer.address else { return Ok(()) };
        let address = address.to_canonical();
        let listens = self.listen.iter().any(|own| (own.ip().to_canonical(), own.port()) == (address, peer.port));
        let next_hops = [self.next_hop_v4.map(IpAddr::V4), self.next_hop_v6.map(IpAddr::V6)];
        if listens || next_hops.contains(&Some(address)) {
            return Err(("address", Refusal::OwnAddress { address }));
        }
        Ok(())
    }

    fn addresses_differ(&self) -> Result<(), ConfigError> {
        let mut seen = BTreeMap::new();
        for (name, peer) in &self.peers {
            // One link-local address may be on many links.
            let link = matches!(&peer.address, PeerAddress::Ip(IpAddr::V6(ip)) if ip.is_unicast_link_local());
            let place = (&peer.address, link.then_some(&peer.interface));
            if let Some(other) = seen.insert(place, name) {
                let why = Refusal::SameAddress { address: peer.address.to_string(), other: other.clone() };
                return Err(ConfigError { at: format!("peer {name}"), field: "address", why });
            }
        }
        Ok(())
    }

    fn ranges_are_apart(&self) -> Result<(), ConfigError> {
        for (at, (name, one)) in self.ranges.iter().enumerate() {
            for (other, two) in self.ranges.iter().take(at) {
                if one.range.contains(&two.range) || two.range.contains(&one.range) {
                    let (other, other_range) = (other.clone(), two.range);
                    let why = Refusal::Overlap { range: one.range, other, other_range };
                    return Err(ConfigError { at: format!("range {name}"), field: "range", why });
                }
            }
        }
        Ok(())
    }
}

/// Whether a system may have this number on a session.
fn usable(asn: Asn) -> Found {
    // RFC 6793, section 9, and RFC 7300, section 2.
    if asn == Asn::TRANS || asn.get() == u32::MAX {
        Err(("asn", Refusal::ReservedAsn { found: asn.get() }))
    } else {
        Ok(())
    }
}

fn host_bits(field: &'static str, prefix: ipnet::IpNet) -> Found {
    let network = prefix.trunc();
    if network == prefix { Ok(()) } else { Err((field, Refusal::HostBits { prefix, network })) }
}

impl Selection {
    fn check(&self) -> Found {
        range("selection.maxPaths", self.max_paths.into(), 1, 64, "")
    }
}

impl Restart {
    fn check(&self) -> Found {
        range("restart.timeSeconds", self.time_seconds.into(), 0, 4095, " s")?;
        range("restart.staleTimeSeconds", seconds(self.stale_time), 1, 86_400, " s")
    }
}

impl PeerConfig {
    fn check_address(&self) -> Found {
        match &self.address {
            PeerAddress::Interface(name) => interface("address", name),
            PeerAddress::Ip(ip) => {
                let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
                let address = ip.to_string();
                if ip.is_unspecified() || ip.is_multicast() || broadcast {
                    return Err(("address", Refusal::NotUnicast { address }));
                }
                let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
                if link_local && self.interface.is_none() {
                    return Err(("interface", Refusal::NeedsInterface { address }));
                }
                match self.local {
                    Some(local) if local.is_ipv4() != ip.is_ipv4() => Err(("local", Refusal::Versions { local })),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Everything but the address, which a range's template has none of.
    fn check(&self, own: Asn) -> Found {
        let internal = self.asn.is_internal(own);
        if let RemoteAsn::Exactly(asn) = self.asn {
            usable(asn)?;
        }
        range("port", self.port.into(), 1, 65_535, "")?;
        if let Some(name) = &self.interface {
            interface("interface", name)?;
        }
        match self.ttl {
            TtlSecurity::Usual => Ok(()),
            TtlSecurity::Multihop(hops) => range("ttl.multihop", hops.into(), 1, 255, ""),
            TtlSecurity::AtMost(hops) => range("ttl.atMost", hops.into(), 1, 254, ""),
        }?;
        self.hold.check()?;
        if let Some(text) = self.shutdown.as_ref().filter(|text| text.len() > MOST_TEXT_BYTES) {
            return Err(("shutdown", Refusal::LongText { bytes: text.len() }));
        }
        if self.families.is_empty() {
            return Err(("families", Refusal::Empty));
        }
        if let Some(Bfd { interval, multiplier }) = &self.bfd {
            range("bfd.interval", milliseconds(*interval), 10, 60_000, " ms")?;
            range("bfd.multiplier", (*multiplier).into(), 1, 255, "")?;
        }
        if self.reflector_client && !internal {
            return Err(("reflectorClient", Refusal::InternalOnly));
        }
        if self.role.is_some() && internal {
            return Err(("role", Refusal::ExternalOnly));
        }
        if self.strict_role && self.role.is_none() {
            return Err(("strictRole", Refusal::Needs { field: "role" }));
        }
        if self.private_asns == super::PrivateAsns::Remove && internal {
            return Err(("privateAsns", Refusal::ExternalOnly));
        }
        self.families_are_offered()?;
        for AddPath { send_max, .. } in self.add_path.values() {
            range("addPath.sendMax", (*send_max).into(), 1, 64, "")?;
        }
        for MaxPrefixes { limit, warn_percent, .. } in self.max_prefixes.values() {
            range("maxPrefixes.limit", (*limit).into(), 1, u32::MAX.into(), "")?;
            range("maxPrefixes.warnPercent", (*warn_percent).into(), 1, 100, "")?;
        }
        match &self.long_lived {
            Some(LongLived { stale_time_seconds }) => {
                let most = MOST_LONG_LIVED_SECONDS.into();
                range("longLived.staleTimeSeconds", (*stale_time_seconds).into(), 1, most, " s")
            }
            None => Ok(()),
        }
    }

    fn families_are_offered(&self) -> Found {
        let offered = |field, families: BTreeSet<Family>| match families.difference(&self.families).next() {
            Some(family) => Err((field, Refusal::OtherFamily { family: *family })),
            None => Ok(()),
        };
        offered("addPath", self.add_path.keys().copied().collect())?;
        offered("maxPrefixes", self.max_prefixes.keys().copied().collect())?;
        offered("defaultOriginate", self.default_originate.clone())
    }
}

impl Hold {
    fn check(&self) -> Found {
        if matches!(self.hold_seconds, 1 | 2) {
            return Err(("hold.holdSeconds", Refusal::HoldTime { found: self.hold_seconds }));
        }
        // Zero is no hold time at all, and so the longest.
        if self.hold_seconds != 0 && self.least_seconds > self.hold_seconds {
            let (found, most) = (self.least_seconds.into(), self.hold_seconds.into());
            return range("hold.leastSeconds", found, 0, most, " s");
        }
        range("hold.connectRetrySeconds", seconds(self.connect_retry), 1, 65_535, " s")?;
        match self.send_hold {
            // RFC 9687, section 4.4: a peer that is only slow must not lose its session to this timer.
            Some(time) => {
                let least = u64::from(self.hold_seconds).saturating_add(1);
                range("hold.sendHoldSeconds", seconds(time), least, 86_400, " s")
            }
            None => Ok(()),
        }
    }
}

fn interface(field: &'static str, name: &str) -> Found {
    let bad = |byte: u8| byte == b'/' || byte.is_ascii_whitespace() || byte == 0;
    let usual = (1..=MOST_NAME_BYTES).contains(&name.len()) && !name.bytes().any(bad) && name != "." && name != "..";
    if usual { Ok(()) } else { Err((field, Refusal::InterfaceName { name: name.to_owned() })) }
}
