//! What a rule can ask of an address, and the addresses that are alike in all of it. Never which rule asks.

use cni_core::policy::model::Protocol;
use cni_core::policy::program::SetId;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Something that holds of an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Atom {
    /// It is of the node itself.
    OwnNode,
    /// It is in a set of addresses or of networks.
    Set(SetId),
    /// It is in a set of ports, with this protocol and port.
    Port(SetId, Protocol, u16),
}

impl Atom {
    /// The set that it speaks of.
    #[must_use]
    pub(super) fn set(&self) -> Option<&SetId> {
        match self {
            Self::OwnNode => None,
            Self::Set(set) | Self::Port(set, ..) => Some(set),
        }
    }
}

/// All that holds of an address.
pub(super) type Atoms = Arc<BTreeSet<Atom>>;
