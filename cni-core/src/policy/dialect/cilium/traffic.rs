//! Ports and ICMP messages of a rule. Never who talks to whom.

use super::layer7;
use crate::policy::dialect::Reader;
use crate::policy::dialect::fields::present;
use crate::policy::dialect::standard::{Port, traffic_of};
use crate::policy::model::{Action, Effect, Icmp, Layer7, PortRange, Protocol, Traffic};
use serde_json::{Map, Value};

/// What is wrong with a rule closes it.
const CLOSED: Effect = Effect::RuleClosed;

/// The most ports of one element of `toPorts`, and the most messages of one of `icmps`.
const MOST: usize = 40;

/// One element of `toPorts`.
pub(super) struct PortRule {
    pub(super) path: String,
    pub(super) traffic: Vec<Traffic>,
    pub(super) layer7: Option<Layer7>,
}

/// Which protocols a port is of.
#[derive(Debug, Clone, Copy)]
enum Protocols {
    /// All three that policies know.
    Any,
    One(Protocol),
    /// One that has no ports.
    Whole(Protocol),
    /// Its ports would be types of messages.
    Icmp,
}

const PROTOCOLS: [(&str, Protocols); 8] = [
    ("TCP", Protocols::One(Protocol::TCP)),
    ("UDP", Protocols::One(Protocol::UDP)),
    ("SCTP", Protocols::One(Protocol::SCTP)),
    ("ANY", Protocols::Any),
    ("VRRP", Protocols::Whole(Protocol(112))),
    ("IGMP", Protocols::Whole(Protocol(2))),
    ("ICMP", Protocols::Icmp),
    ("ICMPv6", Protocols::Icmp),
];

/// Reads `toPorts`; `None` when nobody wrote it, or an empty list, which is the same.
pub(super) fn ports(
    reader: &mut Reader<'_>,
    action: Action,
    map: &Map<String, Value>,
    path: &str,
) -> Option<Vec<PortRule>> {
    let listed = reader.list(CLOSED, map, path, "toPorts").unwrap_or_default();
    let known: &[&str] = match action {
        Action::Allow => &["ports", "rules", "terminatingTLS", "originatingTLS", "serverNames", "listener"],
        _ => &["ports"],
    };
    let rules = reader.each(listed, &format!("{path}.toPorts"), |reader, value, path| {
        let map = reader.item(CLOSED, value, path, known)?;
        let listed = reader.list(CLOSED, map, path, "ports")?;
        // Without ports, a later version may mean all of them, and an earlier none.
        reader.count(CLOSED, listed, &format!("{path}.ports"), 1..=MOST);
        let ports = reader.each(listed, &format!("{path}.ports"), port);
        let layer7 = layer7::read(reader, map, path);
        Some(PortRule { path: path.to_owned(), traffic: traffic_of(ports.concat()), layer7 })
    });
    (!listed.is_empty()).then_some(rules)
}

/// Reads a port, for each of its protocols.
fn port(reader: &mut Reader<'_>, value: &Value, path: &str) -> Option<Vec<(Option<Protocol>, Option<Port>)>> {
    let map = reader.item(CLOSED, value, path, &["port", "endPort", "protocol"])?;
    let protocols = match present(map, "protocol") {
        None => Some(Protocols::Any),
        Some(value) => reader.word(CLOSED, value, &format!("{path}.protocol"), &PROTOCOLS),
    };
    let port = number_or_name(reader, map, path);
    let (protocols, port) = (protocols?, port?);
    let protocols = match protocols {
        Protocols::Any => vec![Protocol::TCP, Protocol::UDP, Protocol::SCTP],
        Protocols::One(protocol) => vec![protocol],
        Protocols::Whole(protocol) if port.is_none() => vec![protocol],
        Protocols::Whole(_) => {
            reader.problem(CLOSED, format!("{path}.port"), "stands with a protocol that has none; write \"0\"");
            return None;
        }
        Protocols::Icmp => {
            reader.problem(CLOSED, format!("{path}.protocol"), "has no ports; write icmps with types instead");
            return None;
        }
    };
    Some(protocols.into_iter().map(|protocol| (Some(protocol), port.clone())).collect())
}

/// The port: outer `None` when it cannot be read, inner `None` for 0, which is all ports.
fn number_or_name(reader: &mut Reader<'_>, map: &Map<String, Value>, path: &str) -> Option<Option<Port>> {
    let at = format!("{path}.port");
    let Some(value) = present(map, "port") else {
        return reader.missing(CLOSED, path, "port", "a number in quotes, \"0\" for all, or a name");
    };
    let text = reader.text(CLOSED, value, &at)?;
    let last = match present(map, "endPort") {
        None => None,
        // Zero is the same as nothing.
        Some(value) => Some(reader.number(CLOSED, value, &format!("{path}.endPort"), 0..=i64::from(u16::MAX))?),
    };
    let last = last.filter(|last| *last > 0);
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        if last.is_some() {
            let detail = "stands with a name of a port; a range begins at a number";
            reader.problem(CLOSED, format!("{path}.endPort"), detail);
            return None;
        }
        return reader.port_name(CLOSED, &text.to_ascii_lowercase(), &at).map(Some);
    }
    match text.parse::<i64>() {
        // With zeros before it, Cilium takes it for an octal number.
        Ok(0) if text == "0" && last.is_none() => Some(None),
        Ok(first) if !text.starts_with('0') => {
            reader.ports(CLOSED, first, last, path).map(|range: PortRange| Some(Port::Range(range)))
        }
        _ => {
            let detail = format!("{text:?} is no port; write \"1\" to \"65535\", or \"0\" without endPort for all");
            reader.problem(CLOSED, at, detail);
            None
        }
    }
}

/// Reads `icmps`; `None` when nobody wrote it, or an empty list, which is the same.
pub(super) fn messages(reader: &mut Reader<'_>, map: &Map<String, Value>, path: &str) -> Option<Vec<Traffic>> {
    let listed = reader.list(CLOSED, map, path, "icmps").unwrap_or_default();
    let messages = reader.each(listed, &format!("{path}.icmps"), |reader, value, path| {
        let map = reader.item(CLOSED, value, path, &["fields"])?;
        let listed = reader.list(CLOSED, map, path, "fields")?;
        reader.count(CLOSED, listed, &format!("{path}.fields"), 1..=MOST);
        Some(reader.each(listed, &format!("{path}.fields"), message))
    });
    (!listed.is_empty()).then(|| messages.concat())
}

/// Names of types of ICMP messages. RFC 792 and those after it.
const ICMP_TYPES: [(&str, u8); 14] = [
    ("EchoReply", 0),
    ("DestinationUnreachable", 3),
    ("Redirect", 5),
    ("Echo", 8),
    ("EchoRequest", 8),
    ("RouterAdvertisement", 9),
    ("RouterSelection", 10),
    ("TimeExceeded", 11),
    ("ParameterProblem", 12),
    ("Timestamp", 13),
    ("TimestampReply", 14),
    ("Photuris", 40),
    ("ExtendedEchoRequest", 42),
    ("ExtendedEchoReply", 43),
];

/// Names of types of ICMPv6 messages. RFC 4443 and those after it.
const ICMPV6_TYPES: [(&str, u8); 27] = [
    ("DestinationUnreachable", 1),
    ("PacketTooBig", 2),
    ("TimeExceeded", 3),
    ("ParameterProblem", 4),
    ("EchoRequest", 128),
    ("EchoReply", 129),
    ("MulticastListenerQuery", 130),
    ("MulticastListenerReport", 131),
    ("MulticastListenerDone", 132),
    ("RouterSolicitation", 133),
    ("RouterAdvertisement", 134),
    ("NeighborSolicitation", 135),
    ("NeighborAdvertisement", 136),
    ("RedirectMessage", 137),
    ("RouterRenumbering", 138),
    ("ICMPNodeInformationQuery", 139),
    ("ICMPNodeInformationResponse", 140),
    ("InverseNeighborDiscoverySolicitation", 141),
    ("InverseNeighborDiscoveryAdvertisement", 142),
    ("HomeAgentAddressDiscoveryRequest", 144),
    ("HomeAgentAddressDiscoveryReply", 145),
    ("MobilePrefixSolicitation", 146),
    ("MobilePrefixAdvertisement", 147),
    ("DuplicateAddressRequestCodeSuffix", 157),
    ("DuplicateAddressConfirmationCodeSuffix", 158),
    ("ExtendedEchoRequest", 160),
    ("ExtendedEchoReply", 161),
];

fn message(reader: &mut Reader<'_>, value: &Value, path: &str) -> Option<Traffic> {
    let map = reader.item(CLOSED, value, path, &["family", "type"])?;
    let families = [("IPv4", false), ("IPv6", true)];
    let v6 = match present(map, "family") {
        None => Some(false),
        Some(value) => reader.word(CLOSED, value, &format!("{path}.family"), &families),
    }?;
    let at = format!("{path}.type");
    let kind = match present(map, "type") {
        None => reader.missing(CLOSED, path, "type", "a number from 0 to 255, or a name as in EchoRequest"),
        Some(Value::String(text)) if text.parse::<u8>().is_ok() => text.parse().ok(),
        Some(value @ Value::String(_)) => reader.word(CLOSED, value, &at, if v6 { &ICMPV6_TYPES } else { &ICMP_TYPES }),
        Some(value) => reader.number(CLOSED, value, &at, 0..=u8::MAX),
    }?;
    let protocol = if v6 { Protocol::ICMPV6 } else { Protocol::ICMP };
    Some(Traffic { icmp: Some(Icmp { kind, code: None }), ..Traffic::of(protocol) })
}
