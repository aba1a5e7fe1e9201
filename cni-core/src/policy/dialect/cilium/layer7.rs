//! Conditions on application protocols and on names. Never enforced without a proxy; the model fails them closed.

use crate::policy::dialect::Reader;
use crate::policy::dialect::fields::present;
use crate::policy::model::{DnsPattern, Effect, HttpRule, Layer7};
use serde_json::{Map, Value};
use std::sync::Arc;

/// What is wrong with a rule closes it.
const CLOSED: Effect = Effect::RuleClosed;

/// What an element of `toPorts` wants above its ports; `None` when it wants nothing.
pub(super) fn read(reader: &mut Reader<'_>, map: &Map<String, Value>, path: &str) -> Option<Layer7> {
    let rules = present(map, "rules").and_then(|value| rules(reader, value, &format!("{path}.rules")));
    // All of these need the proxy, too.
    let options = ["terminatingTLS", "originatingTLS", "serverNames", "listener"];
    let option = options.into_iter().find(|key| present(map, key).is_some());
    rules.or_else(|| option.map(|option| Layer7::Other(option.into())))
}

fn rules(reader: &mut Reader<'_>, value: &Value, path: &str) -> Option<Layer7> {
    let map = reader.item(CLOSED, value, path, &["http", "dns", "kafka", "l7", "l7proto"])?;
    let kinds = ["http", "dns", "kafka", "l7proto"];
    let found: Vec<&str> = kinds.into_iter().filter(|key| present(map, key).is_some()).collect();
    match found[..] {
        [] if present(map, "l7").is_some() => reader.missing(CLOSED, path, "l7proto", "the protocol that l7 is about"),
        [] => None,
        ["http"] => {
            let listed = reader.list(CLOSED, map, path, "http")?;
            Some(Layer7::Http(reader.each(listed, &format!("{path}.http"), http)))
        }
        ["dns"] => {
            let listed = reader.list(CLOSED, map, path, "dns")?;
            Some(Layer7::Dns(reader.each(listed, &format!("{path}.dns"), name)))
        }
        ["kafka"] => {
            reader.list(CLOSED, map, path, "kafka")?;
            Some(Layer7::Other("kafka".into()))
        }
        ["l7proto"] => {
            reader.list(CLOSED, map, path, "l7")?;
            let value = present(map, "l7proto")?;
            reader.text(CLOSED, value, &format!("{path}.l7proto")).map(|name| Layer7::Other(name.into()))
        }
        _ => {
            reader.problem(CLOSED, path, format!("has several of {}; write one of them", kinds.join(", ")));
            None
        }
    }
}

fn http(reader: &mut Reader<'_>, value: &Value, path: &str) -> Option<HttpRule> {
    let map = reader.item(CLOSED, value, path, &["path", "method", "host", "headers", "headerMatches"])?;
    let mut text = |key: &str| match present(map, key) {
        None => Some(None),
        Some(value) => {
            let text = reader.text(CLOSED, value, &format!("{path}.{key}"))?;
            Some((!text.is_empty()).then(|| Arc::from(text)))
        }
    };
    let (at, method, host) = (text("path"), text("method"), text("host"));
    let listed = reader.list(CLOSED, map, path, "headers")?;
    let mut headers = reader.each(listed, &format!("{path}.headers"), |reader, value, path| {
        reader.text(CLOSED, value, path).map(Arc::<str>::from)
    });
    let listed = reader.list(CLOSED, map, path, "headerMatches")?;
    headers.extend(reader.each(listed, &format!("{path}.headerMatches"), header));
    Some(HttpRule { path: at?, method: method?, host: host?, headers })
}

/// A header that must be there with a value.
fn header(reader: &mut Reader<'_>, value: &Value, path: &str) -> Option<Arc<str>> {
    let map = reader.item(CLOSED, value, path, &["name", "value", "mismatch", "secret"])?;
    if let Some(key) = ["mismatch", "secret"].into_iter().find(|key| present(map, key).is_some()) {
        let detail = "is not read here: requests are never changed, and secrets never looked up; write name and value";
        reader.problem(CLOSED, format!("{path}.{key}"), detail);
        return None;
    }
    let mut text = |key: &str| match present(map, key) {
        None => Some(""),
        Some(value) => reader.text(CLOSED, value, &format!("{path}.{key}")),
    };
    let (name, value) = (text("name")?, text("value")?);
    if name.is_empty() {
        return reader.missing(CLOSED, path, "name", "the header's name");
    }
    Some(if value.is_empty() { name.into() } else { format!("{name}: {value}").into() })
}

/// Reads `matchName` or `matchPattern`.
pub(super) fn name(reader: &mut Reader<'_>, value: &Value, path: &str) -> Option<DnsPattern> {
    let (key, value, path) = reader.one_of(CLOSED, value, path, &["matchName", "matchPattern"])?;
    let text = reader.text(CLOSED, value, &path)?;
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let pattern = key == "matchPattern";
    let right =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') || (pattern && byte == b'*');
    if name.is_empty() || !name.bytes().all(right) {
        let more = if pattern { ", and * for any letters of a label" } else { "" };
        reader.problem(CLOSED, path, format!("{text:?} is no name; write letters, digits, '-', '_', '.'{more}"));
        return None;
    }
    Some(match name.strip_prefix("**.") {
        Some(below) if !below.is_empty() && !below.contains('*') => DnsPattern::Below(below.into()),
        _ if pattern => DnsPattern::Pattern(name.into()),
        _ => DnsPattern::Name(name.into()),
    })
}
