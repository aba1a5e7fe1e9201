//! What people ask of the speaker. Never changes anything, and nothing depends on an answer.

use crate::table::Table;
use crate::task::setup::{Named, Problem};
use async_trait::async_trait;
use bgp_speaker::export::Advertisement;
use bgp_speaker::rib::{Explanation, PathState};
use bgp_speaker::speaker::{PeerStatus, Speaker};
use bgp_speaker::types::{Attributes, Family};
use cni_core::backend::{Error, ErrorKind, Gauge, Inspect, Result};
use ipnet::IpNet;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Instant;

const QUESTIONS: [(&str, &str); 5] = [
    ("bgp advertised", "PEER: what a peer is told"),
    (
        "bgp explain",
        "PREFIX [PEER]: all paths of a prefix, or of the longest that holds it, which won and why; with a peer: why it is told, or not",
    ),
    ("bgp peers", "peers, the state of their sessions, and why they are down"),
    ("bgp received", "PEER: what a peer has told, before any policy"),
    ("bgp routes", "the best path of each prefix"),
];

/// Answers.
pub(crate) struct Inspector {
    pub(crate) table: Table,
}

#[async_trait]
impl Inspect for Inspector {
    fn questions(&self) -> &'static [(&'static str, &'static str)] {
        &QUESTIONS
    }

    async fn ask(&self, question: &str, arguments: &[String]) -> Result<Value> {
        match (question, arguments) {
            ("bgp peers", []) => {
                let problems = self.table.complaints().problems;
                self.with(move |speaker, now| Value::Array(rows(speaker, now, &problems))).await
            }
            ("bgp routes", []) => self.with(|speaker, _| routes(speaker)).await,
            ("bgp received", [peer]) => self.of_peer(peer, received).await,
            ("bgp advertised", [peer]) => self.of_peer(peer, advertised).await,
            ("bgp explain", [prefix]) => {
                let prefix = read_prefix(prefix)?;
                let found = self.with(move |speaker, _| explain(speaker, prefix)).await?;
                let missing = "nobody announces it, nor a prefix that holds it";
                found.ok_or_else(|| Error::new(ErrorKind::Missing, "explain", prefix, missing))
            }
            ("bgp explain", [prefix, peer]) => {
                let prefix = read_prefix(prefix)?;
                let told = move |speaker: &Speaker, peer: &PeerStatus| {
                    let (found, prefix_match) = match nearest(speaker, prefix) {
                        Some((found, _)) => (found, how(prefix, found)),
                        None => (prefix, "none: nobody announces it".to_owned()),
                    };
                    told(&speaker.explain_to(peer.id, &found), found, &prefix_match)
                };
                self.of_peer(peer, told).await
            }
            _ => {
                let known: Vec<String> = QUESTIONS.iter().map(|(name, about)| format!("{name} {about}")).collect();
                let detail = format!("there are: {}", known.join("; "));
                Err(Error::new(ErrorKind::Unsupported, "ask", question, detail))
            }
        }
    }

    async fn gauges(&self) -> Vec<Gauge> {
        let problems = self.table.complaints().problems;
        self.with(move |speaker, _| gauges(speaker, &problems)).await.unwrap_or_default()
    }
}

impl Inspector {
    async fn with<T: Send + 'static>(&self, work: impl FnOnce(&Speaker, Instant) -> T + Send + 'static) -> Result<T> {
        let away = || {
            let failure = self.table.complaints().failure;
            let why = failure.unwrap_or_else(|| "the first whole state is not there".to_owned());
            Error::new(ErrorKind::Busy, "ask", "bgp speaker", format_args!("it has not begun yet: {why}"))
        };
        let speaker = self.table.speaker().ok_or_else(away)?;
        speaker.with(move |core, now, _| work(core, now)).await.map_err(|_| away())
    }

    async fn of_peer(
        &self,
        name: &str,
        work: impl FnOnce(&Speaker, &PeerStatus) -> Value + Send + 'static,
    ) -> Result<Value> {
        let wanted = name.to_owned();
        let found = self
            .with(move |speaker, _| {
                let name = |name: &str| speaker.peer(name);
                let peer = name(&wanted).or_else(|| name(&format!("node/{wanted}")));
                peer.map(|peer| work(speaker, &peer))
            })
            .await?;
        let missing = "there is no such peer; `cnidarian bgp peers` lists them";
        found.ok_or_else(|| Error::new(ErrorKind::Missing, "ask", format_args!("peer {name}"), missing))
    }
}

fn read_prefix(text: &str) -> Result<IpNet> {
    let wrong =
        || Error::invalid("prefix", "prefix", format_args!("{text:?} is none; write 10.1.2.0/26 or an address"));
    text.parse().or_else(|_| text.parse().map(|address: std::net::IpAddr| IpNet::from(address))).map_err(|_| wrong())
}

fn rows(speaker: &Speaker, now: Instant, problems: &[Problem]) -> Vec<Value> {
    let problem = |peer: &PeerStatus| {
        problems.iter().find(|problem| match &problem.of {
            Named::Peer(name) => *name == peer.name,
            Named::Range(name) => peer.range.as_ref() == Some(name),
            Named::Speaker => false,
        })
    };
    let row = |peer: PeerStatus| {
        json!({
            "peer": &*peer.name,
            "address": peer.address.map(|address| address.to_string()),
            "state": format!("{:?}", peer.state),
            "seconds": now.saturating_duration_since(peer.since).as_secs(),
            "received": peer.received.iter().sum::<u32>(),
            "stale": peer.stale.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "bfd": peer.bfd.map(|up| if up { "up" } else { "down" }),
            "last": peer.last.as_ref().map(ToString::to_string),
            "problem": problem(&peer).map(|problem| problem.why.to_string()),
        })
    };
    speaker.peers().into_iter().map(row).chain(problems.iter().filter(|problem| !problem.kept).map(left_out)).collect()
}

/// A peer or range that the speaker does not have, with the columns of the others.
fn left_out(problem: &Problem) -> Value {
    json!({
        "peer": problem.of.name(),
        "address": problem.place,
        "state": if problem.of == Named::Speaker { "problem" } else { "left out" },
        "seconds": null,
        "received": 0,
        "stale": [],
        "bfd": null,
        "last": null,
        "problem": problem.why.to_string(),
    })
}

/// What a route carries, for people.
fn carried(attributes: &Attributes) -> Value {
    let standard = attributes.communities.iter().map(ToString::to_string);
    let extended = attributes.extended.iter().map(ToString::to_string);
    let large = attributes.large.iter().map(ToString::to_string);
    let next_hop = attributes.next_hop.address();
    json!({
        "next hop": if next_hop.is_unspecified() { "this node".to_owned() } else { next_hop.to_string() },
        "path": attributes.as_path.to_string(),
        "local pref": attributes.local_pref,
        "med": attributes.med,
        "communities": standard.chain(extended).chain(large).collect::<Vec<_>>(),
    })
}

fn route(prefix: IpNet, attributes: &Attributes) -> Value {
    let mut row = carried(attributes);
    row["prefix"] = prefix.to_string().into();
    row
}

fn routes(speaker: &Speaker) -> Value {
    let all = Family::ALL.into_iter().flat_map(|family| speaker.routes(family));
    all.map(|(prefix, _, attributes)| route(prefix, &attributes)).collect()
}

fn received(speaker: &Speaker, peer: &PeerStatus) -> Value {
    let all = Family::ALL.into_iter().flat_map(|family| speaker.received(peer.id, family));
    let row = |(prefix, path, attributes): bgp_speaker::speaker::RouteStatus| {
        let mut row = route(prefix, &attributes);
        row["refused"] = speaker.rib().refused(peer.id, &prefix, path).map(|why| format!("{why:?}")).into();
        row
    };
    all.map(row).collect()
}

fn advertised(speaker: &Speaker, peer: &PeerStatus) -> Value {
    let all = Family::ALL.into_iter().flat_map(|family| speaker.advertised(peer.id, family));
    all.map(|(nlri, attributes)| route(nlri.prefix, &attributes)).collect()
}

/// The prefix itself where somebody announces it, else the longest that holds it.
fn nearest(speaker: &Speaker, prefix: IpNet) -> Option<(IpNet, Explanation)> {
    std::iter::successors(Some(prefix.trunc()), IpNet::supernet)
        .find_map(|prefix| Some((prefix, speaker.explain(&prefix)?)))
}

/// How what was found fits what was asked for.
fn how(asked: IpNet, found: IpNet) -> String {
    if asked.trunc() == found { "exact".to_owned() } else { format!("longest that holds {}", shown(asked)) }
}

/// An address as an address.
fn shown(prefix: IpNet) -> String {
    let is_address = prefix.prefix_len() == prefix.max_prefix_len();
    if is_address { prefix.addr().to_string() } else { prefix.to_string() }
}

fn explain(speaker: &Speaker, asked: IpNet) -> Option<Value> {
    let (prefix, found) = nearest(speaker, asked)?;
    let names: BTreeMap<_, _> = speaker.peers().into_iter().map(|peer| (peer.id, peer.name)).collect();
    let from = |source: bgp_speaker::rib::Source| match source.peer() {
        Some(peer) => names.get(&peer).map_or_else(|| peer.to_string(), ToString::to_string),
        None => "this node".to_owned(),
    };
    let sources: Vec<String> = found.paths.iter().map(|path| from(path.source)).collect();
    let path = |(at, path): (usize, &bgp_speaker::rib::ExplainedPath)| {
        let mut row = carried(path.attributes.as_ref().unwrap_or(&path.received));
        row["prefix"] = prefix.to_string().into();
        row["match"] = how(asked, prefix).into();
        row["from"] = sources.get(at).cloned().into();
        row["stale"] = path.is_stale.into();
        row["verdict"] = match path.state {
            PathState::Best => "best".to_owned(),
            PathState::Shares => "shares the load with the best".to_owned(),
            PathState::Lost { step, to } => {
                format!("lost to {}: {step}", sources.get(to).map_or("another", String::as_str))
            }
            PathState::Refused(why) => format!("refused: {why:?}"),
            PathState::Unresolved => "no way to its next hop".to_owned(),
        }
        .into();
        row
    };
    Some(found.paths.iter().enumerate().map(path).collect())
}

fn told(found: &Advertisement, prefix: IpNet, prefix_match: &str) -> Value {
    let (mut row, verdict) = match found {
        Advertisement::Told(attributes) => (carried(attributes), "told".to_owned()),
        Advertisement::ItsOwn => (json!({}), "not told: the best path comes from the peer itself".to_owned()),
        Advertisement::Withheld(why) => (json!({}), format!("not told: {why:?}")),
        Advertisement::NoPath => (json!({}), "not told: there is no usable path".to_owned()),
        Advertisement::NoSession => (json!({}), "not told: no session carries it".to_owned()),
    };
    row["prefix"] = prefix.to_string().into();
    row["match"] = prefix_match.into();
    row["verdict"] = verdict.into();
    row
}

fn gauges(speaker: &Speaker, problems: &[Problem]) -> Vec<Gauge> {
    const UP: (&str, &str) = ("bgp_peer_up", "Whether the session is established");
    let mut found = Vec::new();
    for problem in problems {
        let peer = ("peer", problem.of.name().to_string());
        if !problem.kept && problem.of != Named::Speaker {
            found.push(Gauge { name: UP.0, help: UP.1, labels: vec![peer.clone()], value: 0.0 });
        }
        let help = "Peers and ranges that are left out, or run as they were before; `cnidarian bgp peers` says why";
        let labels = vec![peer, ("reason", problem.why.kind().to_owned())];
        found.push(Gauge { name: "bgp_peer_problem", help, labels, value: 1.0 });
    }
    for peer in speaker.peers() {
        let mut gauge = |name, help, value: f64| {
            found.push(Gauge { name, help, labels: vec![("peer", peer.name.to_string())], value });
        };
        let is_up = peer.state == bgp_speaker::session::State::Established;
        gauge(UP.0, UP.1, f64::from(u8::from(is_up)));
        gauge(
            "bgp_peer_received_prefixes",
            "Prefixes that the peer has announced",
            f64::from(peer.received.iter().sum::<u32>()),
        );
        gauge("bgp_peer_sessions", "Sessions established since the start", peer.counters.sessions as f64);
        gauge("bgp_peer_updates_received", "UPDATE messages taken in", peer.counters.updates_in as f64);
        gauge("bgp_peer_received_bytes", "Bytes taken in", peer.counters.bytes_in as f64);
        gauge("bgp_peer_sent_bytes", "Bytes sent", peer.counters.bytes_out as f64);
        gauge("bgp_peer_queued_bytes", "Bytes that wait to be sent", peer.queued_bytes as f64);
        gauge("bgp_peer_mended_attributes", "Attributes mended as RFC 7606 says", peer.counters.mended as f64);
    }
    found
}
