//! How nftables objects are named. Never looks one up.

use std::fmt;
use std::sync::Arc;

/// A name of a table, chain or set that the kernel does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no nftables name: use 1 to 255 bytes without NUL")]
pub struct InvalidName {
    /// What was given.
    pub name: String,
}

/// Name of a table, chain or set: 1 to 255 bytes without NUL (`NFT_NAME_MAXLEN`).
///
/// The `nft` program reads only names of letters, digits and `/\_-.` that begin with a letter and are no word of
/// its language (`masquerade`, `policy`): ours keep to that.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidName`].
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        if (1..=255).contains(&name.len()) && !name.contains('\0') {
            Ok(Self(name.into()))
        } else {
            Err(InvalidName { name: name.to_owned() })
        }
    }

    /// A name that stands in the source, or that the kernel gave.
    pub(crate) fn known(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Which packets a table sees: `NFPROTO_*` of `include/uapi/linux/netfilter.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// ARP.
    Arp,
    /// A device's ingress and egress.
    Netdev,
    /// Bridged frames.
    Bridge,
    /// IPv6.
    Ip6,
}

impl Family {
    /// The kernel's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Arp => 3,
            Self::Netdev => 5,
            Self::Bridge => 7,
            Self::Ip6 => 10,
        }
    }

    /// From the kernel's number; `None` for one that has no tables.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Inet,
            2 => Self::Ip,
            3 => Self::Arp,
            5 => Self::Netdev,
            7 => Self::Bridge,
            10 => Self::Ip6,
            _ => return None,
        })
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Arp => "arp",
            Self::Netdev => "netdev",
            Self::Bridge => "bridge",
            Self::Ip6 => "ip6",
        })
    }
}

/// Identity of a table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId {
    /// Its family.
    pub family: Family,
    /// Its name, one per family.
    pub name: Name,
}

impl TableId {
    /// A table's identity.
    #[must_use]
    pub const fn new(family: Family, name: Name) -> Self {
        Self { family, name }
    }

    /// A chain of this table.
    #[must_use]
    pub fn chain(&self, name: Name) -> ChainId {
        ChainId { table: self.clone(), name }
    }

    /// A set or map of this table.
    #[must_use]
    pub fn set(&self, name: Name) -> SetId {
        SetId { table: self.clone(), name }
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

/// Identity of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChainId {
    /// Its table.
    pub table: TableId,
    /// Its name, one per table.
    pub name: Name,
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.table, self.name)
    }
}

/// Identity of a set or map.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetId {
    /// Its table.
    pub table: TableId,
    /// Its name, one per table.
    pub name: Name,
}

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.table, self.name)
    }
}

/// A comment that is too long for `nft`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("comment of {length} bytes: use at most {}, without NUL", Comment::MAX_BYTES)]
pub struct InvalidComment {
    /// Its length in bytes.
    pub length: usize,
}

/// A comment on an object: what `nft list` shows, and where our ids go. Up to 128 bytes without NUL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Comment(Arc<str>);

impl Comment {
    /// `NFTNL_UDATA_COMMENT_MAXLEN` of libnftnl: the `nft` program reads no longer ones.
    pub const MAX_BYTES: usize = 128;

    /// Checks a comment.
    ///
    /// # Errors
    /// [`InvalidComment`].
    pub fn new(text: &str) -> Result<Self, InvalidComment> {
        if text.len() <= Self::MAX_BYTES && !text.contains('\0') {
            Ok(Self(text.into()))
        } else {
            Err(InvalidComment { length: text.len() })
        }
    }

    /// One that the kernel gave, whoever wrote it.
    pub(crate) fn known(text: &str) -> Self {
        Self(text.into())
    }

    /// The comment as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
