//! Names of objects: kind, key, version, and what a list or watch asks for. Never the content.

use super::{InvalidObject, Object};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Whether objects of a kind live in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// No namespace: Node, IPPool.
    Cluster,
    /// In a namespace, `default` where none is written: Pod.
    Namespaced,
}

/// `apiVersion` and `kind` of an object: `v1` and `Node`. Cheap to clone and to hold.
#[derive(Debug, Clone)]
pub struct Kind(Repr);

#[derive(Debug, Clone)]
enum Repr {
    Known(&'static [&'static str; 2]),
    Other(Arc<[String; 2]>),
}

/// The kinds that this version knows.
const KNOWN: [&[&str; 2]; 5] = [
    &["v1", "Node"],
    &["v1", "Pod"],
    &["v1", "Namespace"],
    &["cnidarian.io/v1", "IPPool"],
    &["cnidarian.io/v1", "IPBlock"],
];

impl Kind {
    /// A node of the cluster, Kubernetes `v1`.
    pub const NODE: Self = Self(Repr::Known(KNOWN[0]));
    /// A pod, Kubernetes `v1`.
    pub const POD: Self = Self(Repr::Known(KNOWN[1]));
    /// A namespace, Kubernetes `v1`.
    pub const NAMESPACE: Self = Self(Repr::Known(KNOWN[2]));
    /// A pool of pod addresses, ours.
    pub const IP_POOL: Self = Self(Repr::Known(KNOWN[3]));
    /// A block cut from a pool, ours.
    pub const IP_BLOCK: Self = Self(Repr::Known(KNOWN[4]));

    /// Any kind, also one that this version does not know. Not checked; [`Object::from_value`] checks.
    #[must_use]
    pub fn new(api_version: &str, kind: &str) -> Self {
        let known = KNOWN.into_iter().find(|known| **known == [api_version, kind]);
        Self(known.map_or_else(|| Repr::Other(Arc::new([api_version.to_owned(), kind.to_owned()])), Repr::Known))
    }

    fn parts(&self) -> [&str; 2] {
        match &self.0 {
            Repr::Known(parts) => **parts,
            Repr::Other(parts) => [&parts[0], &parts[1]],
        }
    }

    /// `v1`, `cnidarian.io/v1`.
    #[must_use]
    pub fn api_version(&self) -> &str {
        self.parts()[0]
    }

    /// `Node`, `IPPool`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.parts()[1]
    }

    /// The part of the API version before the slash, empty for Kubernetes' core kinds.
    #[must_use]
    pub fn group(&self) -> &str {
        self.api_version().split_once('/').map_or("", |(group, _)| group)
    }

    /// Whether objects of this kind have a namespace; `None` when this version does not know the kind.
    #[must_use]
    pub fn scope(&self) -> Option<Scope> {
        match (self.api_version(), self.kind()) {
            ("v1", "Node" | "Namespace") | ("cnidarian.io/v1", "IPPool" | "IPBlock") => Some(Scope::Cluster),
            ("v1", "Pod") => Some(Scope::Namespaced),
            _ => None,
        }
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Kind {}

impl Ord for Kind {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Kind {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, `None` for kinds of the cluster.
    pub namespace: Option<Arc<str>>,
    /// Its name, unique in kind and namespace.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// An object without a namespace.
    #[must_use]
    pub fn cluster(kind: Kind, name: &str) -> Self {
        Self { kind, namespace: None, name: name.into() }
    }

    /// An object in a namespace.
    #[must_use]
    pub fn namespaced(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: Some(namespace.into()), name: name.into() }
    }

    /// Checks that the names cannot be mistaken for something else in a path or URL, and the scope of known kinds.
    ///
    /// # Errors
    /// An empty name, one over 253 bytes, `.`, `..`, or one with `/`, `%`, white space or control characters
    /// (the rules of Kubernetes for path segments); a namespace where the kind has none, or none where it has one.
    pub fn check(&self) -> Result<(), InvalidObject> {
        check_segment(self, "metadata.name", &self.name, 253)?;
        if let Some(namespace) = &self.namespace {
            check_segment(self, "metadata.namespace", namespace, 63)?;
        }
        match (self.kind.scope(), &self.namespace) {
            (Some(Scope::Cluster), Some(_)) => {
                Err(InvalidObject::new(self, "metadata.namespace", "this kind has no namespace; remove the field"))
            }
            (Some(Scope::Namespaced), None) => {
                Err(InvalidObject::new(self, "metadata.namespace", "this kind lives in a namespace; name it"))
            }
            _ => Ok(()),
        }
    }
}

fn check_segment(key: &ObjectKey, field: &str, text: &str, most_bytes: usize) -> Result<(), InvalidObject> {
    let forbidden = |c: char| matches!(c, '/' | '%') || c.is_control() || c.is_whitespace();
    if text.is_empty() {
        Err(InvalidObject::new(key, field, "is empty; write the object's name"))
    } else if text.len() > most_bytes {
        Err(InvalidObject::new(key, field, format!("has {} bytes; at most {most_bytes} are allowed", text.len())))
    } else if text == "." || text == ".." || text.chars().any(forbidden) {
        let rule = "is no name: neither '.' nor '..', and without '/', '%', white space and control characters";
        Err(InvalidObject::new(key, field, format!("{text:?} {rule}")))
    } else {
        Ok(())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// A `resourceVersion`: of one object, or of a whole list. Opaque: only equality means something.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(Arc<str>);

impl Version {
    /// A version as its store wrote it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text, for the store that made it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a list or a watch asks for: one kind, and optionally one namespace or one node's pods.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Query {
    /// The kind.
    pub kind: Kind,
    /// Only objects of this namespace.
    pub namespace: Option<Arc<str>>,
    /// Only objects with this `spec.nodeName` (Kubernetes offers this selection for pods).
    pub node: Option<Arc<str>>,
}

impl Query {
    /// All objects of a kind.
    #[must_use]
    pub fn kind(kind: Kind) -> Self {
        Self { kind, namespace: None, node: None }
    }

    /// Only those of a namespace.
    #[must_use]
    pub fn in_namespace(self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.into()), ..self }
    }

    /// Only those that run on a node.
    #[must_use]
    pub fn on_node(self, node: &str) -> Self {
        Self { node: Some(node.into()), ..self }
    }

    /// Whether an object is asked for.
    #[must_use]
    pub fn matches(&self, object: &Object) -> bool {
        self.matches_key(&object.key)
            && self
                .node
                .as_ref()
                .is_none_or(|node| object.field("spec.nodeName").and_then(Value::as_str) == Some(&**node))
    }
}

impl Query {
    /// Whether an object of this name may be asked for.
    pub(super) fn matches_key(&self, key: &ObjectKey) -> bool {
        self.kind == key.kind
            && self.namespace.as_ref().is_none_or(|namespace| key.namespace.as_ref() == Some(namespace))
    }
}

impl From<Kind> for Query {
    fn from(kind: Kind) -> Self {
        Self::kind(kind)
    }
}
