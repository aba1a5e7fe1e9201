//! A stand-in for the wire, and peers that believe what they are told. Never the real encoding.

use crate::export::{Delivery, Encode, GroupFacts};
use crate::types::{Attributes, Family, Nlri, PathId, PeerId, Refresh, RefreshKind};
use bytes::{BufMut, BytesMut};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

/// So few that a table takes many messages.
const MOST_NLRI: usize = 3;

/// Messages of a kind, a number of attributes and prefixes.
#[derive(Debug, Default)]
pub(super) struct Paper {
    known: RefCell<Vec<Attributes>>,
    /// Messages made.
    pub(super) made: Cell<usize>,
}

impl Paper {
    fn message(&self, kind: u8, attributes: u32, nlri: &[Nlri], out: &mut BytesMut) {
        self.made.set(self.made.get() + 1);
        out.put_u8(kind);
        out.put_u32(attributes);
        out.put_u8(u8::try_from(nlri.len()).unwrap());
        for Nlri { prefix, path } in nlri {
            out.put_u32(path.0);
            out.put_u8(prefix.prefix_len());
            match prefix {
                IpNet::V4(prefix) => {
                    out.put_u8(4);
                    out.put_u128(u32::from(prefix.addr()).into());
                }
                IpNet::V6(prefix) => {
                    out.put_u8(6);
                    out.put_u128(prefix.addr().into());
                }
            }
        }
    }
}

const ANNOUNCE: u8 = 1;
const WITHDRAW: u8 = 2;
const END_OF_RIB: u8 = 3;
const BEGIN: u8 = 4;
const END: u8 = 5;

impl Encode for Paper {
    fn announce(&self, _: &GroupFacts, _: Family, attributes: &Attributes, nlri: &[Nlri], out: &mut BytesMut) {
        let mut known = self.known.borrow_mut();
        known.push(attributes.clone());
        for nlri in nlri.chunks(MOST_NLRI) {
            self.message(ANNOUNCE, u32::try_from(known.len()).unwrap() - 1, nlri, out);
        }
    }

    fn withdraw(&self, _: &GroupFacts, _: Family, nlri: &[Nlri], out: &mut BytesMut) {
        for nlri in nlri.chunks(MOST_NLRI) {
            self.message(WITHDRAW, 0, nlri, out);
        }
    }

    fn end_of_rib(&self, _: &GroupFacts, family: Family, out: &mut BytesMut) {
        self.message(END_OF_RIB, family.index() as u32, &[], out);
    }

    fn refresh(&self, _: &GroupFacts, refresh: Refresh, out: &mut BytesMut) {
        let kind = if refresh.kind == RefreshKind::Begin { BEGIN } else { END };
        self.message(kind, refresh.family.index() as u32, &[], out);
    }
}

/// What a peer has been told.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) routes: BTreeMap<Nlri, Written>,
    pub(super) ends_of_rib: BTreeSet<Family>,
    /// Between a begin and an end: what was told since.
    refreshed: Option<BTreeSet<Nlri>>,
    pub(super) announced: usize,
    pub(super) withdrawn: usize,
    /// Withdrawn without having been announced.
    pub(super) needless: usize,
}

/// Attributes as text: a thing that can be ordered.
pub(super) type Written = String;

pub(super) fn text(attributes: &Attributes) -> Written {
    format!("{attributes:?}")
}

impl Listener {
    fn hear(&mut self, paper: &Paper, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.hear_one(paper, &mut bytes);
        }
    }

    fn hear_one(&mut self, paper: &Paper, bytes: &mut &[u8]) {
        let mut take = |count: usize| {
            let (taken, rest) = bytes.split_at(count);
            *bytes = rest;
            taken.iter().fold(0u128, |value, byte| value << 8 | u128::from(*byte))
        };
        let (kind, attributes, count) = (take(1) as u8, take(4) as usize, take(1));
        for _ in 0..count {
            let (path, length, version, address) = (PathId(take(4) as u32), take(1) as u8, take(1), take(16));
            let prefix: IpNet = if version == 4 {
                Ipv4Net::new(Ipv4Addr::from(address as u32), length).unwrap().into()
            } else {
                Ipv6Net::new(Ipv6Addr::from(address), length).unwrap().into()
            };
            let nlri = Nlri { prefix, path };
            if kind == ANNOUNCE {
                self.announced += 1;
                self.routes.insert(nlri, text(&paper.known.borrow()[attributes]));
                self.refreshed.iter_mut().for_each(|told| {
                    told.insert(nlri);
                });
            } else {
                self.withdrawn += 1;
                self.needless += usize::from(self.routes.remove(&nlri).is_none());
            }
        }
        match kind {
            END_OF_RIB => assert!(self.ends_of_rib.insert(Family::ALL[attributes]), "one End-of-RIB is enough"),
            BEGIN => self.refreshed = Some(BTreeSet::new()),
            END => {
                let told = self.refreshed.take().expect("an end follows a begin");
                for nlri in self.routes.keys().filter(|nlri| Family::of(&nlri.prefix) == Family::ALL[attributes]) {
                    assert!(told.contains(nlri), "{nlri:?} was not sent again");
                }
            }
            _ => {}
        }
    }

    /// Prefixes with what is told of them, whatever the ids of the paths are.
    pub(super) fn told(&self) -> BTreeSet<(IpNet, Written)> {
        self.routes.iter().map(|(nlri, attributes)| (nlri.prefix, attributes.clone())).collect()
    }
}

/// All that listen.
pub(super) type Listeners = BTreeMap<PeerId, Listener>;

pub(super) fn hear(listeners: &mut Listeners, paper: &Paper, deliveries: Vec<Delivery>) {
    for Delivery { peer, bytes } in deliveries {
        listeners.get_mut(&peer).expect("only who is there is told").hear(paper, &bytes);
    }
}
