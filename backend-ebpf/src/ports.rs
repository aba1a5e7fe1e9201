//! Ports for masquerading by programs: none that Linux gives to sockets of the node by itself. Never changes a setting.

use crate::config::{Config, Engine};
use cni_core::backend::{Error, ErrorKind, Result};
use net_linux::sysctl;
use std::ops::RangeInclusive;

/// Settings of both families, in spite of their name.
const GIVEN: &str = "net/ipv4/ip_local_port_range";
const RESERVED: &str = "net/ipv4/ip_local_reserved_ports";

/// Refuses ports that the network namespace of the calling thread gives to its own sockets.
pub(crate) fn refuse_taken(config: &Config) -> Result<()> {
    if config.masquerade == Engine::Nftables {
        return Ok(());
    }
    let (given, reserved) = (sysctl::read(GIVEN)?, sysctl::read(RESERVED)?);
    let (first, count) = config.masquerade_ports;
    match taken(first..=first.saturating_add(count - 1), &given, &reserved) {
        None => Ok(()),
        Some(port) => {
            let detail = format!(
                "has {port}, which the node gives to its own sockets: net.ipv4.ip_local_port_range is {}; choose others, or add \
                 them to net.ipv4.ip_local_reserved_ports",
                given.split_whitespace().collect::<Vec<_>>().join("-")
            );
            let error = Error::new(ErrorKind::Invalid, "open", "backend ebpf", detail);
            Err(Error { field: Some("masqueradePorts"), ..error })
        }
    }
}

/// The first port that is given to sockets and not reserved. What cannot be read is taken as all ports, and as none reserved.
fn taken(mut ports: RangeInclusive<u16>, given: &str, reserved: &str) -> Option<u16> {
    let ends: Vec<u16> = given.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let given = if let [first, last] = ends[..] { first..=last } else { 0..=u16::MAX };
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some(first.trim().parse::<u16>().ok()?..=last.trim().parse::<u16>().ok()?)
    };
    let reserved: Vec<RangeInclusive<u16>> = reserved.split(',').filter_map(range).collect();
    ports.find(|port| given.contains(port) && !reserved.iter().any(|range| range.contains(port)))
}

#[cfg(test)]
mod tests {
    use super::taken;

    #[test]
    fn a_port_is_taken_when_sockets_get_it_and_it_is_not_reserved() {
        let usual = "32768\t60999";
        assert_eq!(taken(61_000..=65_535, usual, ""), None);
        assert_eq!(taken(1024..=32_767, usual, ""), None);
        assert_eq!(taken(60_000..=65_535, usual, ""), Some(60_000));
        assert_eq!(taken(60_000..=65_535, usual, "8080,60000-60999"), None);
        assert_eq!(taken(60_000..=65_535, usual, "60000-60500"), Some(60_501));
        assert_eq!(taken(61_000..=61_001, "what is this", ""), Some(61_000));
    }
}
