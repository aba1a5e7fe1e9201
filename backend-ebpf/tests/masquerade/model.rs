//! Source NAT as plain tables: what the programs have to do. Never a choice of a port: that is theirs, within the laws.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Protocol, this end, the other end.
pub(crate) type Tuple = (u8, (IpAddr, u16), (IpAddr, u16));

/// Connections that live, each with one tuple outside that no other has.
#[derive(Debug, Default)]
pub(crate) struct Model {
    out: BTreeMap<Tuple, Tuple>,
    back: BTreeMap<Tuple, Tuple>,
}

impl Model {
    /// What is outside of a connection.
    pub(crate) fn outside(&self, inside: &Tuple) -> Option<Tuple> {
        self.out.get(inside).copied()
    }

    /// What is inside.
    pub(crate) fn inside(&self, outside: &Tuple) -> Option<Tuple> {
        self.back.get(outside).copied()
    }

    /// How many have an end outside like this but for the port.
    pub(crate) fn taken(&self, protocol: u8, node: IpAddr, other: (IpAddr, u16)) -> usize {
        self.back.keys().filter(|(of, own, to)| *of == protocol && own.0 == node && *to == other).count()
    }

    /// A connection got this tuple.
    ///
    /// # Panics
    /// Another one has it.
    pub(crate) fn add(&mut self, inside: Tuple, outside: Tuple) {
        let former = self.back.insert(outside, inside);
        assert!(former.is_none_or(|former| former == inside), "{outside:?} is {former:?}'s, and now {inside:?}'s");
        self.out.insert(inside, outside);
    }
}
