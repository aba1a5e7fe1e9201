//! Who is in a set, and what engines have not been told of it. Never what a set means.

use super::groups::{Group, Groups};
use super::identities::Identities;
use super::prefixes::{Prefixes, family_of};
use super::rule::{Meaning, Whose};
use super::slab::Slot;
use super::workloads::{Placed, Workloads};
use crate::policy::model::{Family, NamedPort};
use crate::policy::program::{Member, Set};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// News of sets.
#[derive(Debug, Default)]
pub(super) struct SetNews {
    pub(super) new: Vec<Set>,
    pub(super) joined: Vec<(Set, Member)>,
    pub(super) left: Vec<(Set, Member)>,
    pub(super) gone: Vec<Set>,
}

impl Groups {
    /// Remembers how the members that a workload is (or will be) were, before something changes.
    pub(super) fn touch(&mut self, placed: &Placed, workloads: &Workloads, identities: &Identities) {
        let Some(identity) = placed.identity else { return };
        let of = |identity: Slot, is_local: bool| {
            let local = self.local.iter().filter(move |_| is_local);
            identities.known[identity].groups.iter().chain(local).copied()
        };
        let mut groups: BTreeSet<Slot> = of(identity, placed.local.is_some()).collect();
        // Who shares an address shares the names of its ports.
        for neighbour in placed.addresses().into_iter().flat_map(|address| workloads.at(address)) {
            let shared = neighbour.identity.into_iter().flat_map(|identity| of(identity, neighbour.local.is_some()));
            groups.extend(shared.filter(|slot| matches!(*self.known[*slot].meaning, Meaning::Ports(..))));
        }
        for slot in groups {
            self.stirred.insert(slot);
            let group = &mut self.known[slot];
            for member in group.members_of(placed, workloads) {
                if group.face(family_of_member(&member)).emitted && !group.touched.contains_key(&member) {
                    let was_in = group.has(&member, workloads);
                    group.touched.insert(member, was_in);
                }
            }
        }
    }

    /// What engines have not been told. Costs what changed; a new set or one that goes, all its members.
    pub(super) fn news(&mut self, workloads: &Workloads, identities: &mut Identities) -> SetNews {
        let mut news = SetNews::default();
        for slot in std::mem::take(&mut self.stirred) {
            let group = &mut self.known[slot];
            for family in [Family::V4, Family::V6] {
                group.tell(family, workloads, identities, &mut news);
            }
            group.touched.clear();
            if group.faces.iter().all(|face| face.uses == 0) {
                self.forget(slot, identities);
            }
        }
        news
    }
}

impl Group {
    fn ports<'p>(&self, placed: &'p Placed) -> impl Iterator<Item = &'p NamedPort> {
        let wanted = |port: &&NamedPort| match &*self.meaning {
            Meaning::Ports(names, _) => {
                [None, Some(port.protocol)].into_iter().any(|protocol| names.contains(&(port.name.clone(), protocol)))
            }
            _ => false,
        };
        placed.workload.ports.iter().filter(wanted).collect::<Vec<_>>().into_iter()
    }

    /// The members that a workload of the group is, of both families; none for prefixes.
    fn members_of(&self, placed: &Placed, workloads: &Workloads) -> Vec<Member> {
        let addresses = placed.addresses().into_iter();
        match &*self.meaning {
            Meaning::Workloads(_) => addresses.map(Member::Address).collect(),
            Meaning::Ports(..) => {
                let with = |address: IpAddr| {
                    let holders = workloads.at(address).chain([placed]);
                    let ports: BTreeSet<_> =
                        holders.flat_map(|holder| self.ports(holder)).map(|port| (port.protocol, port.port)).collect();
                    ports.into_iter().map(move |(protocol, port)| Member::AddressPort(address, protocol, port))
                };
                addresses.flat_map(with).collect()
            }
            Meaning::Networks(..) => Vec::new(),
        }
    }

    fn has(&self, member: &Member, workloads: &Workloads) -> bool {
        match member {
            Member::Address(address) => workloads.at(*address).any(|placed| self.holds(placed)),
            Member::AddressPort(address, protocol, port) => {
                let is_it = |named: &NamedPort| named.port == *port && named.protocol == *protocol;
                workloads.at(*address).any(|placed| self.holds(placed))
                    && workloads.at(*address).any(|placed| self.ports(placed).any(is_it))
            }
            Member::Network(_) => false,
        }
    }

    /// All workloads in it.
    fn workloads<'a>(
        &'a self,
        workloads: &'a Workloads,
        identities: &'a Identities,
    ) -> impl Iterator<Item = &'a Placed> {
        let of: Vec<Slot> = match &*self.meaning {
            Meaning::Ports(_, Whose::Local) => identities.local.candidates(None),
            _ => self.identities.iter().copied().collect(),
        };
        let placed = of.into_iter().flat_map(|identity| &identities.known[identity].workloads);
        placed.map(|slot| &workloads.known[*slot]).filter(|placed| self.holds(placed))
    }

    /// All members of a family, each once.
    fn members(&self, family: Family, workloads: &Workloads, identities: &Identities) -> Vec<Member> {
        let of_family = |member: &Member| family_of_member(member) == family;
        let all = self.workloads(workloads, identities).flat_map(|placed| self.members_of(placed, workloads));
        let mut members: Vec<_> = all.filter(of_family).collect();
        members.sort_unstable();
        members.dedup();
        members
    }

    /// All prefixes of a family, none within another.
    fn networks(&self, family: Family, workloads: &Workloads, identities: &Identities) -> Vec<IpNet> {
        let Meaning::Networks(groups, fixed) = &*self.meaning else { return Vec::new() };
        if groups.is_empty() {
            return fixed.prefixes(family);
        }
        let of_groups = self.workloads(workloads, identities).flat_map(|placed| &placed.workload.networks);
        Prefixes::union(&[fixed.clone(), Prefixes::new(of_groups)]).prefixes(family)
    }

    fn tell(&mut self, family: Family, workloads: &Workloads, identities: &Identities, news: &mut SetNews) {
        let is_networks = matches!(&*self.meaning, Meaning::Networks(..));
        let (was, is) = (self.face(family).emitted, self.face(family).uses > 0);
        if !was && !is {
            return;
        }
        let set = self.face(family).set.clone();
        let fixed = matches!(&*self.meaning, Meaning::Networks(groups, _) if groups.is_empty());
        if is_networks && !(was && is && fixed) {
            let networks = if is { self.networks(family, workloads, identities) } else { Vec::new() };
            let face = &mut self.faces[usize::from(family == Family::V6)];
            let old = std::mem::replace(&mut face.networks, networks);
            let only_in = |one: &[IpNet], other: &[IpNet]| {
                let new = one.iter().filter(|network| other.binary_search(network).is_err());
                new.map(|network| (set.clone(), Member::Network(*network))).collect::<Vec<_>>()
            };
            news.joined.extend(only_in(&face.networks, &old));
            news.left.extend(only_in(&old, &face.networks));
        }
        if !is_networks {
            self.tell_members(family, &set, (was, is), workloads, identities, news);
        }
        match (was, is) {
            (false, true) => news.new.push(set),
            (true, false) => news.gone.push(set),
            _ => {}
        }
        self.faces[usize::from(family == Family::V6)].emitted = is;
    }

    fn tell_members(
        &self,
        family: Family,
        set: &Set,
        (was, is): (bool, bool),
        workloads: &Workloads,
        identities: &Identities,
        news: &mut SetNews,
    ) {
        let pair = |member: Member| (set.clone(), member);
        if !was {
            news.joined.extend(self.members(family, workloads, identities).into_iter().map(pair));
            return;
        }
        let touched = self.touched.iter().filter(|(member, _)| family_of_member(member) == family);
        for (member, was_in) in touched {
            match (*was_in, is && self.has(member, workloads)) {
                (false, true) => news.joined.push(pair(member.clone())),
                (true, false) => news.left.push(pair(member.clone())),
                _ => {}
            }
        }
        if !is {
            // What was not touched was in it before as it is now.
            let untouched = self.members(family, workloads, identities).into_iter();
            news.left.extend(untouched.filter(|member| !self.touched.contains_key(member)).map(pair));
        }
    }
}

fn family_of_member(member: &Member) -> Family {
    match member {
        Member::Address(address) | Member::AddressPort(address, ..) => family_of(*address),
        Member::Network(network) => family_of(network.addr()),
    }
}
