//! `protocols` of v1alpha2 and `ports` of v1alpha1. Never empty: to be about all traffic, a rule leaves them out.

use super::Api;
use super::rule::CLOSED;
use crate::policy::dialect::Reader;
use crate::policy::dialect::fields::present;
use crate::policy::dialect::standard::{Port, traffic_of};
use crate::policy::model::{PortRange, Protocol, Traffic};
use serde_json::{Map, Value};

/// What the named port is called, in v1alpha1 and v1alpha2.
pub(super) const NAMED_PORT: [&str; 2] = ["namedPort", "destinationNamedPort"];

/// Reads what traffic a rule is about; `None` when that cannot be read.
pub(super) fn read(reader: &mut Reader<'_>, api: Api, map: &Map<String, Value>, path: &str) -> Option<Vec<Traffic>> {
    let key = api.traffic_key();
    if present(map, key).is_none() {
        return Some(vec![Traffic::any()]);
    }
    let mark = reader.mark();
    let listed = reader.list(CLOSED, map, path, key)?;
    let path = format!("{path}.{key}");
    reader.count(CLOSED, listed, &path, 1..=api.most());
    let entries = reader.each(listed, &path, if api == Api::Cluster { protocol } else { port });
    reader.sound_since(mark).then(|| traffic_of(entries))
}

type Entry = (Option<Protocol>, Option<Port>);

/// An entry of v1alpha2.
fn protocol(reader: &mut Reader<'_>, value: &Value, path: &str) -> Option<Entry> {
    let known = ["tcp", "udp", "sctp", NAMED_PORT[1]];
    let (key, value, path) = reader.one_of(CLOSED, value, path, &known)?;
    let protocol = match key {
        "tcp" => Protocol::TCP,
        "udp" => Protocol::UDP,
        "sctp" => Protocol::SCTP,
        _ => return name(reader, value, &path),
    };
    let map = reader.item(CLOSED, value, &path, &["destinationPort"])?;
    let Some(value) = present(map, "destinationPort") else {
        return reader.missing(
            CLOSED,
            &path,
            "destinationPort",
            "number, or for all ports range: {start: 1, end: 65535}",
        );
    };
    let path = format!("{path}.destinationPort");
    let (key, value, path) = reader.one_of(CLOSED, value, &path, &["number", "range"])?;
    let range = match key {
        "number" => reader.number(CLOSED, value, &path, 1..=u16::MAX).map(PortRange::one),
        _ => {
            let map = reader.item(CLOSED, value, &path, &["start", "end"])?;
            reader.start_and_end(CLOSED, map, &path, true)
        }
    };
    Some((Some(protocol), Some(Port::Range(range?))))
}

/// An entry of v1alpha1.
fn port(reader: &mut Reader<'_>, value: &Value, path: &str) -> Option<Entry> {
    let (key, value, path) = reader.one_of(CLOSED, value, path, &["portNumber", "portRange", NAMED_PORT[0]])?;
    let (protocol, range) = match key {
        "portNumber" => {
            let map = reader.item(CLOSED, value, &path, &["protocol", "port"])?;
            let port = match present(map, "port") {
                None => reader.missing(CLOSED, &path, "port", "a port from 1 to 65535"),
                Some(value) => reader.number(CLOSED, value, &format!("{path}.port"), 1..=u16::MAX),
            };
            (reader.protocol(CLOSED, map, &path), port.map(PortRange::one))
        }
        "portRange" => {
            let map = reader.item(CLOSED, value, &path, &["protocol", "start", "end"])?;
            (reader.protocol(CLOSED, map, &path), reader.start_and_end(CLOSED, map, &path, false))
        }
        _ => return name(reader, value, &path),
    };
    Some((Some(protocol?), Some(Port::Range(range?))))
}

/// A port's name, of whatever protocol.
fn name(reader: &mut Reader<'_>, value: &Value, path: &str) -> Option<Entry> {
    let text = reader.text(CLOSED, value, path)?;
    Some((None, Some(reader.port_name(CLOSED, text, path)?)))
}
