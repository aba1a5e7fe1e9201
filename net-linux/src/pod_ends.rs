//! How rules know the host's ends of pods' veths from other interfaces. Never a rule by itself.
//!
//! Pods are behind veths whose name begins with [`marks::HOST_INTERFACE_PREFIX`]. Tunnels of ours (`cnidarian.1`) and bridges of
//! others (`cni0`) have such a name too, and nodes of a lab are behind veths of another name.

use crate::marks;
use crate::nft::{Cmp, MetaKey, Program, interface_bytes};

/// The interface in question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Where the packet came in.
    From,
    /// Where it goes out.
    To,
}

impl Side {
    /// How rules ask for its name.
    #[must_use]
    pub const fn name(self) -> MetaKey {
        match self {
            Self::From => MetaKey::IifName,
            Self::To => MetaKey::OifName,
        }
    }

    const fn kind(self) -> MetaKey {
        match self {
            Self::From => MetaKey::IifKind,
            Self::To => MetaKey::OifKind,
        }
    }
}

fn names() -> String {
    format!("{}*", marks::HOST_INTERFACE_PREFIX)
}

/// The program, for interfaces of pods only.
#[must_use]
pub fn only(program: Program, side: Side) -> Program {
    program.interface(side.name(), Cmp::Eq, &names()).meta(side.kind(), Cmp::Eq, interface_bytes("veth"))
}

/// The program, for all other interfaces: one for each way to be none of a pod. A packet may meet both.
#[must_use]
pub fn others(program: &Program, side: Side) -> [Program; 2] {
    let program = || program.clone();
    [program().interface(side.name(), Cmp::Ne, &names()), program().meta(side.kind(), Cmp::Ne, interface_bytes("veth"))]
}
