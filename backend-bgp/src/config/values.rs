//! Single values of the section: what is wrong with one, and what would be right. Never of several together.

use super::{NodeSelector, SECTION};
use bgp_speaker::types::{Asn, Family, RouterId};
use cni_core::strict::StrictError;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::sync::Arc;

const ASN: &str = "an AS number from 1 to 4294967295";
const ROUTER_ID: &str = "a BGP identifier like 192.0.2.1, not 0.0.0.0";

pub(super) type Result<T> = std::result::Result<T, StrictError>;

pub(super) fn wrong(path: &str, value: impl fmt::Display, right: &str) -> StrictError {
    StrictError { path: path.to_owned(), problem: format!("is {value}; write {right}") }
}

pub(super) fn missing(path: &str, why: &str) -> StrictError {
    StrictError { path: path.to_owned(), problem: format!("is missing: {why}") }
}

pub(super) fn at(key: &str) -> String {
    format!("{SECTION}.{key}")
}

pub(super) fn asn(path: &str, number: u32) -> Result<Asn> {
    Asn::new(number).ok_or_else(|| wrong(path, number, ASN))
}

pub(super) fn router_id(path: &str, id: Ipv4Addr) -> Result<RouterId> {
    RouterId::new(id).ok_or_else(|| wrong(path, id, ROUTER_ID))
}

pub(super) fn port(path: &str, number: u16) -> Result<NonZeroU16> {
    NonZeroU16::new(number).ok_or_else(|| wrong(path, number, "a port from 1 to 65535"))
}

pub(super) fn families(path: &str, given: &[Family]) -> Result<Vec<Family>> {
    let families: BTreeSet<Family> = given.iter().copied().collect();
    if families.is_empty() || families.len() != given.len() {
        let names: Vec<String> = given.iter().map(ToString::to_string).collect();
        let right = "a list of ipv4 and ipv6, each at most once, not empty";
        return Err(wrong(path, format_args!("[{}]", names.join(", ")), right));
    }
    Ok(families.into_iter().collect())
}

pub(super) fn selector(path: &str, key: &str, value: Option<&Value>) -> Result<NodeSelector> {
    value.map_or(Ok(NodeSelector::All), |value| NodeSelector::read(&format!("{path}.{key}"), value))
}

pub(super) fn name(path: &str, name: &str) -> Result<Arc<str>> {
    let fine = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if fine {
        return Ok(name.into());
    }
    let right = "1 to 63 letters, digits, `-`, `_` or `.`";
    Err(wrong(&format!("{path}.name"), format_args!("{name:?}"), right))
}
