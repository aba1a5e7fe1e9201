//! `IPBlock`: which node holds which addresses of one block. Never the leases: those are in the node's own database.
//!
//! ```text
//! block 10.1.0.0/26, owner node-1, not strict
//!   10.1.0.0 ... 10.1.0.15 | 10.1.0.16 ............ 10.1.0.62 | 10.1.0.63
//!   node-1 (a chunk)       | nobody                           | node-2 (borrowed, from the end)
//! ```
//! The owner takes chunks from the beginning and routes the whole block; a borrower takes single addresses from the end
//! and routes each of them. Every change is one compare-and-swap, so they never collide and never ask each other.

use super::spec::{block_sizes, family};
use crate::ipam::address::{from_bits, host_prefix, to_bits};
use crate::ipam::{AddressRange, IpamError};
use crate::model::NodeName;
use crate::store::{Kind, Object, ObjectKey};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::net::IpAddr;
use std::sync::Arc;

/// A part of a block that one node gives addresses from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The node.
    pub node: NodeName,
    /// Its addresses.
    pub range: AddressRange,
}

/// `spec` of an `IPBlock`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpBlockSpec {
    /// The pool it was cut from.
    pub pool: Arc<str>,
    /// The block.
    pub cidr: IpNet,
    /// The node that routes the whole block; `None` when only borrowers are left in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<NodeName>,
    /// Who holds what, sorted, without overlaps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<Claim>,
    /// Fields of newer versions.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How many addresses an owner claims at once when others may borrow: a quarter of the block, at most 64.
fn chunk(block: IpNet) -> u128 {
    (AddressRange::of_prefix(block).count() / 4).clamp(1, 64)
}

impl IpBlockSpec {
    /// A block that nobody holds.
    #[must_use]
    pub fn new(pool: &str, cidr: IpNet) -> Self {
        Self { pool: pool.into(), cidr, owner: None, claims: Vec::new(), other: Map::new() }
    }

    /// Reads the object of a store.
    ///
    /// # Errors
    /// [`IpamError::Invalid`]: not a block, one that no pool can be cut into, or claims that overlap or leave the block.
    pub fn from_object(object: &Object) -> Result<Self, IpamError> {
        let name = format!("block {}", object.key.name);
        let spec: Self =
            object.read("spec").map_err(|error| IpamError::invalid(name.clone(), "spec", error.to_string()))?;
        let whole = AddressRange::of_prefix(spec.cidr);
        if spec.cidr.trunc() != spec.cidr || block_key(spec.cidr) != object.key {
            let problem = format!("{} does not belong to this name; delete the object", spec.cidr);
            return Err(IpamError::invalid(name, "spec.cidr", problem));
        }
        // Claims are routed address by address, so the size of a block bounds what an object can make of our memory.
        let (shortest, longest, _) = block_sizes(family(spec.cidr));
        if !(shortest..=longest).contains(&spec.cidr.prefix_len()) {
            let problem = format!("{} has a length outside {shortest} to {longest}; delete the object", spec.cidr);
            return Err(IpamError::invalid(name, "spec.cidr", problem));
        }
        let outside = spec.claims.iter().find(|claim| claim.range.intersection(&whole) != Some(claim.range));
        if let Some(claim) = outside {
            let problem = format!("{} of {} is not inside of {}", claim.range, claim.node, spec.cidr);
            return Err(IpamError::invalid(name, "spec.claims", problem));
        }
        if let Some([one, other]) =
            spec.claims.array_windows().find(|[one, other]| one.range.last() >= other.range.first())
        {
            let problem = format!("{} of {} and {} of {} overlap", one.range, one.node, other.range, other.node);
            return Err(IpamError::invalid(name, "spec.claims", problem));
        }
        Ok(spec)
    }

    /// What a node holds.
    pub fn claims_of<'a>(&'a self, node: &'a NodeName) -> impl Iterator<Item = AddressRange> + 'a {
        self.claims.iter().filter(move |claim| claim.node == *node).map(|claim| claim.range)
    }

    /// The node that holds an address.
    #[must_use]
    pub fn holder(&self, address: IpAddr) -> Option<&NodeName> {
        self.claims.iter().find(|claim| claim.range.contains(address)).map(|claim| &claim.node)
    }

    /// What nobody holds, in order.
    #[must_use]
    pub fn unclaimed(&self) -> Vec<AddressRange> {
        let whole = AddressRange::of_prefix(self.cidr);
        let family = family(self.cidr);
        let mut next = to_bits(whole.first());
        let mut gaps = Vec::new();
        for claim in &self.claims {
            if let Some(before) = to_bits(claim.range.first()).checked_sub(1) {
                gaps.extend(gap(family, next, before));
            }
            next = to_bits(claim.range.last()).saturating_add(1);
        }
        gaps.extend(gap(family, next, to_bits(whole.last())));
        // The last address of all has no successor: nothing is left behind it.
        if self.claims.last().is_some_and(|claim| claim.range.last() == whole.last()) {
            gaps.retain(|gap| gap.first() <= whole.last() && self.holder(gap.first()).is_none());
        }
        gaps
    }

    /// How many addresses nobody holds.
    #[must_use]
    pub fn unclaimed_addresses(&self) -> u128 {
        self.unclaimed().iter().map(AddressRange::count).sum()
    }

    /// What the owner would claim next: everything that is free when `strict`, else one chunk.
    #[must_use]
    pub fn next_chunks(&self, strict: bool) -> Vec<AddressRange> {
        let free = self.unclaimed();
        if strict {
            return free;
        }
        let first = free.first().and_then(|gap| {
            let last = to_bits(gap.last()).min(to_bits(gap.first()) + chunk(self.cidr) - 1);
            AddressRange::new(gap.first(), from_bits(gap.family(), last))
        });
        first.into_iter().collect()
    }

    /// The address that a borrower would claim next: the last free one that is in none of these ranges.
    #[must_use]
    pub fn next_borrowed(&self, reserved: &[AddressRange]) -> Option<IpAddr> {
        self.unclaimed().iter().rev().find_map(|gap| {
            let mut last = to_bits(gap.last());
            loop {
                let address = from_bits(gap.family(), last);
                match reserved.iter().find(|reserved| reserved.contains(address)) {
                    None => return gap.contains(address).then_some(address),
                    Some(range) if range.first() <= gap.first() => return None,
                    Some(range) => last = to_bits(range.first()) - 1,
                }
            }
        })
    }

    /// Adds a claim and joins it with neighbours of the same node. The caller has checked that the range is free.
    pub fn claim(&mut self, node: &NodeName, range: AddressRange) {
        self.claims.push(Claim { node: node.clone(), range });
        self.claims.sort_by_key(|claim| claim.range);
        let mut joined: Vec<Claim> = Vec::with_capacity(self.claims.len());
        for claim in self.claims.drain(..) {
            match joined.last_mut() {
                Some(last)
                    if last.node == claim.node
                        && to_bits(last.range.last()).checked_add(1) == Some(to_bits(claim.range.first())) =>
                {
                    if let Some(range) = AddressRange::new(last.range.first(), claim.range.last()) {
                        last.range = range;
                    }
                }
                _ => joined.push(claim),
            }
        }
        self.claims = joined;
    }

    /// Takes everything from a node: ownership and claims.
    pub fn give_back(&mut self, node: &NodeName) {
        self.claims.retain(|claim| claim.node != *node);
        if self.owner.as_ref() == Some(node) {
            self.owner = None;
        }
    }

    /// Nobody owns it and nobody holds anything.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.owner.is_none() && self.claims.is_empty()
    }

    /// Which prefixes each node routes: the owner the whole block, borrowers their single addresses.
    #[must_use]
    pub fn routes(&self) -> Vec<(NodeName, IpNet)> {
        let mut routes: Vec<(NodeName, IpNet)> = self.owner.iter().map(|owner| (owner.clone(), self.cidr)).collect();
        for claim in self.claims.iter().filter(|claim| self.owner.as_ref() != Some(&claim.node)) {
            let family = claim.range.family();
            let addresses = to_bits(claim.range.first())..=to_bits(claim.range.last());
            routes.extend(addresses.map(|bits| (claim.node.clone(), host_prefix(from_bits(family, bits)))));
        }
        routes
    }
}

fn gap(family: crate::ipam::Family, first: u128, last: u128) -> Option<AddressRange> {
    if first > last {
        return None;
    }
    AddressRange::new(from_bits(family, first), from_bits(family, last))
}

/// The key of a block's object: the prefix with `-` for every other character, IPv6 in full, so that no two are alike.
#[must_use]
pub fn block_key(cidr: IpNet) -> ObjectKey {
    let name = match cidr {
        IpNet::V4(v4) => format!("{}-{}", v4.network(), v4.prefix_len()).replace('.', "-"),
        IpNet::V6(v6) => {
            let groups: Vec<String> = v6.network().segments().iter().map(|group| format!("{group:x}")).collect();
            format!("{}-{}", groups.join("-"), v6.prefix_len())
        }
    };
    ObjectKey::cluster(Kind::IP_BLOCK, &name)
}

/// The block of a key: the way back from [`block_key`], so that no table of names is needed.
pub(crate) fn block_of(key: &ObjectKey) -> Option<IpNet> {
    let parts: Vec<&str> = key.name.split('-').collect();
    let (length, address) = parts.split_last()?;
    let length = length.parse().ok()?;
    let block = match address.len() {
        4 => IpNet::V4(Ipv4Net::new(address.join(".").parse().ok()?, length).ok()?),
        8 => IpNet::V6(Ipv6Net::new(address.join(":").parse().ok()?, length).ok()?),
        _ => return None,
    };
    (block_key(block) == *key).then_some(block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn block(cidr: &str) -> IpBlockSpec {
        IpBlockSpec::new("pool", cidr.parse().unwrap())
    }

    #[test]
    fn names_of_blocks_are_legal_and_differ() {
        assert_eq!(&*block_key("10.1.2.0/26".parse().unwrap()).name, "10-1-2-0-26");
        assert_eq!(&*block_key("fd00::40/122".parse().unwrap()).name, "fd00-0-0-0-0-0-0-40-122");
    }

    #[test]
    fn the_owner_takes_chunks_from_the_beginning_and_a_borrower_single_addresses_from_the_end() {
        let mut block = block("10.1.0.0/26");
        block.owner = Some(node("one"));
        let chunk = block.next_chunks(false)[0];
        assert_eq!(chunk.to_string(), "10.1.0.0-10.1.0.15");
        block.claim(&node("one"), chunk);
        let borrowed = block.next_borrowed(&["10.1.0.62-10.1.0.63".parse().unwrap()]).unwrap();
        assert_eq!(borrowed.to_string(), "10.1.0.61");
        block.claim(&node("two"), AddressRange::new(borrowed, borrowed).unwrap());
        assert_eq!(block.next_chunks(false)[0].to_string(), "10.1.0.16-10.1.0.31");
        assert_eq!(block.next_chunks(true).iter().map(AddressRange::count).sum::<u128>(), 64 - 17);
        let routes: Vec<String> = block.routes().iter().map(|(node, prefix)| format!("{node} {prefix}")).collect();
        assert_eq!(routes, ["one 10.1.0.0/26", "two 10.1.0.61/32"]);
        block.give_back(&node("one"));
        assert_eq!((block.owner.clone(), block.claims.len()), (None, 1));
    }

    #[test]
    fn the_last_block_of_the_address_space_does_not_overflow() {
        for cidr in ["255.255.255.192/26", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffc0/122"] {
            let mut block = block(cidr);
            for chunk in block.next_chunks(true) {
                block.claim(&node("one"), chunk);
            }
            assert_eq!((block.claims.len(), block.unclaimed()), (1, vec![]), "{cidr}");
        }
    }

    #[test]
    fn a_block_larger_than_any_pool_is_cut_into_is_refused() {
        for (cidr, accepted) in
            [("10.0.0.0/16", true), ("10.0.0.0/15", false), ("fd00::/112", true), ("fd00::/8", false)]
        {
            let mut block = block(cidr);
            block.claim(&node("one"), AddressRange::of_prefix(block.cidr));
            let object = Object::with_spec(block_key(block.cidr), &block).unwrap();
            assert_eq!(IpBlockSpec::from_object(&object).is_ok(), accepted, "{cidr}");
        }
    }

    proptest! {
        #[test]
        fn a_blocks_key_leads_back_to_the_block(v6: bool, bits: u128, length in 0..=128_u8) {
            let block = if v6 {
                IpNet::V6(Ipv6Net::new(bits.into(), length).unwrap())
            } else {
                IpNet::V4(Ipv4Net::new((bits as u32).into(), length % 33).unwrap())
            };
            prop_assert_eq!(block_of(&block_key(block.trunc())), Some(block.trunc()));
        }

        #[test]
        fn claims_never_overlap_and_with_the_rest_make_the_block(steps: Vec<(bool, u8)>) {
            let mut block = block("fd00::/122");
            for (borrow, who) in steps {
                let node = node(&format!("n{}", who % 3));
                let next = match borrow {
                    true => block.next_borrowed(&[]).and_then(|address| AddressRange::new(address, address)),
                    false => block.next_chunks(false).first().copied(),
                };
                match next {
                    Some(range) => block.claim(&node, range),
                    None => block.give_back(&node),
                }
                let object = Object::with_spec(block_key(block.cidr), &block).unwrap();
                prop_assert_eq!(&IpBlockSpec::from_object(&object).unwrap(), &block);
                let claimed: u128 = block.claims.iter().map(|claim| claim.range.count()).sum();
                prop_assert_eq!(claimed + block.unclaimed_addresses(), 64);
            }
        }
    }
}
