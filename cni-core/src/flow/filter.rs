//! Which records somebody wants. Never in which order.

use super::record::{End, Flow, Kind, Reason, Verdict};
use crate::policy::model::{Direction, Protocol};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

/// One end that is wanted, as people write it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EndFilter {
    /// `shop/web`, or `web` in any namespace; `shop/*`: all pods of one; `*`: all pods.
    Pod {
        /// The namespace; `None`: any.
        namespace: Option<Arc<str>>,
        /// The pod; `None`: any.
        name: Option<Arc<str>>,
    },
    /// `node/n1`.
    Node(Arc<str>),
    /// `192.0.2.7`, `10.42.0.0/16`.
    Network(IpNet),
}

/// A text that names no end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} names no end; write POD, NAMESPACE/POD, NAMESPACE/*, *, node/NAME, an address or a prefix as in 10.42.0.0/16"
)]
pub struct InvalidEnd {
    /// The text.
    pub text: String,
}

impl EndFilter {
    fn has(&self, end: &End) -> bool {
        let is = |wanted: &Option<Arc<str>>, name: &Option<Arc<str>>| wanted.is_none() || wanted == name;
        match self {
            Self::Pod { namespace, name } => {
                end.kind == Some(Kind::Pod) && is(namespace, &end.namespace) && is(name, &end.name)
            }
            Self::Node(name) => end.kind == Some(Kind::Node) && end.name.as_ref() == Some(name),
            Self::Network(network) => end.address.is_some_and(|address| network.contains(&address)),
        }
    }
}

impl FromStr for EndFilter {
    type Err = InvalidEnd;

    fn from_str(text: &str) -> Result<Self, InvalidEnd> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address.into()));
        }
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Self::Network(network.trunc()));
        }
        let plain = |name: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
            !name.is_empty() && name.bytes().all(allowed)
        };
        let (namespace, name) = text.split_once('/').map_or((None, text), |(first, rest)| (Some(first), rest));
        // A namespace has no dots, so a mistyped prefix is none.
        if !namespace.is_none_or(|namespace| plain(namespace) && !namespace.contains('.'))
            || !plain(name) && name != "*"
        {
            return Err(InvalidEnd { text: text.to_owned() });
        }
        Ok(match namespace {
            Some("node") if name != "*" => Self::Node(name.into()),
            _ => Self::Pod { namespace: namespace.map(Arc::from), name: (name != "*").then(|| name.into()) },
        })
    }
}

impl fmt::Display for EndFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { namespace: Some(namespace), name } => {
                write!(f, "{namespace}/{}", name.as_deref().unwrap_or("*"))
            }
            Self::Pod { namespace: None, name } => f.write_str(name.as_deref().unwrap_or("*")),
            Self::Node(name) => write!(f, "node/{name}"),
            Self::Network(network) => network.fmt(f),
        }
    }
}

impl TryFrom<String> for EndFilter {
    type Error = InvalidEnd;

    fn try_from(text: String) -> Result<Self, InvalidEnd> {
        text.parse()
    }
}

impl From<EndFilter> for String {
    fn from(filter: EndFilter) -> Self {
        filter.to_string()
    }
}

/// What is wanted: of each list one value must hold; of an empty one nothing is asked.
///
/// # Laws
/// 1. The empty filter has every record.
/// 2. One more value in a list that is not empty loses no record; the first in an empty one brings none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Filter {
    /// The source is one of these.
    pub from: Vec<EndFilter>,
    /// The destination is one of these.
    pub to: Vec<EndFilter>,
    /// A pod of one of these namespaces is at either end.
    pub namespaces: Vec<Arc<str>>,
    /// The verdict.
    pub verdicts: Vec<Verdict>,
    /// Why it was dropped.
    pub reasons: Vec<Reason>,
    /// Seen from the pod.
    pub directions: Vec<Direction>,
    /// The protocol's number.
    pub protocols: Vec<u8>,
    /// The port of either end.
    pub ports: Vec<u16>,
}

impl Filter {
    /// Whether a record is wanted.
    #[must_use]
    pub fn has(&self, flow: &Flow) -> bool {
        fn any<T>(list: &[T], holds: impl FnMut(&T) -> bool) -> bool {
            list.is_empty() || list.iter().any(holds)
        }
        let ends = [&flow.source, &flow.destination];
        any(&self.from, |end| end.has(&flow.source))
            && any(&self.to, |end| end.has(&flow.destination))
            && any(&self.namespaces, |wanted| ends.iter().any(|end| end.namespace.as_ref() == Some(wanted)))
            && any(&self.verdicts, |verdict| *verdict == flow.verdict)
            && any(&self.reasons, |reason| Some(*reason) == flow.reason)
            && any(&self.directions, |direction| Some(*direction) == flow.direction)
            && any(&self.protocols, |number| Some(Protocol(*number)) == flow.protocol)
            && any(&self.ports, |port| ends.iter().any(|end| end.port == Some(*port)))
    }
}
