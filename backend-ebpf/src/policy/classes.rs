//! Classes: what all terms treat alike gets one number. Never a verdict.

use super::bits::Bits;
use super::ranges::{between, points, prefixes};
use super::term::{MESSAGES, PORTED, Term};
use cni_core::policy::model::{Icmp, PortRange, Protocol};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Classes and the prefixes that lead to them.
#[derive(Debug)]
pub(super) struct Classes<P> {
    /// The terms that hold in each class.
    pub(super) terms: Vec<Bits>,
    /// The longest prefix of a packet says its class. Empty when there is only one.
    pub(super) prefixes: Vec<(P, u16)>,
}

/// A prefix of a protocol and its detail. Without a protocol: all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TrafficPrefix {
    /// 0 to 24.
    pub(super) length: u32,
    pub(super) protocol: u8,
    pub(super) detail: u16,
}

/// A prefix of a source port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SourcePrefix {
    /// 0 to 16.
    pub(super) length: u32,
    pub(super) port: u16,
}

/// More classes than a key has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

/// Gives numbers out.
#[derive(Default)]
struct Numbers {
    terms: Vec<Bits>,
    known: HashMap<Bits, u16>,
}

impl Numbers {
    fn number(&mut self, bits: Bits) -> Result<u16, TooMany> {
        if let Some(number) = self.known.get(&bits) {
            return Ok(*number);
        }
        let number = u16::try_from(self.terms.len()).map_err(|_| TooMany)?;
        self.terms.push(bits.clone());
        self.known.insert(bits, number);
        Ok(number)
    }
}

/// A range and its class.
type Range = (u16, u16, u16);

/// The class that most numbers are in.
fn usual(ranges: &[Range]) -> u16 {
    let mut sizes = BTreeMap::<u16, u32>::new();
    for (first, last, class) in ranges {
        *sizes.entry(*class).or_default() += u32::from(last - first) + 1;
    }
    sizes.into_iter().max_by_key(|(_, size)| *size).map_or(0, |(class, _)| class)
}

/// Neighbours of one class as one range, without those of the usual class.
fn unusual(ranges: &[Range], usual: u16) -> Vec<Range> {
    let mut merged: Vec<Range> = Vec::new();
    for (first, last, class) in ranges.iter().copied().filter(|(.., class)| *class != usual) {
        match merged.last_mut() {
            Some(before) if before.2 == class && before.1 + 1 == first => before.1 = last,
            _ => merged.push((first, last, class)),
        }
    }
    merged
}

/// Classes of protocols with their ports and messages. Class 0 is that of protocols that no term names.
pub(super) fn traffic(terms: &[Term]) -> Result<Classes<TrafficPrefix>, TooMany> {
    let protocols: BTreeSet<Protocol> =
        terms.iter().flat_map(|term| term.traffic.protocols()).chain(PORTED).chain(MESSAGES).collect();
    // Number 0 (hop by hop) is no protocol that comes through to here, nor is any that is not in the set.
    let other = (0..=u8::MAX).map(Protocol).find(|protocol| !protocols.contains(protocol));
    let mut numbers = Numbers::default();
    let holds = |protocol, detail| Bits::collect(terms.len(), |index| terms[index].traffic.holds(protocol, detail));
    let default = match other {
        Some(other) => numbers.number(holds(other, 0))?,
        None => numbers.number(Bits::none(terms.len()))?,
    };
    let mut prefixes_found = vec![(TrafficPrefix { length: 0, protocol: 0, detail: 0 }, default)];
    let (ports, messages) = (ports(terms), messages(terms));
    for protocol in protocols {
        let points = match protocol {
            _ if protocol.has_ports() => between(ports.iter().copied()),
            _ if MESSAGES.contains(&protocol) => between(messages.iter().copied()),
            _ => between([]),
        };
        let ranges = points.into_iter().map(|(first, last)| Ok((first, last, numbers.number(holds(protocol, first))?)));
        let ranges: Vec<Range> = ranges.collect::<Result<_, TooMany>>()?;
        let usual = usual(&ranges);
        if usual != default {
            prefixes_found.push((TrafficPrefix { length: 8, protocol: protocol.0, detail: 0 }, usual));
        }
        for (first, last, class) in unusual(&ranges, usual) {
            prefixes_found.extend(prefixes(first, last).into_iter().map(|prefix| {
                let length = 8 + prefix.length;
                (TrafficPrefix { length, protocol: protocol.0, detail: prefix.first }, class)
            }));
        }
    }
    if numbers.terms.len() == 1 {
        prefixes_found.clear();
    }
    Ok(Classes { terms: numbers.terms, prefixes: prefixes_found })
}

/// Classes of source ports. Protocols without ports have port 0: terms about ports do not hold of them for other reasons.
pub(super) fn sources(terms: &[Term]) -> Result<Classes<SourcePrefix>, TooMany> {
    let ranges = terms.iter().flat_map(|term| term.source.ports.iter().flatten().chain(&term.source.not_ports));
    let starts: BTreeSet<u16> = ranges.flat_map(|range| points(range.first, range.last)).collect();
    let mut numbers = Numbers::default();
    let ranges = between(starts).into_iter().map(|(first, last)| {
        let bits = Bits::collect(terms.len(), |index| terms[index].source.holds(first));
        Ok((first, last, numbers.number(bits)?))
    });
    let ranges: Vec<Range> = ranges.collect::<Result<_, TooMany>>()?;
    if numbers.terms.len() == 1 {
        return Ok(Classes { terms: numbers.terms, prefixes: Vec::new() });
    }
    let usual = usual(&ranges);
    let mut found = vec![(SourcePrefix { length: 0, port: 0 }, usual)];
    for (first, last, class) in unusual(&ranges, usual) {
        let prefixes = prefixes(first, last).into_iter();
        found.extend(prefixes.map(|prefix| (SourcePrefix { length: prefix.length, port: prefix.first }, class)));
    }
    Ok(Classes { terms: numbers.terms, prefixes: found })
}

/// Where destination ports begin to be treated in another way.
fn ports(terms: &[Term]) -> BTreeSet<u16> {
    let of_term = |term: &Term| -> Vec<u16> {
        let traffic = &term.traffic;
        let ranges = traffic.ports.iter().flatten().chain(&traffic.not_ports).copied();
        let pairs = traffic.only.iter().chain(&traffic.never).flatten().map(|(_, port)| PortRange::one(*port));
        ranges.chain(pairs).flat_map(|range| points(range.first, range.last)).collect()
    };
    terms.iter().flat_map(of_term).collect()
}

/// Where messages do: the type's byte and the code's.
fn messages(terms: &[Term]) -> BTreeSet<u16> {
    let messages = terms.iter().flat_map(|term| term.traffic.icmp.into_iter().chain(term.traffic.not_icmp));
    messages
        .flat_map(|Icmp { kind, code }| {
            let (first, last) = code.map_or((0, u8::MAX), |code| (code, code));
            points(u16::from_be_bytes([kind, first]), u16::from_be_bytes([kind, last]))
        })
        .collect()
}
