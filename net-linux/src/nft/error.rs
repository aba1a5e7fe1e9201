//! What goes wrong with nftables: names the object and what the kernel said of it.

use super::{ChainId, SetId, TableId};
use crate::netlink::kind_of;
use crate::nfnetlink::Malformed;
use cni_core::backend::{self, ErrorKind};
use nix::errno::Errno;
use std::fmt;
use std::io;

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Made, or changed where it exists.
    Add,
    /// Made; fails where it exists.
    Create,
    /// Put in another's place.
    Replace,
    /// Removed.
    Delete,
    /// Emptied.
    Flush,
    /// Read.
    Read,
}

impl Verb {
    /// The verb as a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::Flush => "flush",
            Self::Read => "read",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An object of nftables, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Object {
    /// All tables.
    Ruleset,
    /// A table.
    Table(TableId),
    /// A chain.
    Chain(ChainId),
    /// A rule: its chain, and its comment or handle.
    Rule(ChainId, String),
    /// A set or map.
    Set(SetId),
    /// Elements of a set or map that the kernel did not single out.
    Elements(SetId),
    /// An element: its key as the `nft` program shows it.
    Element(SetId, String),
    /// A batch as a whole.
    Batch,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ruleset => f.write_str("ruleset"),
            Self::Table(id) => write!(f, "table {id}"),
            Self::Chain(id) => write!(f, "chain {id}"),
            Self::Rule(chain, which) => write!(f, "rule {which} of chain {chain}"),
            Self::Set(id) => write!(f, "set {id}"),
            Self::Elements(id) => write!(f, "elements of set {id}"),
            Self::Element(id, key) => write!(f, "element {key} of set {id}"),
            Self::Batch => f.write_str("batch"),
        }
    }
}

/// One thing that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was done.
    pub verb: Verb,
    /// To what.
    pub object: Object,
    /// The kernel's error.
    pub errno: Errno,
    /// The kernel's words, where it has some.
    pub text: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.verb, self.object, self.errno.desc())?;
        match &self.text {
            Some(text) => write!(f, " ({text})"),
            None => Ok(()),
        }
    }
}

/// A failure. Nothing of a batch is in force then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NftError {
    /// The kernel refused parts of a batch, or a read. The first is shown.
    #[error("nftables: {}{}", .first, more(.others))]
    Refused {
        /// The first.
        first: Box<Refusal>,
        /// The others.
        others: Vec<Refusal>,
    },
    /// Somebody changed the ruleset since the generation that the batch was made for. Read again and make it anew.
    #[error("nftables: the ruleset changed since generation {expected}")]
    GenerationChanged {
        /// The generation the batch was made for.
        expected: u32,
    },
    /// Tables changed under every one of several reads.
    #[error("nftables: {object} changed under {tries} reads in a row")]
    Unsteady {
        /// What was read.
        object: Object,
        /// How often.
        tries: u32,
    },
    /// An object does not fit into a message: an attribute ends at 65 535 bytes.
    #[error("nftables: {object} is too large for one message; split it")]
    ObjectTooLarge {
        /// The object.
        object: Object,
    },
    /// A batch does not fit into the socket's send buffer: without `CAP_NET_ADMIN` in the first user namespace
    /// `net.core.wmem_max` is the limit.
    #[error("nftables: a batch of {bytes} bytes is beyond the send buffer; raise net.core.wmem_max or split it")]
    BatchTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The socket failed.
    #[error("nftables: {operation}: {source}")]
    Socket {
        /// What was being done.
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel's answer can't be read.
    #[error("nftables: {0}")]
    Malformed(#[from] Malformed),
}

fn more(others: &[Refusal]) -> String {
    if others.is_empty() { String::new() } else { format!(", and {} more", others.len()) }
}

impl NftError {
    /// The first error number that the kernel gave, where it gave one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { first, .. } => Some(first.errno),
            Self::Socket { source, .. } => source.raw_os_error().map(Errno::from_raw),
            _ => None,
        }
    }
}

impl From<NftError> for backend::Error {
    fn from(error: NftError) -> Self {
        let kind = match &error {
            NftError::ObjectTooLarge { .. } | NftError::BatchTooLarge { .. } => ErrorKind::Invalid,
            NftError::GenerationChanged { .. } | NftError::Unsteady { .. } => ErrorKind::Busy,
            _ => error.errno().map_or(ErrorKind::Kernel, kind_of),
        };
        let (verb, object) = match &error {
            NftError::Refused { first, .. } => (first.verb.name(), first.object.to_string()),
            NftError::Unsteady { object, .. } => (Verb::Read.name(), object.to_string()),
            NftError::ObjectTooLarge { object } => (Verb::Add.name(), object.to_string()),
            _ => ("commit", "nftables".to_owned()),
        };
        let detail = match &error {
            NftError::Refused { first, .. } => match &first.text {
                Some(text) => format!("{text} ({})", first.errno),
                None => first.errno.to_string(),
            },
            other => other.to_string(),
        };
        Self::new(kind, verb, object, detail).because(error)
    }
}

impl From<io::Error> for NftError {
    fn from(source: io::Error) -> Self {
        Self::Socket { operation: "receive", source }
    }
}
