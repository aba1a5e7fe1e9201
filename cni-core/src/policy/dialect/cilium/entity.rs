//! Entities: words for parties that have no labels. Never one that the model could only guess.

use crate::policy::dialect::Reader;
use crate::policy::model::{Attribute, Effect, Kinds, Peer, Selector, WorkloadKind};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::Value;

/// Words that are no reserved labels.
const NO_LABELS: [&str; 2] = ["all", "cluster"];

const NAMES: [&str; 14] = [
    "all",
    "world",
    "world-ipv4",
    "world-ipv6",
    "cluster",
    "host",
    "remote-node",
    "kube-apiserver",
    "init",
    "ingress",
    "unmanaged",
    "health",
    "none",
    "unknown",
];

/// Whether a label with the source `reserved` may have this name.
pub(super) fn is_reserved(name: &str) -> bool {
    NAMES.contains(&name) && !NO_LABELS.contains(&name)
}

/// Whom a word stands for; `None` for a word that is none.
pub(super) fn peer(name: &str) -> Option<Peer> {
    Some(match name {
        "all" => Peer::Anything,
        "world" => Peer::cluster().negated(),
        "world-ipv4" => Peer::outside(vec![IpNet::V4(Ipv4Net::default())]),
        "world-ipv6" => Peer::outside(vec![IpNet::V6(Ipv6Net::default())]),
        "cluster" => Peer::AnyOf(vec![Peer::cluster(), api_server()]),
        "host" => Peer::OwnNode,
        "remote-node" => {
            let nodes = Peer::Labelled { kinds: Kinds::NODES, selector: Selector::Everything };
            Peer::AllOf(vec![nodes, Peer::OwnNode.negated()])
        }
        "kube-apiserver" => api_server(),
        // Cilium's own: there is nobody like them here. A pod has its labels from its first packet on.
        "init" | "ingress" | "unmanaged" | "health" | "none" | "unknown" => Peer::Nothing,
        _ => return None,
    })
}

/// Who is behind the service by which pods reach the API server.
fn api_server() -> Peer {
    let is = |attribute, value: &str| Selector::Is(attribute, value.into());
    let selector = is(Attribute::Namespace, "default").and(is(Attribute::Name, "kubernetes"));
    Peer::Labelled { kinds: Kinds::of(WorkloadKind::Service), selector }
}

/// Reads one word of `fromEntities` or `toEntities`.
pub(super) fn read(reader: &mut Reader<'_>, value: &Value, path: &str) -> Option<Peer> {
    let words = NAMES.map(|name| (name, name));
    // `unknown` is a label, and no entity.
    let name = reader.word(Effect::RuleClosed, value, path, &words[..words.len() - 1])?;
    peer(name)
}
