//! Source NAT of single containers, for a plugin without an agent: one table for each network. Never changes another table.
//!
//! ```text
//! table inet cnidarian-masq-NETWORK {
//!     map masq-source4 { 10.1.0.2 : jump cni079c4f592070 }                 (and masq-source6)
//!     chain masq-postrouting {
//!         type nat hook postrouting priority srcnat
//!         ip saddr vmap @masq-source4                                      (and one for IPv6)
//!     }
//!     chain cni079c4f592070 {                                              one for each container
//!         ip saddr 10.1.0.2  ip daddr != 10.1.0.0/24  ip daddr != 224.0.0.0/4  masquerade fully-random
//!     }
//! }
//! ```
//!
//! A packet of a container finds its chain in one look-up, however many containers there are. The table goes with its
//! last container.

use crate::marks;
use crate::nft::{
    BaseChain, Batch, Chain, ChainId, ChainType, Cmp, Data, Element, Family, Field, Hook, Key, Name, NatFlags, Nft,
    NftError, Payload, Policy, Program, Rule, Set, Table, TableContents, TableId, Verdict, address_bytes, priority,
};
use cni_core::model::{EndpointId, NetworkName};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// How often a change is begun anew after as many losses as [`Nft::transact`] takes. Each loss is another's success.
const ROUNDS: u32 = 50;

/// The masqueraded containers of one network.
///
/// # Laws
/// 1. A container's packets leave its own network with the host's address; packets within it, and multicast, keep theirs.
/// 2. `put` again, also with other addresses, replaces; `remove` of what is not there succeeds.
/// 3. What others put anywhere, also into this table, stays.
pub struct Containers {
    nft: Nft,
    table: TableId,
}

impl Containers {
    /// Those of a network, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// [`NftError::Socket`].
    pub fn open(network: &NetworkName) -> Result<Self, NftError> {
        let name = Name::known(&format!("{}{network}", marks::NFT_CONTAINERS_TABLE_PREFIX));
        Ok(Self { nft: Nft::open()?, table: TableId::new(Family::Inet, name) })
    }

    /// Masquerades what these addresses send out of their own networks: `10.1.0.2/24` keeps its address within
    /// `10.1.0.0/24`.
    ///
    /// # Errors
    /// [`NftError`]; nothing is changed then.
    pub fn put(&mut self, id: &EndpointId, addresses: &[IpNet]) -> Result<(), NftError> {
        let table = self.table.clone();
        let own = container_chain(&table, id);
        self.change(|found, batch| {
            batch.add_table(&Table::new(table.clone()));
            let (base, rules) = (entry_chain(&table), entry_rules(&table));
            for v4 in [true, false] {
                batch.add_set(&sources(&table, v4));
            }
            let present =
                found.map(|found| found.rules_of(&base.id).map(|rule| rule.object.clone()).collect::<Vec<_>>());
            batch.add_chain(&base);
            if present.is_none_or(|present| !rules.iter().all(|rule| present.contains(rule))) {
                batch.flush_chain(&base.id);
                rules.iter().for_each(|rule| batch.add_rule(rule));
            }
            // Also what a container that is gone without DEL left to this one's address.
            let keys: Vec<Key> = addresses.iter().map(|address| Key::address(address.addr())).collect();
            forget(batch, found, |element| leads_to(element, &own.name) || keys.contains(&element.key));
            batch.add_chain(&Chain::regular(own.clone()));
            batch.flush_chain(&own);
            for (address, key) in addresses.iter().zip(&keys) {
                batch.add_rule(&Rule::new(own.clone(), leaving(*address)));
                let element = Element::new(key.clone()).with(Data::Verdict(Verdict::Jump(own.name.clone())));
                batch.add_elements(&sources(&table, address.addr().is_ipv4()), [&element]);
            }
        })
    }

    /// Takes back what [`put`](Self::put) made for a container, if it is there.
    ///
    /// # Errors
    /// [`NftError`]; nothing is changed then.
    pub fn remove(&mut self, id: &EndpointId) -> Result<(), NftError> {
        let own = container_chain(&self.table, id);
        self.drop_chains(|chain| *chain == own)
    }

    /// Takes back what belongs to no valid container.
    ///
    /// # Errors
    /// [`NftError`]; nothing is changed then.
    pub fn retain(&mut self, valid: &BTreeSet<EndpointId>) -> Result<(), NftError> {
        let valid: BTreeSet<ChainId> = valid.iter().map(|id| container_chain(&self.table, id)).collect();
        self.drop_chains(|chain| !valid.contains(chain))
    }

    fn drop_chains(&mut self, goes: impl Fn(&ChainId) -> bool) -> Result<(), NftError> {
        let table = self.table.clone();
        self.change(|found, batch| {
            let Some(found) = found else { return };
            let chains = found.chains.iter().map(|chain| &chain.object.id);
            let containers = chains.clone().filter(|chain| marks::is_host_interface(chain.name.as_str()));
            let (gone, kept): (Vec<&ChainId>, Vec<&ChainId>) = containers.partition(|chain| goes(chain));
            let entry = entry_chain(&table).id;
            let ours = [true, false].map(|v4| sources(&table, v4).id);
            let foreign = chains.clone().any(|chain| *chain != entry && !marks::is_host_interface(chain.name.as_str()))
                || found.sets.iter().any(|set| !ours.contains(&set.object.id));
            if kept.is_empty() && !foreign {
                batch.delete_table(&table);
                return;
            }
            forget(batch, Some(found), |element| gone.iter().any(|chain| leads_to(element, &chain.name)));
            for chain in gone {
                batch.flush_chain(chain);
                batch.delete_chain(chain);
            }
        })
    }

    /// One change, all or nothing, made from what is there.
    fn change(&mut self, mut make: impl FnMut(Option<&TableContents>, &mut Batch)) -> Result<(), NftError> {
        let table = self.table.clone();
        let mut rounds = 0;
        loop {
            rounds += 1;
            let changed = self.nft.transact(|nft| {
                let mut batch = Batch::new();
                make(nft.contents(&table)?.as_ref(), &mut batch);
                Ok(batch)
            });
            match changed {
                Err(NftError::GenerationChanged { .. } | NftError::Unsteady { .. }) if rounds < ROUNDS => {}
                changed => return changed,
            }
        }
    }
}

/// Deletes the elements of our maps that are to go.
fn forget(batch: &mut Batch, found: Option<&TableContents>, goes: impl Fn(&Element) -> bool) {
    let Some(found) = found else { return };
    for v4 in [true, false] {
        let map = sources(&found.table.object.id, v4);
        let elements = found.set(&map.id).map_or(&[][..], |(_, elements)| elements);
        batch.delete_elements(&map, elements.iter().filter(|element| goes(element)));
    }
}

fn leads_to(element: &Element, chain: &Name) -> bool {
    matches!(&element.data, Some(Data::Verdict(Verdict::Jump(to))) if to == chain)
}

fn sources(table: &TableId, v4: bool) -> Set {
    let (name, field) = if v4 { ("masq-source4", Field::Ipv4Addr) } else { ("masq-source6", Field::Ipv6Addr) };
    Set::new(table.set(Name::known(name)), [field]).verdict_map()
}

fn container_chain(table: &TableId, id: &EndpointId) -> ChainId {
    table.chain(Name::known(marks::host_interface(id).as_str()))
}

fn entry_chain(table: &TableId) -> Chain {
    let base =
        BaseChain { kind: ChainType::Nat, hook: Hook::Postrouting, priority: priority::SRCNAT, policy: Policy::Accept };
    Chain::base(table.chain(Name::known("masq-postrouting")), base)
}

fn entry_rules(table: &TableId) -> [Rule; 2] {
    [true, false].map(|v4| {
        let map = sources(table, v4).id.name;
        let program = if v4 {
            Program::new().ipv4().payload_vmap(Payload::IP_SADDR, map)
        } else {
            Program::new().ipv6().payload_vmap(Payload::IP6_SADDR, map)
        };
        Rule::new(entry_chain(table).id, program)
    })
}

/// What a container's address sends to another network, except multicast: 224.0.0.0/4 (RFC 5771) and ff00::/8 (RFC 4291,
/// section 2.7).
fn leaving(address: IpNet) -> Program {
    let (network, mask) = (address_bytes(address.network()), address_bytes(address.netmask()));
    let from = Program::new().saddr(address.addr());
    let out = match address.addr() {
        IpAddr::V4(_) => from.masked(Payload::IP_DADDR, mask, Cmp::Ne, network).masked(
            Payload::IP_DADDR,
            vec![0xf0, 0, 0, 0],
            Cmp::Ne,
            vec![0xe0, 0, 0, 0],
        ),
        IpAddr::V6(_) => from.masked(Payload::IP6_DADDR, mask, Cmp::Ne, network).payload(
            Payload::network(24, 1),
            Cmp::Ne,
            vec![0xff],
        ),
    };
    out.masquerade(NatFlags::FULLY_RANDOM)
}

#[cfg(test)]
mod tests;
