//! UPDATE out of bytes. RFC 4271, section 4.3; RFC 4760; RFC 7606. Never what is in the attributes of a route.

use super::attributes::{self, split};
use super::codes::{attribute as code, family, flag};
use super::known::Known;
use super::malformed::{Fault, Malformed};
use super::nlri;
use super::options::Options;
use crate::types::{Announcement, Attributes, Family, NextHop, Nlri, Notification, Update, UpdateSubcode, Withdrawal};
use bytes::Bytes;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Reads UPDATEs.
#[derive(Debug, Default)]
pub(super) struct Reader {
    known: Known,
    /// The attributes of the message in hand but those that carry prefixes.
    section: Vec<u8>,
}

/// The attributes that carry prefixes, where they are of a family of the session.
#[derive(Default)]
struct Multiprotocol<'a> {
    reach: Option<(Family, NextHop, &'a [u8])>,
    unreach: Option<(Family, &'a [u8])>,
}

fn reset(subcode: UpdateSubcode, data: &[u8]) -> Notification {
    Notification::Update(subcode, Bytes::copy_from_slice(data))
}

impl Reader {
    /// Reads the body of one UPDATE.
    ///
    /// # Errors
    /// Where prefixes cannot be found with certainty: RFC 7606, sections 3 g, 3 j, 5.3 and 7.11.
    pub(super) fn read(&mut self, body: &[u8], options: &Options) -> Result<Update, Notification> {
        let lists = || reset(UpdateSubcode::MalformedAttributeList, &[]);
        let (withdrawn, rest) = counted(body).ok_or_else(lists)?;
        let (section, announced) = counted(rest).ok_or_else(lists)?;
        let ipv4 = Family::Ipv4.index();
        let routes = |bytes| {
            let read = nlri::read(Family::Ipv4, options.add_path_in[ipv4], bytes);
            read.map_err(|_| reset(UpdateSubcode::InvalidNetwork, &[]))
        };
        let (withdrawn, announced) = (routes(withdrawn)?, routes(announced)?);
        let mut update = Update::default();
        let mut malformed = Vec::new();
        let multiprotocol = self.split(section, options, &mut malformed)?;
        if options.families[ipv4] {
            if body == [0; 4] {
                update.end_of_rib = Some(Family::Ipv4);
            }
            withdraw(&mut update, Family::Ipv4, withdrawn);
        }
        if let Some((family, bytes)) = multiprotocol.unreach {
            if bytes.is_empty() && self.section.is_empty() && body.len() == section.len() + 4 {
                update.end_of_rib = Some(family);
            }
            withdraw(&mut update, family, multiprotocol_routes(family, bytes, options)?);
        }
        if let Some((family, next_hop, bytes)) = multiprotocol.reach {
            let routes = multiprotocol_routes(family, bytes, options)?;
            let attributes = self.attributes(Some(next_hop), options, &mut malformed);
            announce(&mut update, family, attributes, routes);
        }
        if options.families[ipv4] && !announced.is_empty() {
            let attributes = self.attributes(None, options, &mut malformed);
            announce(&mut update, Family::Ipv4, attributes, announced);
        }
        update.problems = malformed.into_iter().map(Into::into).collect();
        Ok(update)
    }

    /// Parts the attributes that carry prefixes from the others, which are left in `self.section`.
    fn split<'a>(
        &mut self,
        mut section: &'a [u8],
        options: &Options,
        malformed: &mut Vec<Malformed>,
    ) -> Result<Multiprotocol<'a>, Notification> {
        self.section.clear();
        let mut found = Multiprotocol::default();
        let (mut reaches, mut unreaches) = (0, 0);
        while !section.is_empty() {
            let before = section;
            let raw = match split(&mut section) {
                Ok(raw) => raw,
                // RFC 7606, section 5.3: there are prefixes, and nobody knows how many.
                Err(Some(code::MP_REACH | code::MP_UNREACH)) => {
                    return Err(reset(UpdateSubcode::OptionalAttribute, before));
                }
                Err(_) => {
                    self.section.extend_from_slice(before);
                    break;
                }
            };
            let whole = &before[..before.len() - section.len()];
            let broken = || reset(UpdateSubcode::OptionalAttribute, whole);
            match raw.code {
                code::MP_REACH => {
                    reaches += 1;
                    let reach = reach(raw.value, options).ok_or_else(broken)?;
                    found.reach = reach;
                    if reach.is_none() {
                        malformed.push(Malformed { attribute: raw.code, fault: Fault::Family, withdraw: false });
                    }
                }
                code::MP_UNREACH => {
                    unreaches += 1;
                    let (high, low, safi, routes) = family_and_rest(raw.value).ok_or_else(broken)?;
                    found.unreach = session_family(high, low, safi, options).map(|family| (family, routes));
                }
                _ => {
                    self.section.extend_from_slice(whole);
                    continue;
                }
            }
            if raw.flags & flag::KIND != flag::OPTIONAL {
                // RFC 7606, section 3 c. Withdrawals are what they are.
                let withdraw = raw.code == code::MP_REACH;
                malformed.push(Malformed { attribute: raw.code, fault: Fault::Flags(raw.flags), withdraw });
            }
        }
        // RFC 7606, section 3 g.
        if reaches > 1 || unreaches > 1 {
            return Err(reset(UpdateSubcode::MalformedAttributeList, &[]));
        }
        Ok(found)
    }

    /// The attributes of the routes with `next_hop`; `None`: of those in the body, which have it among the attributes.
    fn attributes(
        &mut self,
        next_hop: Option<NextHop>,
        options: &Options,
        malformed: &mut Vec<Malformed>,
    ) -> Option<Arc<Attributes>> {
        let attributes_bytes = self.section.len();
        match next_hop {
            None => self.section.push(0),
            Some(NextHop::V4(address)) => self.section.extend(address.octets().into_iter().chain([1])),
            Some(NextHop::V6 { global, link_local: None }) => {
                self.section.extend(global.octets().into_iter().chain([2]));
            }
            Some(NextHop::V6 { global, link_local: Some(link_local) }) => {
                self.section.extend(global.octets().into_iter().chain(link_local.octets()).chain([3]));
            }
        }
        let is_whole = malformed.iter().all(|malformed| !malformed.withdraw);
        let attributes = self.known.find(&self.section).or_else(|| {
            let parsed = attributes::read(&self.section[..attributes_bytes], next_hop, options);
            let is_clean = parsed.malformed.is_empty();
            for other in parsed.malformed {
                // Read twice where there are routes in the body and routes in MP_REACH_NLRI.
                if !malformed.contains(&other) {
                    malformed.push(other);
                }
            }
            let attributes = Arc::new(parsed.attributes?);
            if is_clean {
                self.known.remember(&self.section, &attributes);
            }
            Some(attributes)
        });
        self.section.truncate(attributes_bytes);
        attributes.filter(|_| is_whole)
    }
}

/// Two bytes of length, so many bytes, and what is behind.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn family_and_rest(value: &[u8]) -> Option<(u8, u8, u8, &[u8])> {
    let (&[high, low, safi], rest) = value.split_first_chunk::<3>()?;
    Some((high, low, safi, rest))
}

fn session_family(high: u8, low: u8, safi: u8, options: &Options) -> Option<Family> {
    family(u16::from_be_bytes([high, low]), safi).filter(|family| options.families[family.index()])
}

/// MP_REACH_NLRI: `Some(None)` where its family is none of the session, `None` where it cannot be read. RFC 4760, section 3;
/// RFC 8950, section 3.
#[allow(clippy::option_option)]
fn reach<'a>(value: &'a [u8], options: &Options) -> Option<Option<(Family, NextHop, &'a [u8])>> {
    let (high, low, safi, rest) = family_and_rest(value)?;
    let (length, rest) = rest.split_first()?;
    let (next_hop, rest) = rest.split_at_checked(usize::from(*length))?;
    let (_reserved, routes) = rest.split_first()?;
    let Some(family) = session_family(high, low, safi, options) else { return Some(None) };
    let next_hop = match (family, next_hop.len()) {
        (Family::Ipv4, 4) => NextHop::V4(Ipv4Addr::from(<[u8; 4]>::try_from(next_hop).ok()?)),
        (Family::Ipv6, 16 | 32) => ipv6(next_hop)?,
        (Family::Ipv4, 16 | 32) if options.extended_next_hop[family.index()] => ipv6(next_hop)?,
        _ => return None,
    };
    Some(Some((family, next_hop, routes)))
}

/// One or two addresses. RFC 2545, section 3.
fn ipv6(bytes: &[u8]) -> Option<NextHop> {
    let (global, link_local) = bytes.split_first_chunk::<16>()?;
    let global = Ipv6Addr::from(*global);
    let link_local = link_local.first_chunk::<16>().map(|address| Ipv6Addr::from(*address));
    let link_local = link_local.filter(Ipv6Addr::is_unicast_link_local);
    // Some have no global address and say so.
    let global = if global.is_unspecified() { link_local.unwrap_or(global) } else { global };
    Some(NextHop::V6 { global, link_local })
}

fn multiprotocol_routes(family: Family, bytes: &[u8], options: &Options) -> Result<Vec<Nlri>, Notification> {
    let read = nlri::read(family, options.add_path_in[family.index()], bytes);
    read.map_err(|_| reset(UpdateSubcode::OptionalAttribute, &[]))
}

fn withdraw(update: &mut Update, family: Family, nlri: Vec<Nlri>) {
    if !nlri.is_empty() {
        update.withdrawals.push(Withdrawal { family, nlri });
    }
}

/// `None`: the routes are treated as withdrawn.
fn announce(update: &mut Update, family: Family, attributes: Option<Arc<Attributes>>, nlri: Vec<Nlri>) {
    match attributes {
        None => withdraw(update, family, nlri),
        Some(_) if nlri.is_empty() => {}
        Some(attributes) => update.announcements.push(Announcement { family, attributes, nlri }),
    }
}
