//! What people ask of the speaker. Never changes anything, and nothing depends on an answer.

use crate::compile::Compiler;
use crate::config::{Config, refused};
use crate::object::{Key, Object};
use crate::table::Table;
use crate::task::setup;
use async_trait::async_trait;
use bgp_speaker::export::Advertisement;
use bgp_speaker::rib::PathState;
use bgp_speaker::speaker::{PeerStatus, Plan, Speaker};
use bgp_speaker::types::{Attributes, Family};
use cni_core::backend::{Capabilities, Error, ErrorKind, Gauge, Inspect, Result};
use cni_core::model::{NodeContext, NodeName, Peer};
use ipnet::IpNet;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

const QUESTIONS: [(&str, &str); 6] = [
    ("bgp advertised", "PEER: what a peer is told"),
    ("bgp explain", "PREFIX [PEER]: all paths of a prefix, which won and why; with a peer: why it is told, or not"),
    ("bgp peers", "peers, the state of their sessions, and why they are down"),
    ("bgp plan", "SECTION: what another section `bgp` would do to sessions, as JSON"),
    ("bgp received", "PEER: what a peer has told, before any policy"),
    ("bgp routes", "the best path of each prefix"),
];

/// What a plan is made from: the node and the other nodes, as they were staged last. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Known(Arc<Mutex<(NodeContext, BTreeMap<NodeName, Peer>)>>);

impl Known {
    pub(crate) fn new(node: NodeContext) -> Self {
        Self(Arc::new(Mutex::new((node, BTreeMap::new()))))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, (NodeContext, BTreeMap<NodeName, Peer>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers.
pub(crate) struct Inspector {
    pub(crate) table: Table,
    pub(crate) known: Known,
    pub(crate) capabilities: Capabilities,
}

#[async_trait]
impl Inspect for Inspector {
    fn questions(&self) -> &'static [(&'static str, &'static str)] {
        &QUESTIONS
    }

    async fn ask(&self, question: &str, arguments: &[String]) -> Result<Value> {
        match (question, arguments) {
            ("bgp peers", []) => self.with(|speaker, now| Value::Array(rows(speaker, now))).await,
            ("bgp routes", []) => self.with(|speaker, _| routes(speaker)).await,
            ("bgp received", [peer]) => self.of_peer(peer, received).await,
            ("bgp advertised", [peer]) => self.of_peer(peer, advertised).await,
            ("bgp explain", [prefix]) => {
                let prefix = read_prefix(prefix)?;
                let found = self.with(move |speaker, _| explain(speaker, &prefix)).await?;
                found.ok_or_else(|| Error::new(ErrorKind::Missing, "explain", prefix, "nobody announces it"))
            }
            ("bgp explain", [prefix, peer]) => {
                let prefix = read_prefix(prefix)?;
                self.of_peer(peer, move |speaker, peer| told(&speaker.explain_to(peer.id, &prefix), prefix)).await
            }
            ("bgp plan", [section]) => self.plan(section).await,
            _ => {
                let known: Vec<String> = QUESTIONS.iter().map(|(name, about)| format!("{name} {about}")).collect();
                let detail = format!("there are: {}", known.join("; "));
                Err(Error::new(ErrorKind::Unsupported, "ask", question, detail))
            }
        }
    }

    async fn gauges(&self) -> Vec<Gauge> {
        self.with(|speaker, _| gauges(speaker)).await.unwrap_or_default()
    }
}

impl Inspector {
    async fn with<T: Send + 'static>(&self, work: impl FnOnce(&Speaker, Instant) -> T + Send + 'static) -> Result<T> {
        let away = || Error::new(ErrorKind::Busy, "ask", "bgp speaker", "it has not begun yet; see the agent's log");
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

    /// What another section would do, were it this node's.
    async fn plan(&self, section: &str) -> Result<Value> {
        let section: Value = serde_json::from_str(section)
            .map_err(|error| Error::invalid("plan", "section", format_args!("is no JSON: {error}")))?;
        let config = Config::from_json(&section).map_err(refused)?;
        let there = Table::default();
        let mut blocked = Vec::new();
        {
            let known = self.known.lock();
            let compiler = Compiler::new(&config, &known.0, &self.capabilities)?;
            let put = |objects: Vec<(Key, Object)>| {
                objects.iter().filter(|(key, _)| key.is_of_speaker()).for_each(|(key, object)| {
                    there.put(key, object);
                });
            };
            put(compiler.base());
            for peer in known.1.values() {
                match compiler.peer(peer) {
                    Ok(objects) => put(objects),
                    Err(error) => {
                        blocked.push(json!({ "peer": format!("node/{}", peer.node), "effect": error.to_string() }))
                    }
                }
            }
        }
        let Some((config, problems)) = setup::config(&there.wanted()) else { return Ok(Value::Array(blocked)) };
        blocked
            .extend(problems.into_iter().map(|(peer, problem)| json!({ "peer": peer, "effect": problem.to_string() })));
        let plan = self.with(move |speaker, _| speaker.plan(&config)).await?;
        let plan = plan.map_err(|error| Error::new(ErrorKind::Invalid, "plan", "bgp speaker", error))?;
        Ok(Value::Array(effects(&plan).chain(blocked).collect()))
    }
}

fn read_prefix(text: &str) -> Result<IpNet> {
    let wrong =
        || Error::invalid("prefix", "prefix", format_args!("{text:?} is none; write 10.1.2.0/26 or an address"));
    text.parse().or_else(|_| text.parse().map(|address: std::net::IpAddr| IpNet::from(address))).map_err(|_| wrong())
}

fn rows(speaker: &Speaker, now: Instant) -> Vec<Value> {
    let row = |peer: PeerStatus| {
        json!({
            "peer": &*peer.name,
            "address": peer.address.map(|address| address.to_string()),
            "state": format!("{:?}", peer.state),
            "seconds": now.saturating_duration_since(peer.since).as_secs(),
            "received": peer.received.iter().sum::<u32>(),
            "stale": peer.stale.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "bfd": peer.bfd.map(|up| if up { "up" } else { "down" }),
            "last": peer.last.map(|reason| reason.to_string()),
        })
    };
    speaker.peers().into_iter().map(row).collect()
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
    all.map(|(prefix, _, attributes)| route(prefix, &attributes)).collect()
}

fn advertised(speaker: &Speaker, peer: &PeerStatus) -> Value {
    let all = Family::ALL.into_iter().flat_map(|family| speaker.advertised(peer.id, family));
    all.map(|(nlri, attributes)| route(nlri.prefix, &attributes)).collect()
}

fn explain(speaker: &Speaker, prefix: &IpNet) -> Option<Value> {
    let found = speaker.explain(prefix)?;
    let names: BTreeMap<_, _> = speaker.peers().into_iter().map(|peer| (peer.id, peer.name)).collect();
    let from = |source: bgp_speaker::rib::Source| match source.peer() {
        Some(peer) => names.get(&peer).map_or_else(|| peer.to_string(), ToString::to_string),
        None => "this node".to_owned(),
    };
    let sources: Vec<String> = found.paths.iter().map(|path| from(path.source)).collect();
    let path = |(at, path): (usize, &bgp_speaker::rib::ExplainedPath)| {
        let mut row = carried(path.attributes.as_ref().unwrap_or(&path.received));
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

fn told(found: &Advertisement, prefix: IpNet) -> Value {
    match found {
        Advertisement::Told(attributes) => {
            let mut row = route(prefix, attributes);
            row["verdict"] = "told".into();
            row
        }
        Advertisement::ItsOwn => json!({ "verdict": "not told: the best path comes from the peer itself" }),
        Advertisement::Withheld(why) => json!({ "verdict": format!("not told: {why:?}") }),
        Advertisement::NoPath => json!({ "verdict": "not told: there is no usable path" }),
        Advertisement::NoSession => json!({ "verdict": "not told: no session carries it" }),
    }
}

fn effects(plan: &Plan) -> impl Iterator<Item = Value> {
    let row = |peer: &str, effect: String| json!({ "peer": peer, "effect": effect });
    let added = plan.added.iter().map(move |peer| row(peer, "comes".to_owned()));
    let removed = plan.removed.iter().map(move |peer| row(peer, "goes, with its routes".to_owned()));
    let changed = plan.changed.iter().map(move |(peer, effect)| row(peer, effect.to_string()));
    let ranges = plan.ranges.iter().map(move |range| row(range, "range changes, with its peers".to_owned()));
    let speaker = plan.speaker.then(|| row("all", "applied live".to_owned()));
    added.chain(removed).chain(changed).chain(ranges).chain(speaker)
}

fn gauges(speaker: &Speaker) -> Vec<Gauge> {
    let mut found = Vec::new();
    for peer in speaker.peers() {
        let mut gauge = |name, help, value: f64| {
            found.push(Gauge { name, help, labels: vec![("peer", peer.name.to_string())], value });
        };
        let is_up = peer.state == bgp_speaker::session::State::Established;
        gauge("bgp_peer_up", "Whether the session is established", f64::from(u8::from(is_up)));
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
