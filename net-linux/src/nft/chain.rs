//! Chains: base chains that a hook calls and regular ones that rules call. Never their rules.

use super::{ChainId, Comment, Family, Name, TableId, userdata};
use crate::nfnetlink::{Attr, Malformed, Message, Writer};

const TABLE: u16 = 1;
const HANDLE: u16 = 2;
const NAME: u16 = 3;
const HOOK: u16 = 4;
const POLICY: u16 = 5;
const TYPE: u16 = 7;
const USERDATA: u16 = 12;
const HOOK_NUM: u16 = 1;
const HOOK_PRIORITY: u16 = 2;

/// What a base chain may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainType {
    /// Accept and drop.
    Filter,
    /// Translate: sees the first packet of a connection only.
    Nat,
    /// Route again after a change (output hook).
    Route,
    /// Another type.
    Other(String),
}

impl ChainType {
    fn name(&self) -> &str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Route => "route",
            Self::Other(name) => name,
        }
    }

    fn from_name(name: String) -> Self {
        match name.as_str() {
            "filter" => Self::Filter,
            "nat" => Self::Nat,
            "route" => Self::Route,
            _ => Self::Other(name),
        }
    }
}

/// Where in the packet's way, for families `inet`, `ip` and `ip6`: `enum nf_inet_hooks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Before the route is chosen.
    Prerouting,
    /// To this host.
    Input,
    /// Through this host.
    Forward,
    /// From this host.
    Output,
    /// After the route is chosen.
    Postrouting,
    /// Another number.
    Other(u32),
}

impl Hook {
    const fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
            Self::Other(number) => number,
        }
    }

    const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Prerouting,
            1 => Self::Input,
            2 => Self::Forward,
            3 => Self::Output,
            4 => Self::Postrouting,
            other => Self::Other(other),
        }
    }
}

/// What happens to a packet that no rule of a base chain decides on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// It goes on.
    Accept,
    /// It ends.
    Drop,
}

/// What makes a chain a base chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseChain {
    /// What it may do.
    pub kind: ChainType,
    /// Where.
    pub hook: Hook,
    /// Order among the chains of one hook, lowest first; see [`priority`].
    pub priority: i32,
    /// For undecided packets.
    pub policy: Policy,
}

/// Usual priorities: `enum nf_ip_hook_priorities` of `include/uapi/linux/netfilter_ipv4.h`.
pub mod priority {
    /// Before connection tracking.
    pub const RAW: i32 = -300;
    /// Marks.
    pub const MANGLE: i32 = -150;
    /// Destination NAT.
    pub const DSTNAT: i32 = -100;
    /// Filters.
    pub const FILTER: i32 = 0;
    /// Source NAT.
    pub const SRCNAT: i32 = 100;
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Which.
    pub id: ChainId,
    /// The hook that calls it; `None` for a chain that rules call.
    pub base: Option<BaseChain>,
    /// For people. Can only be set when the chain is made.
    pub comment: Option<Comment>,
}

impl Chain {
    /// A chain that rules call.
    #[must_use]
    pub const fn regular(id: ChainId) -> Self {
        Self { id, base: None, comment: None }
    }

    /// A chain that a hook calls.
    #[must_use]
    pub const fn base(id: ChainId, base: BaseChain) -> Self {
        Self { id, base: Some(base), comment: None }
    }

    pub(super) fn write(&self, w: &mut Writer) {
        write_id(w, &self.id);
        if let Some(base) = &self.base {
            w.nest(HOOK, |w| {
                w.u32(HOOK_NUM, base.hook.number());
                w.u32(HOOK_PRIORITY, base.priority.cast_unsigned());
            });
            w.u32(POLICY, u32::from(base.policy == Policy::Accept));
            w.text(TYPE, base.kind.name());
        }
        if let Some(comment) = &self.comment {
            w.bytes(USERDATA, &userdata::comment(userdata::COMMENT, comment));
        }
    }
}

pub(super) fn write_id(w: &mut Writer, id: &ChainId) {
    w.text(TABLE, id.table.name.as_str());
    w.text(NAME, id.name.as_str());
}

/// Reads a chain and its handle; `None` for a family that this module does not know.
pub(super) fn read(message: &Message<'_>) -> Result<Option<(u64, Chain)>, Malformed> {
    let Some(family) = Family::from_number(message.family()?) else { return Ok(None) };
    let (mut table, mut name, mut handle, mut comment) = (None, None, 0, None);
    let (mut hook, mut policy, mut kind) = (None, Policy::Accept, None);
    for attr in message.attributes() {
        let attr = attr?;
        match attr.kind {
            TABLE => table = Some(Name::known(&attr.text())),
            NAME => name = Some(Name::known(&attr.text())),
            HANDLE => handle = attr.u64()?,
            HOOK => hook = Some(read_hook(attr)?),
            POLICY => policy = if attr.u32()? == 0 { Policy::Drop } else { Policy::Accept },
            TYPE => kind = Some(ChainType::from_name(attr.text())),
            USERDATA => comment = userdata::find_comment(userdata::COMMENT, attr.value),
            _ => {}
        }
    }
    let wrong = Malformed::new("nftables chain");
    let id = TableId { family, name: table.ok_or(wrong)? }.chain(name.ok_or(wrong)?);
    let base = match hook {
        None => None,
        Some((hook, priority)) => Some(BaseChain { kind: kind.ok_or(wrong)?, hook, priority, policy }),
    };
    Ok(Some((handle, Chain { id, base, comment })))
}

fn read_hook(attr: Attr<'_>) -> Result<(Hook, i32), Malformed> {
    let (mut hook, mut priority) = (Hook::Prerouting, 0);
    for attr in attr.nested() {
        let attr = attr?;
        match attr.kind {
            HOOK_NUM => hook = Hook::from_number(attr.u32()?),
            HOOK_PRIORITY => priority = attr.u32()?.cast_signed(),
            _ => {}
        }
    }
    Ok((hook, priority))
}
