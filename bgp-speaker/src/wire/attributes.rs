//! Path attributes out of bytes, with what RFC 7606 does about wrong ones. Never prefixes.

use super::codes::{attribute as code, flag};
use super::malformed::{Fault, Malformed};
use super::options::Options;
use super::{merge, path};
use crate::types::{
    Aggregator, AsPath, Asn, Attributes, Community, ExtendedCommunity, LargeCommunity, NextHop, Origin, RawAttribute,
    RouterId,
};
use bytes::Bytes;
use std::net::Ipv4Addr;

/// One attribute, not yet understood.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw<'a> {
    pub(super) flags: u8,
    pub(super) code: u8,
    pub(super) value: &'a [u8],
}

/// Cuts the next attribute off; `None`: it goes on behind the end, with its code where that is there.
pub(super) fn split<'a>(bytes: &mut &'a [u8]) -> Result<Raw<'a>, Option<u8>> {
    let (&[flags, code], rest) = bytes.split_first_chunk::<2>().ok_or(None)?;
    let (length, rest) = if flags & flag::EXTENDED_LENGTH == 0 {
        let (length, rest) = rest.split_first().ok_or(Some(code))?;
        (u16::from(*length), rest)
    } else {
        let (length, rest) = rest.split_first_chunk::<2>().ok_or(Some(code))?;
        (u16::from_be_bytes(*length), rest)
    };
    let (value, rest) = rest.split_at_checked(usize::from(length)).ok_or(Some(code))?;
    *bytes = rest;
    Ok(Raw { flags, code, value })
}

/// Attributes as they come together.
#[derive(Debug, Default)]
struct Gathered {
    origin: Option<Origin>,
    as_path: Option<AsPath>,
    next_hop: Option<Ipv4Addr>,
    med: Option<u32>,
    local_pref: Option<u32>,
    atomic_aggregate: bool,
    aggregator: Option<Aggregator>,
    communities: Vec<Community>,
    originator: Option<RouterId>,
    cluster_list: Vec<RouterId>,
    extended: Vec<ExtendedCommunity>,
    as4_path: Option<AsPath>,
    as4_aggregator: Option<Aggregator>,
    large: Vec<LargeCommunity>,
    only_to_customer: Option<Asn>,
    unknown: Vec<RawAttribute>,
}

/// Attributes and what was wrong with them.
#[derive(Debug)]
pub(super) struct Parsed {
    /// `None`: the routes are to be treated as withdrawn.
    pub(super) attributes: Option<Attributes>,
    pub(super) malformed: Vec<Malformed>,
}

/// Reads all attributes of `section` but those that carry prefixes. `next_hop` is that of MP_REACH_NLRI for its prefixes,
/// `None` for those in the body of the message, which need NEXT_HOP.
pub(super) fn read(mut section: &[u8], next_hop: Option<NextHop>, options: &Options) -> Parsed {
    let mut gathered = Gathered::default();
    let mut malformed = Vec::new();
    let mut seen = [false; 256];
    while !section.is_empty() {
        let raw = match split(&mut section) {
            Ok(raw) => raw,
            Err(code) => {
                // RFC 7606, section 4.
                let attribute = code.unwrap_or(0);
                malformed.push(Malformed { attribute, fault: Fault::Overrun, withdraw: true });
                break;
            }
        };
        if matches!(raw.code, code::MP_REACH | code::MP_UNREACH) {
            continue;
        }
        // RFC 7606, section 3 g: the first one counts.
        let outcome = if std::mem::replace(&mut seen[usize::from(raw.code)], true) {
            Err((Fault::Twice, false))
        } else {
            gathered.take(raw, options)
        };
        if let Err((fault, withdraw)) = outcome {
            malformed.push(Malformed { attribute: raw.code, fault, withdraw });
        }
    }
    let attributes = gathered.finish(next_hop, &mut malformed);
    let withdraw = malformed.iter().any(|malformed| malformed.withdraw);
    Parsed { attributes: attributes.filter(|_| !withdraw), malformed }
}

/// A fault, and whether the routes are treated as withdrawn for it.
type Outcome = Result<(), (Fault, bool)>;

/// RFC 7606, section 2: treat-as-withdraw.
const fn withdrawn(fault: Fault) -> (Fault, bool) {
    (fault, true)
}

/// RFC 7606, section 2: attribute discard.
const fn discarded(fault: Fault) -> (Fault, bool) {
    (fault, false)
}

/// The optional and transitive bits that an attribute has to have.
const fn kind(attribute: u8) -> Option<u8> {
    match attribute {
        code::ORIGIN..=code::NEXT_HOP | code::LOCAL_PREF | code::ATOMIC_AGGREGATE => Some(flag::TRANSITIVE),
        code::MED | code::ORIGINATOR_ID | code::CLUSTER_LIST => Some(flag::OPTIONAL),
        code::AGGREGATOR
        | code::COMMUNITIES
        | code::EXTENDED_COMMUNITIES
        | code::AS4_PATH
        | code::AS4_AGGREGATOR
        | code::LARGE_COMMUNITY
        | code::ONLY_TO_CUSTOMER => Some(flag::KIND),
        _ => None,
    }
}

impl Gathered {
    fn take(&mut self, raw: Raw<'_>, options: &Options) -> Outcome {
        let Raw { flags, code, value } = raw;
        match code {
            // RFC 7606, sections 7.5, 7.9, 7.10: of no meaning from outside, right or wrong.
            code::LOCAL_PREF | code::ORIGINATOR_ID | code::CLUSTER_LIST if !options.internal => return Ok(()),
            // RFC 6793, sections 4.1 and 6.
            code::AS4_PATH | code::AS4_AGGREGATOR if options.four_octet_asn => return Ok(()),
            _ => {}
        }
        match kind(code) {
            // RFC 7606, section 3 c.
            Some(kind) if flags & flag::KIND != kind => return Err(withdrawn(Fault::Flags(flags))),
            Some(_) => {}
            None => return self.unknown(raw),
        }
        let length = withdrawn(Fault::Length(value.len()));
        match code {
            code::ORIGIN => {
                let [origin] = value else { return Err(length) };
                self.origin = Some(match origin {
                    0 => Origin::Igp,
                    1 => Origin::Egp,
                    2 => Origin::Incomplete,
                    _ => return Err(withdrawn(Fault::Value)),
                });
            }
            code::AS_PATH => {
                let path = path::read(value, options.four_octet_asn).map_err(withdrawn)?;
                if !options.internal && path.segments().any(|segment| segment.kind.is_confederation()) {
                    return Err(withdrawn(Fault::Confederation));
                }
                self.as_path = Some(path);
            }
            code::NEXT_HOP => {
                let address = Ipv4Addr::from(<[u8; 4]>::try_from(value).map_err(|_| length)?);
                self.next_hop = Some(address);
            }
            code::MED => self.med = Some(u32::from_be_bytes(value.try_into().map_err(|_| length)?)),
            code::LOCAL_PREF => self.local_pref = Some(u32::from_be_bytes(value.try_into().map_err(|_| length)?)),
            code::ATOMIC_AGGREGATE if value.is_empty() => self.atomic_aggregate = true,
            code::ATOMIC_AGGREGATE => return Err(discarded(Fault::Length(value.len()))),
            code::AGGREGATOR => self.aggregator = Some(aggregator(value, options.four_octet_asn).map_err(discarded)?),
            code::AS4_AGGREGATOR => self.as4_aggregator = Some(aggregator(value, true).map_err(discarded)?),
            code::AS4_PATH => self.as4_path = Some(path::read(value, true).map_err(discarded)?),
            code::COMMUNITIES => self.communities = set(value, |bytes| Community(u32::from_be_bytes(bytes)))?,
            code::EXTENDED_COMMUNITIES => {
                self.extended = set(value, |bytes| ExtendedCommunity(u64::from_be_bytes(bytes)))?;
            }
            code::LARGE_COMMUNITY => self.large = set(value, large)?,
            code::ORIGINATOR_ID => {
                let id = <[u8; 4]>::try_from(value).map_err(|_| length)?;
                self.originator = Some(RouterId::new(id.into()).ok_or(withdrawn(Fault::Value))?);
            }
            code::CLUSTER_LIST => self.cluster_list = list(value, |id: [u8; 4]| RouterId::new(id.into()))?,
            code::ONLY_TO_CUSTOMER => {
                let asn = u32::from_be_bytes(value.try_into().map_err(|_| length)?);
                self.only_to_customer = Some(Asn::new(asn).ok_or(withdrawn(Fault::AsZero))?);
            }
            _ => {}
        }
        Ok(())
    }

    /// RFC 4271, section 9: passed on where it is optional and transitive, quietly passed over where it is optional.
    fn unknown(&mut self, Raw { flags, code, value }: Raw<'_>) -> Outcome {
        match flags & flag::KIND {
            flag::KIND => {
                let value = Bytes::copy_from_slice(value);
                self.unknown.push(RawAttribute { flags: flag::KIND | flag::PARTIAL, code, value });
                Ok(())
            }
            flag::OPTIONAL => Ok(()),
            _ => Err(withdrawn(Fault::UnknownWellKnown)),
        }
    }

    /// RFC 7606, section 3 d: what has to be there.
    fn finish(mut self, next_hop: Option<NextHop>, malformed: &mut Vec<Malformed>) -> Option<Attributes> {
        let next_hop = next_hop.or(self.next_hop.map(NextHop::V4));
        let there = [
            (code::ORIGIN, self.origin.is_some()),
            (code::AS_PATH, self.as_path.is_some()),
            (code::NEXT_HOP, next_hop.is_some()),
        ];
        for (attribute, _) in there.into_iter().filter(|(_, there)| !there) {
            if !malformed.iter().any(|other| other.attribute == attribute) {
                malformed.push(Malformed { attribute, fault: Fault::Missing, withdraw: true });
            }
        }
        let (origin, as_path, next_hop) = (self.origin?, self.as_path?, next_hop?);
        if !is_host(&next_hop) {
            malformed.push(Malformed { attribute: code::NEXT_HOP, fault: Fault::Value, withdraw: true });
        }
        let (as_path, aggregator) = merge::merge(as_path, self.as4_path, self.aggregator, self.as4_aggregator);
        self.unknown.sort_unstable();
        Some(Attributes {
            origin,
            as_path,
            next_hop,
            med: self.med,
            local_pref: self.local_pref,
            atomic_aggregate: self.atomic_aggregate,
            aggregator,
            communities: self.communities,
            originator: self.originator,
            cluster_list: self.cluster_list,
            extended: self.extended,
            large: self.large,
            only_to_customer: self.only_to_customer,
            unknown: self.unknown,
        })
    }
}

/// Whether an address can be that of a host. RFC 4271, section 6.3.
fn is_host(next_hop: &NextHop) -> bool {
    match next_hop {
        NextHop::V4(address) => {
            !address.is_unspecified() && !address.is_loopback() && !address.is_multicast() && !address.is_broadcast()
        }
        NextHop::V6 { global, .. } => !global.is_unspecified() && !global.is_loopback() && !global.is_multicast(),
    }
}

/// AGGREGATOR: a number of two or four bytes and an address. RFC 7606, section 7.7; RFC 7607, section 2.
fn aggregator(value: &[u8], four_octets: bool) -> Result<Aggregator, Fault> {
    let (number, id) = match *value {
        [a, b, c, d, ref id @ ..] if four_octets => (u32::from_be_bytes([a, b, c, d]), id),
        [a, b, ref id @ ..] if !four_octets => (u16::from_be_bytes([a, b]).into(), id),
        _ => return Err(Fault::Length(value.len())),
    };
    let id = <[u8; 4]>::try_from(id).map_err(|_| Fault::Length(value.len()))?;
    Ok(Aggregator { asn: Asn::new(number).ok_or(Fault::AsZero)?, id: id.into() })
}

fn large(bytes: [u8; 12]) -> LargeCommunity {
    let [global, local1, local2] =
        [0, 4, 8].map(|at| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]));
    LargeCommunity { global, local1, local2 }
}

/// A list of members of `N` bytes; not an empty one (RFC 7606, sections 7.8, 7.10, 7.14; RFC 8092, section 5).
fn list<T, const N: usize>(value: &[u8], member: impl Fn([u8; N]) -> Option<T>) -> Result<Vec<T>, (Fault, bool)> {
    let (members, rest) = value.as_chunks::<N>();
    if members.is_empty() || !rest.is_empty() {
        return Err(withdrawn(Fault::Length(value.len())));
    }
    let members: Option<Vec<T>> = members.iter().map(|bytes| member(*bytes)).collect();
    members.ok_or(withdrawn(Fault::Value))
}

/// A list without order and repetition.
fn set<T: Ord, const N: usize>(value: &[u8], member: impl Fn([u8; N]) -> T) -> Result<Vec<T>, (Fault, bool)> {
    let mut members = list(value, |bytes| Some(member(bytes)))?;
    members.sort_unstable();
    members.dedup();
    Ok(members)
}
