//! Building the expressions of a rule from what it should match. Never longer than the kernel needs.

use super::{
    Cmp, CtKey, CtState, Expr, Log, MetaKey, Name, NatFlags, Payload, Reg, Reject, SetUse, Verdict,
    element::interface_bytes,
};
use std::net::IpAddr;

/// `NFPROTO_IPV4` and `NFPROTO_IPV6` of `include/uapi/linux/netfilter.h`.
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

/// The expressions of a rule while they are put together. Each match narrows what the ones after it see.
///
/// ```
/// use net_linux::nft::{Name, Payload, Program, Verdict};
/// let web = Program::new().ipv4().matches_in(Payload::IP_SADDR, Name::new("clients")?).l4proto(6).dport(443)
///     .verdict(Verdict::Accept);
/// assert_eq!(web.exprs().len(), 9);
/// # Ok::<(), net_linux::nft::InvalidName>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program(Vec<Expr>);

impl Program {
    /// No expressions: matches every packet and does nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was put together.
    #[must_use]
    pub fn exprs(&self) -> &[Expr] {
        &self.0
    }

    /// One more expression.
    #[must_use]
    pub fn then(mut self, expr: Expr) -> Self {
        self.0.push(expr);
        self
    }

    /// Only IPv4.
    #[must_use]
    pub fn ipv4(self) -> Self {
        self.meta(MetaKey::NfProto, Cmp::Eq, vec![NFPROTO_IPV4])
    }

    /// Only IPv6.
    #[must_use]
    pub fn ipv6(self) -> Self {
        self.meta(MetaKey::NfProto, Cmp::Eq, vec![NFPROTO_IPV6])
    }

    /// Only this protocol above IP: `IPPROTO_*`.
    #[must_use]
    pub fn l4proto(self, protocol: u8) -> Self {
        self.meta(MetaKey::L4Proto, Cmp::Eq, vec![protocol])
    }

    /// Compares packet metadata.
    #[must_use]
    pub fn meta(self, key: MetaKey, op: Cmp, value: Vec<u8>) -> Self {
        self.then(Expr::Meta { key, dreg: Reg::A }).then(Expr::Cmp { sreg: Reg::A, op, value })
    }

    /// Compares an interface name. One that ends in `*` stands for all that begin so.
    #[must_use]
    pub fn interface(self, key: MetaKey, op: Cmp, name: &str) -> Self {
        let value = match name.strip_suffix('*') {
            Some(prefix) => prefix.as_bytes().to_vec(),
            None => interface_bytes(name),
        };
        self.meta(key, op, value)
    }

    /// Compares bytes of the packet.
    #[must_use]
    pub fn payload(self, field: Payload, op: Cmp, value: Vec<u8>) -> Self {
        self.then(Expr::Payload { field, dreg: Reg::A }).then(Expr::Cmp { sreg: Reg::A, op, value })
    }

    /// Compares bytes of the packet under a mask of the same length.
    #[must_use]
    pub fn masked(self, field: Payload, mask: Vec<u8>, op: Cmp, value: Vec<u8>) -> Self {
        let xor = vec![0; mask.len()];
        self.then(Expr::Payload { field, dreg: Reg::A })
            .then(Expr::Bitwise { sreg: Reg::A, dreg: Reg::A, mask, xor })
            .then(Expr::Cmp { sreg: Reg::A, op, value })
    }

    /// Only to this port (after a protocol that has ports).
    #[must_use]
    pub fn dport(self, port: u16) -> Self {
        self.payload(Payload::DPORT, Cmp::Eq, port.to_be_bytes().to_vec())
    }

    /// Only to these ports, both ends included.
    #[must_use]
    pub fn dports(self, first: u16, last: u16) -> Self {
        self.then(Expr::Payload { field: Payload::DPORT, dreg: Reg::A }).then(Expr::Range {
            sreg: Reg::A,
            inverted: false,
            from: first.to_be_bytes().to_vec(),
            to: last.to_be_bytes().to_vec(),
        })
    }

    /// Only from this address; says the family too.
    #[must_use]
    pub fn saddr(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.ipv4().payload(Payload::IP_SADDR, Cmp::Eq, v4.octets().to_vec()),
            IpAddr::V6(v6) => self.ipv6().payload(Payload::IP6_SADDR, Cmp::Eq, v6.octets().to_vec()),
        }
    }

    /// Only to this address; says the family too.
    #[must_use]
    pub fn daddr(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => self.ipv4().payload(Payload::IP_DADDR, Cmp::Eq, v4.octets().to_vec()),
            IpAddr::V6(v6) => self.ipv6().payload(Payload::IP6_DADDR, Cmp::Eq, v6.octets().to_vec()),
        }
    }

    /// Only when these bytes of the packet are in a set.
    #[must_use]
    pub fn matches_in(self, field: Payload, set: Name) -> Self {
        self.lookup(field, set, false)
    }

    /// Only when these bytes of the packet are not in a set.
    #[must_use]
    pub fn matches_not_in(self, field: Payload, set: Name) -> Self {
        self.lookup(field, set, true)
    }

    fn lookup(self, field: Payload, set: Name, inverted: bool) -> Self {
        self.then(Expr::Payload { field, dreg: Reg::A }).then(Expr::Lookup {
            set: SetUse::Named(set),
            sreg: Reg::A,
            inverted,
        })
    }

    /// Takes the verdict that a map has for packet metadata (an interface).
    #[must_use]
    pub fn meta_vmap(self, key: MetaKey, map: Name) -> Self {
        self.then(Expr::Meta { key, dreg: Reg::A }).then(Expr::VerdictMap { set: SetUse::Named(map), sreg: Reg::A })
    }

    /// Takes the verdict that a map has for bytes of the packet.
    #[must_use]
    pub fn payload_vmap(self, field: Payload, map: Name) -> Self {
        self.then(Expr::Payload { field, dreg: Reg::A })
            .then(Expr::VerdictMap { set: SetUse::Named(map), sreg: Reg::A })
    }

    /// Only packets whose connection is in one of these states.
    #[must_use]
    pub fn ct_state(self, states: CtState) -> Self {
        self.then(Expr::Ct { key: CtKey::State, dreg: Reg::A, direction: None }).any_of(states.0)
    }

    /// Only packets with this mark under the mask.
    #[must_use]
    pub fn mark(self, mark: u32, mask: u32) -> Self {
        self.then(Expr::Meta { key: MetaKey::Mark, dreg: Reg::A })
            .then(Expr::Bitwise { sreg: Reg::A, dreg: Reg::A, mask: mask.to_ne_bytes().to_vec(), xor: vec![0; 4] })
            .then(Expr::Cmp { sreg: Reg::A, op: Cmp::Eq, value: mark.to_ne_bytes().to_vec() })
    }

    /// Only packets whose connection has one of these bits in its mark.
    #[must_use]
    pub fn ct_mark_any(self, bits: u32) -> Self {
        self.then(Expr::Ct { key: CtKey::Mark, dreg: Reg::A, direction: None }).any_of(bits)
    }

    /// Only packets with one of these bits in their mark.
    #[must_use]
    pub fn mark_any(self, bits: u32) -> Self {
        self.then(Expr::Meta { key: MetaKey::Mark, dreg: Reg::A }).any_of(bits)
    }

    fn any_of(self, bits: u32) -> Self {
        self.then(Expr::Bitwise { sreg: Reg::A, dreg: Reg::A, mask: bits.to_ne_bytes().to_vec(), xor: vec![0; 4] })
            .then(Expr::Cmp { sreg: Reg::A, op: Cmp::Ne, value: vec![0; 4] })
    }

    /// Sets the bits of the packet's mark that are in the mask.
    #[must_use]
    pub fn set_mark(self, mark: u32, mask: u32) -> Self {
        self.then(Expr::Meta { key: MetaKey::Mark, dreg: Reg::A })
            .then(Expr::Bitwise {
                sreg: Reg::A,
                dreg: Reg::A,
                mask: (!mask).to_ne_bytes().to_vec(),
                xor: (mark & mask).to_ne_bytes().to_vec(),
            })
            .then(Expr::MetaSet { key: MetaKey::Mark, sreg: Reg::A })
    }

    /// Counts what comes by.
    #[must_use]
    pub fn counter(self) -> Self {
        self.then(Expr::Counter { packets: 0, bytes: 0 })
    }

    /// Logs what comes by.
    #[must_use]
    pub fn log(self, log: Log) -> Self {
        self.then(Expr::Log(log))
    }

    /// Ends with a verdict.
    #[must_use]
    pub fn verdict(self, verdict: Verdict) -> Self {
        self.then(Expr::Verdict(verdict))
    }

    /// Ends with an answer to the sender.
    #[must_use]
    pub fn reject(self, reject: Reject) -> Self {
        self.then(Expr::Reject(reject))
    }

    /// Ends with masquerading.
    #[must_use]
    pub fn masquerade(self, flags: NatFlags) -> Self {
        self.then(Expr::Masquerade { flags, ports: None })
    }
}

impl From<Program> for Vec<Expr> {
    fn from(program: Program) -> Self {
        program.0
    }
}
