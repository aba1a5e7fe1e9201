//! What the kernel would say to the first packet of a connection, worked out from our chains and sets. Never a packet.
//!
//! It knows the expressions that [`crate::compile`] writes. A rule with another one was tampered with: it is taken to drop.

use crate::names;
use crate::object::{Key, Object, RuleObject};
use net_linux::marks;
use net_linux::nft::{self, Cmp, CtKey, CtState, Data, Expr, MetaKey, Name, Payload, Reg, SetUse, Verdict};
use net_linux::nft::{address_bytes, interface_bytes};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// `RTN_UNICAST` and `RTN_LOCAL` of `include/uapi/linux/rtnetlink.h`.
const RTN_UNICAST: u32 = 1;
const RTN_LOCAL: u32 = 2;
/// `NFTA_FIB_F_SADDR`.
const FIB_SOURCE: u32 = 1;
/// The kernel's `NFT_JUMP_STACK_SIZE`.
const DEEPEST: usize = 16;
/// Echo requests of both families.
const ECHO_V4: u8 = 8;
const ECHO_V6: u8 = 128;

/// The first packet of a connection, as the filters see it: after translation of its destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstPacket {
    /// Who sends.
    pub source: IpAddr,
    /// Who receives.
    pub destination: IpAddr,
    /// `IPPROTO_*`.
    pub protocol: u8,
    /// Source and destination port. Without: an echo request, where the protocol is ICMP.
    pub ports: Option<(u16, u16)>,
}

/// Ranges by their first key: their last key, and what a map has for them.
type Elements = BTreeMap<Vec<u8>, (Vec<u8>, Option<Data>)>;

/// Our part of the table.
#[derive(Debug, Clone, Default)]
pub struct Ruleset {
    chains: BTreeMap<Name, Vec<RuleObject>>,
    sets: BTreeMap<Name, Elements>,
}

impl FromIterator<(Key, Object)> for Ruleset {
    fn from_iter<I: IntoIterator<Item = (Key, Object)>>(objects: I) -> Self {
        let mut ruleset = Self::default();
        ruleset.extend(objects);
        ruleset
    }
}

impl Extend<(Key, Object)> for Ruleset {
    fn extend<I: IntoIterator<Item = (Key, Object)>>(&mut self, objects: I) {
        for (key, object) in objects {
            match (key, object) {
                (Key::Element(set, key), Object::Element(data)) => {
                    let (first, last) = match key {
                        nft::Key::One(one) => (one.clone(), one),
                        nft::Key::Range(first, last) => (first, last),
                        nft::Key::CatchAll => continue,
                    };
                    self.sets.entry(set).or_default().insert(first, (last, data));
                }
                (Key::Chain(name), Object::Chain { rules, .. }) => drop(self.chains.insert(name, rules)),
                _ => {}
            }
        }
    }
}

/// What became of a packet in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Accepted,
    Dropped,
    Returned,
}

/// A packet on its way through one hook.
struct Walk<'a> {
    packet: &'a FirstPacket,
    from: &'a str,
    to: &'a str,
    local: [bool; 2],
    mark: u32,
    registers: [u8; 64],
}

/// What an expression does with a rule.
enum Step {
    Next,
    Break,
    Decide(Verdict),
}

impl Ruleset {
    /// The interfaces behind which addresses of pods of this node are.
    #[must_use]
    pub fn endpoints(&self) -> BTreeMap<IpAddr, String> {
        let own = self.sets.iter().filter(|(name, _)| name.as_str().starts_with("pol-own"));
        let keys = own.flat_map(|(_, elements)| elements.keys());
        keys.filter_map(|key| {
            let (interface, address) = key.split_at_checked(16)?;
            let address: IpAddr = match address.len() {
                4 => <[u8; 4]>::try_from(address).ok()?.into(),
                _ => <[u8; 16]>::try_from(address).ok()?.into(),
            };
            Some((address, String::from_utf8_lossy(interface).trim_end_matches('\0').to_owned()))
        })
        .collect()
    }

    /// The interfaces whose packets are sent to one of these chains.
    #[must_use]
    pub fn dispatched_to(&self, chains: &BTreeSet<Name>) -> BTreeSet<String> {
        let dispatched = self.dispatch().filter(|(_, chain)| chains.contains(*chain));
        dispatched.map(|(key, _)| String::from_utf8_lossy(key).trim_end_matches('\0').to_owned()).collect()
    }

    /// The chains that packets of these interfaces come to first.
    #[must_use]
    pub fn chains_of(&self, interfaces: &BTreeSet<&str>) -> Vec<Name> {
        let keys: BTreeSet<Vec<u8>> = interfaces.iter().map(|name| interface_bytes(name)).collect();
        let theirs = self.dispatch().filter(|(key, _)| keys.contains(*key)).map(|(_, chain)| chain.clone());
        theirs.chain([names::EGRESS, names::INGRESS, names::INPUT, names::LOCAL].map(names::name)).collect()
    }

    /// What the two maps have: an interface's bytes, and its chain.
    fn dispatch(&self) -> impl Iterator<Item = (&Vec<u8>, &Name)> {
        let maps = [names::FROM, names::TO].map(|map| self.sets.get(&names::name(map)));
        maps.into_iter().flatten().flatten().filter_map(|(key, (_, data))| match data {
            Some(Data::Verdict(Verdict::Goto(chain) | Verdict::Jump(chain))) => Some((key, chain)),
            _ => None,
        })
    }

    /// The sets that its rules look up.
    #[must_use]
    pub fn sets(&self) -> BTreeSet<Name> {
        let exprs = self.chains.values().flatten().flat_map(|rule| &rule.exprs);
        let named = exprs.filter_map(|expr| match expr {
            Expr::Lookup { set: SetUse::Named(set), .. } => Some(set.clone()),
            _ => None,
        });
        named.collect()
    }

    /// Whether a packet may go from one interface through the node to another, or to the node itself.
    #[must_use]
    pub fn allows(&self, packet: &FirstPacket, from: &str, to: &str, is_local: impl Fn(IpAddr) -> bool) -> bool {
        let local = [is_local(packet.source), is_local(packet.destination)];
        let chains: &[&str] = match local {
            // What the node itself sends is never filtered.
            [true, _] => &[],
            [false, true] if self.chains.contains_key(&names::name(names::LOCAL)) => &[names::INPUT, names::LOCAL],
            [false, true] => &[names::INPUT],
            [false, false] => &[names::EGRESS, names::INGRESS],
        };
        let to = if local[1] { "" } else { to };
        let mut walk = Walk { packet, from, to, local, mark: 0, registers: [0; 64] };
        chains.iter().all(|chain| self.chain(&names::name(chain), &mut walk, 0) != End::Dropped)
    }

    fn chain(&self, name: &Name, walk: &mut Walk<'_>, depth: usize) -> End {
        let Some(rules) = self.chains.get(name) else { return End::Dropped };
        if depth > DEEPEST {
            return End::Dropped;
        }
        for rule in rules {
            match self.rule(rule, walk) {
                None | Some(Verdict::Continue | Verdict::Break) => {}
                Some(Verdict::Accept) => return End::Accepted,
                Some(Verdict::Return) => return End::Returned,
                Some(Verdict::Goto(next)) => return self.chain(&next, walk, depth + 1),
                Some(Verdict::Jump(next)) => match self.chain(&next, walk, depth + 1) {
                    End::Returned => {}
                    end => return end,
                },
                Some(Verdict::Drop | Verdict::Other(_)) => return End::Dropped,
            }
        }
        End::Returned
    }

    fn rule(&self, rule: &RuleObject, walk: &mut Walk<'_>) -> Option<Verdict> {
        for expr in &rule.exprs {
            match self.step(expr, walk) {
                Step::Next => {}
                Step::Break => return None,
                Step::Decide(verdict) => return Some(verdict),
            }
        }
        None
    }

    fn step(&self, expr: &Expr, walk: &mut Walk<'_>) -> Step {
        let goes_on = |holds: bool| if holds { Step::Next } else { Step::Break };
        match expr {
            Expr::Verdict(verdict) => Step::Decide(verdict.clone()),
            Expr::Counter { .. } | Expr::Log(_) => Step::Next,
            Expr::Meta { key, dreg } => match walk.meta(*key) {
                Some(value) => walk.load(*dreg, &value),
                None => Step::Decide(Verdict::Drop),
            },
            Expr::MetaSet { key: MetaKey::Mark, sreg } => {
                walk.mark = u32::from_ne_bytes(walk.value(*sreg, 4).try_into().unwrap_or_default());
                Step::Next
            }
            Expr::Payload { field, dreg } => match walk.payload(*field) {
                Some(value) => walk.load(*dreg, &value),
                None => Step::Break,
            },
            Expr::Ct { key: CtKey::State, dreg, direction: None } => walk.load(*dreg, &CtState::NEW.0.to_ne_bytes()),
            // What was denied before is looked at anew.
            Expr::Ct { key: CtKey::Mark, dreg, direction: None } => walk.load(*dreg, &[0; 4]),
            Expr::Fib { dreg, flags, .. } => {
                let local = walk.local[usize::from(*flags != FIB_SOURCE)];
                walk.load(*dreg, &if local { RTN_LOCAL } else { RTN_UNICAST }.to_ne_bytes())
            }
            Expr::Bitwise { sreg, dreg, mask, xor } => {
                let value = walk.value(*sreg, mask.len());
                let value = value.iter().zip(mask).zip(xor).map(|((byte, mask), xor)| (byte & mask) ^ xor);
                let value: Vec<u8> = value.collect();
                walk.load(*dreg, &value)
            }
            Expr::Cmp { sreg, op, value } => {
                let present = walk.value(*sreg, value.len());
                goes_on(match op {
                    Cmp::Eq => present == *value,
                    Cmp::Ne => present != *value,
                    Cmp::Lt => present < *value,
                    Cmp::Le => present <= *value,
                    Cmp::Gt => present > *value,
                    Cmp::Ge => present >= *value,
                })
            }
            Expr::Range { sreg, inverted, from, to } => {
                let present = walk.value(*sreg, from.len());
                goes_on((*from <= present && present <= *to) != *inverted)
            }
            Expr::Lookup { set: SetUse::Named(set), sreg, inverted } => {
                goes_on(self.lookup(set, *sreg, walk).is_some() != *inverted)
            }
            Expr::VerdictMap { set: SetUse::Named(set), sreg } => match self.lookup(set, *sreg, walk) {
                Some(Some(Data::Verdict(verdict))) => Step::Decide(verdict.clone()),
                Some(_) => Step::Decide(Verdict::Drop),
                None => Step::Next,
            },
            _ => Step::Decide(Verdict::Drop),
        }
    }

    /// What a set has for the key in a register; the outer `None`: nothing.
    #[expect(clippy::option_option, reason = "there or not, and with data or not")]
    fn lookup<'a>(&'a self, set: &Name, sreg: Reg, walk: &Walk<'_>) -> Option<Option<&'a Data>> {
        let fields = names::set_of(set)?.key;
        let bytes = match &fields[..] {
            [one] => one.bytes(),
            several => several.iter().map(|field| field.padded_bytes()).sum(),
        };
        let key = walk.value(sreg, usize::try_from(bytes).ok()?);
        let (_, (last, data)) = self.sets.get(set)?.range(..=key.clone()).next_back()?;
        (key <= *last).then_some(data.as_ref())
    }
}

/// The kind of an interface, as far as the rules ask: a pod's or another.
fn kind(interface: &str) -> Vec<u8> {
    interface_bytes(if interface.starts_with(marks::HOST_INTERFACE_PREFIX) { "veth" } else { "" })
}

impl Walk<'_> {
    fn value(&self, from: Reg, bytes: usize) -> Vec<u8> {
        let begin = from.offset_bytes();
        self.registers.get(begin..begin + bytes).map(<[u8]>::to_vec).unwrap_or_default()
    }

    fn load(&mut self, to: Reg, value: &[u8]) -> Step {
        let (begin, end) = (to.offset_bytes(), to.offset_bytes() + value.len());
        let Some(registers) = self.registers.get_mut(begin..end.next_multiple_of(4)) else {
            return Step::Decide(Verdict::Drop);
        };
        registers.fill(0);
        registers[..value.len()].copy_from_slice(value);
        Step::Next
    }

    fn meta(&self, key: MetaKey) -> Option<Vec<u8>> {
        Some(match key {
            MetaKey::NfProto => vec![if self.packet.source.is_ipv4() { 2 } else { 10 }],
            MetaKey::L4Proto => vec![self.packet.protocol],
            MetaKey::IifName => interface_bytes(self.from),
            MetaKey::OifName => interface_bytes(self.to),
            MetaKey::IifKind => kind(self.from),
            MetaKey::OifKind => kind(self.to),
            MetaKey::Mark => self.mark.to_ne_bytes().to_vec(),
            _ => return None,
        })
    }

    fn payload(&self, field: Payload) -> Option<Vec<u8>> {
        let packet = self.packet;
        let of = |address: IpAddr, v4: bool| (address.is_ipv4() == v4).then(|| address_bytes(address));
        let echo = match packet.protocol {
            1 => Some([ECHO_V4, 0]),
            58 => Some([ECHO_V6, 0]),
            _ => None,
        };
        match field {
            Payload::IP_SADDR => of(packet.source, true),
            Payload::IP_DADDR => of(packet.destination, true),
            Payload::IP6_SADDR => of(packet.source, false),
            Payload::IP6_DADDR => of(packet.destination, false),
            Payload::ICMP_TYPE => echo.map(|[kind, _]| vec![kind]),
            _ => {
                let [source, destination] = match (packet.ports, echo) {
                    (Some((source, destination)), _) => [source.to_be_bytes(), destination.to_be_bytes()],
                    (None, Some(echo)) => [echo, [0; 2]],
                    (None, None) => return None,
                };
                let header = [source, destination].concat();
                let (begin, length) = (usize::try_from(field.offset).ok()?, usize::try_from(field.length).ok()?);
                header.get(begin..begin + length).map(<[u8]>::to_vec)
            }
        }
    }
}
