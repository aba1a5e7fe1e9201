//! Records by who talks to whom and what was decided. Never a single packet.

use super::record::{By, End, Flow, Kind, Reason, Verdict};
use crate::policy::model::{Direction, Protocol};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What records have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pair {
    /// Who sends: `shop/web`, `node/n1`, `192.0.2.7`.
    pub from: Arc<str>,
    /// To whom.
    pub to: Arc<str>,
    /// The protocol.
    #[serde(serialize_with = "protocol")]
    pub protocol: Option<Protocol>,
    /// The destination's port.
    pub port: Option<u16>,
    /// At which end.
    pub direction: Option<Direction>,
    /// What was decided.
    pub verdict: Verdict,
    /// Why it was dropped.
    pub reason: Option<Reason>,
    /// What decided.
    pub by: By,
    /// Packets that were chosen by chance, one of so many: they are no decisions, and may be in another pair's volume as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampled: Option<u32>,
}

fn protocol<S: Serializer>(protocol: &Option<Protocol>, out: S) -> Result<S::Ok, S::Error> {
    protocol.map(|protocol| protocol.to_string()).serialize(out)
}

/// How much of it there was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Decisions: records, but those that tell that a connection is over, or are sampled.
    pub flows: u64,
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The time of the last, in microseconds since the Unix epoch.
    pub last_unix_us: u64,
}

/// Records, added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pairs: BTreeMap<Pair, Volume>,
}

impl Summary {
    /// One more.
    pub fn add(&mut self, flow: &Flow) {
        let pair = Pair {
            from: shown(&flow.source),
            to: shown(&flow.destination),
            protocol: flow.protocol,
            port: flow.destination.port,
            direction: flow.direction,
            verdict: flow.verdict,
            reason: flow.reason,
            by: flow.by.clone(),
            sampled: flow.sampled,
        };
        let volume = self.pairs.entry(pair).or_default();
        volume.flows += u64::from(flow.is_decision());
        volume.packets += flow.packets;
        volume.bytes += flow.bytes;
        volume.last_unix_us = volume.last_unix_us.max(flow.time_unix_us);
    }

    /// The pairs, those with most decisions first.
    #[must_use]
    pub fn by_volume(&self) -> Vec<(&Pair, Volume)> {
        let mut pairs: Vec<_> = self.pairs.iter().map(|(pair, volume)| (pair, *volume)).collect();
        pairs.sort_by_key(|(_, volume)| std::cmp::Reverse(volume.flows));
        pairs
    }
}

/// An end in a word: its name, else its address.
fn shown(end: &End) -> Arc<str> {
    match (end.kind, &end.namespace, &end.name, end.address) {
        (Some(Kind::Pod), Some(namespace), Some(name), _) => format!("{namespace}/{name}").into(),
        (Some(Kind::Node), _, Some(name), _) => format!("node/{name}").into(),
        (.., Some(address)) => address.to_string().into(),
        _ => "unknown".into(),
    }
}
