//! The kernel objects of this engine: keys, contents, order of writes. Never touches the kernel.

use crate::names;
use cni_core::backend::{Gate, Rank};
use net_linux::nft::{self, BaseChain, Comment, Data, Expr, Name};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Which object of our table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The table itself, shared with masquerading.
    Table,
    /// A set or map, by name.
    Set(Name),
    /// An element of a set or map.
    Element(Name, nft::Key),
    /// A chain, by name.
    Chain(Name),
}

/// What a rule is, but for its chain. Counters are at zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleObject {
    /// What it does.
    pub exprs: Vec<Expr>,
    /// Its name for people, counters and logs.
    pub comment: Option<Comment>,
}

/// Everything but the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// See [`Key::Table`].
    Table {
        /// Somebody put it to sleep: its chains see no packets.
        dormant: bool,
    },
    /// See [`Key::Set`].
    Set {
        /// It is as the name says. Always so in what is wanted.
        intact: bool,
    },
    /// See [`Key::Element`]: what a map has for it.
    Element(Option<Data>),
    /// See [`Key::Chain`].
    Chain {
        /// The hook that calls it.
        base: Option<BaseChain>,
        /// Its rules, in order.
        rules: Vec<RuleObject>,
    },
}

impl Key {
    /// Where it stands in the order of writes.
    #[must_use]
    pub fn rank(&self) -> Rank {
        let text = match self {
            Self::Table => return Rank::level(0).gate(Gate::All),
            Self::Set(name) | Self::Element(name, _) | Self::Chain(name) => name.as_str(),
        };
        let begins = |with: &[&str]| with.iter().any(|with| text.starts_with(with));
        let program = begins(&["pol-set-", "pol-ports-"]);
        match self {
            Self::Table => Rank::level(0).gate(Gate::All),
            Self::Set(_) if program => Rank::level(3),
            Self::Set(_) => Rank::level(1).gate(Gate::All),
            Self::Element(..) if program => Rank::level(4),
            // Who may send is known before anything is let in from there.
            Self::Element(..) if begins(&["pol-source"]) => Rank::level(9).gate(Gate::Item),
            // What opens the way for an endpoint comes last.
            Self::Element(..) if begins(&["pol-own", names::FROM, names::TO]) => Rank::level(10),
            Self::Element(..) => Rank::level(4).gate(Gate::All),
            Self::Chain(_) if begins(&["pol-p-", "pol-q-"]) => Rank::level(5),
            Self::Chain(_) if begins(&["pol-tier-"]) => Rank::level(6).gate(Gate::Item),
            Self::Chain(_) if begins(&["pol-sh-"]) => Rank::level(7).gate(Gate::Item),
            Self::Chain(_) if begins(&["pol-related"]) => Rank::level(1).gate(Gate::All),
            Self::Chain(_) if begins(&["pol-ep-", "pol-hep-"]) => Rank::level(8).gate(Gate::Item),
            // The hooks that lead into the node's own program.
            Self::Chain(_) if begins(&["pol-host-"]) => Rank::level(9),
            Self::Chain(_) => Rank::level(2).gate(Gate::All),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table => write!(f, "table {}", names::table()),
            Self::Set(name) => write!(f, "set {name}"),
            Self::Element(set, nft::Key::One(bytes)) => write!(f, "element {} of {set}", shown(set, bytes)),
            Self::Element(set, nft::Key::Range(first, last)) => {
                write!(f, "element {}-{} of {set}", shown(set, first), shown(set, last))
            }
            Self::Element(set, nft::Key::CatchAll) => write!(f, "element * of {set}"),
            Self::Chain(name) => write!(f, "chain {name}"),
        }
    }
}

/// The bytes of an element as a person would write them.
fn shown(set: &Name, bytes: &[u8]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
    let address = |bytes: &[u8]| {
        let v4 = <[u8; 4]>::try_from(bytes).map(|octets| Ipv4Addr::from(octets).to_string());
        v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).to_string())).ok()
    };
    let plain = match set.as_str() {
        names::FROM | names::TO => Some(text(bytes)),
        names::PORTED | names::ICMP => bytes.first().map(u8::to_string),
        "pol-own4" | "pol-own6" => {
            bytes.split_at_checked(16).and_then(|(name, rest)| Some(format!("{} . {}", text(name), address(rest)?)))
        }
        ports if ports.starts_with("pol-ports-") => {
            <[u8; 2]>::try_from(bytes).ok().map(|port| u16::from_be_bytes(port).to_string())
        }
        named if named.starts_with("pol-set-p") => match bytes {
            [host @ .., protocol, 0, 0, 0, high, low, 0, 0] => {
                address(host).map(|host| format!("{host} . {protocol} . {}", u16::from_be_bytes([*high, *low])))
            }
            _ => None,
        },
        _ => address(bytes),
    };
    plain.unwrap_or_else(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
