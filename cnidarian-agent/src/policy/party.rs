//! Destinations and traffic as a person writes them on a command line. Never looked up here.

use super::error::PolicyError;
use cni_core::policy::evaluate::{Party, PortChoice};
use cni_core::policy::model::Protocol;
use std::net::IpAddr;

fn wrong(text: &str, what: &'static str, right: &'static str) -> PolicyError {
    PolicyError::Text { text: text.to_owned(), what, right }
}

fn port(text: &str) -> Option<PortChoice> {
    match text.parse() {
        Ok(0) => None,
        Ok(number) => Some(PortChoice::Number(number)),
        Err(_) => is_name(text).then(|| PortChoice::Name(text.into())),
    }
}

/// Letters, digits and what may stand between them; a letter among them.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.bytes().all(allowed) && text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// The end, the port and the protocol of `shop/web:80/TCP`.
pub(super) fn target(text: &str) -> Result<(Party, PortChoice, Protocol), PolicyError> {
    let right = "NAMESPACE/POD:PORT[/PROTOCOL], ADDRESS:PORT[/PROTOCOL] (IPv6 in brackets), or .../ICMP without a port";
    let not_that = || wrong(text, "destination", right);
    // What follows the last slash is a protocol if it is one and something stands before it.
    let (rest, protocol) = match text.rsplit_once('/').map(|(rest, last)| (rest, last.parse::<Protocol>())) {
        Some((rest, Ok(protocol))) if rest.contains(['/', ':']) || rest.parse::<IpAddr>().is_ok() => (rest, protocol),
        _ => (text, Protocol::TCP),
    };
    if !protocol.has_ports() {
        return Ok((rest.parse().map_err(|_| not_that())?, PortChoice::Number(0), protocol));
    }
    let (name, number) = rest.rsplit_once(':').ok_or_else(not_that)?;
    if rest.parse::<IpAddr>().is_ok() {
        return Err(not_that());
    }
    Ok((name.parse().map_err(|_| not_that())?, port(number).ok_or_else(not_that)?, protocol))
}

/// Traffic alone: `80`, `53/UDP`, `ICMP`.
pub(super) fn traffic(text: &str) -> Result<(PortChoice, Protocol), PolicyError> {
    let not_that = || wrong(text, "traffic", "a port as in 80, 53/UDP or http/TCP, or ICMP");
    if text.parse::<u8>().is_err()
        && let Ok(protocol) = text.parse::<Protocol>()
        && !protocol.has_ports()
    {
        return Ok((PortChoice::Number(0), protocol));
    }
    let (number, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
    let protocol: Protocol = protocol.parse().map_err(|_| not_that())?;
    if !protocol.has_ports() {
        return Err(not_that());
    }
    Ok((port(number).ok_or_else(not_that)?, protocol))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cni_core::policy::model::WorkloadId;

    #[test]
    fn destinations_are_read_as_people_write_them() {
        let web = || Party::Workload(WorkloadId::pod("shop", "web"));
        let address = |text: &str| Party::Address(text.parse().unwrap());
        let (number, name) = (PortChoice::Number, |name: &str| PortChoice::Name(name.into()));
        for (text, wanted) in [
            ("shop/web:80", (web(), number(80), Protocol::TCP)),
            ("shop/web:http/tcp", (web(), name("http"), Protocol::TCP)),
            ("shop/web:53/UDP", (web(), number(53), Protocol::UDP)),
            ("shop/web/ICMP", (web(), number(0), Protocol::ICMP)),
            ("192.0.2.7:443", (address("192.0.2.7"), number(443), Protocol::TCP)),
            ("192.0.2.7/ICMP", (address("192.0.2.7"), number(0), Protocol::ICMP)),
            ("[2001:db8::7]:443/SCTP", (address("2001:db8::7"), number(443), Protocol::SCTP)),
            ("node/n1:10250", (Party::Workload(WorkloadId::node("n1")), number(10250), Protocol::TCP)),
        ] {
            assert_eq!(target(text).unwrap(), wanted, "{text}");
        }
        for text in ["shop/web", "web:80", "shop/web:0", "shop/web:70000", "2001:db8::7:443", "shop/web:80/ICMPX", ""] {
            assert!(target(text).is_err(), "{text}");
        }
        assert_eq!(traffic("53/UDP").unwrap(), (number(53), Protocol::UDP));
        assert_eq!(traffic("6").unwrap(), (number(6), Protocol::TCP));
        assert_eq!(traffic("icmp").unwrap(), (number(0), Protocol::ICMP));
    }
}
