//! `IPPool`: what an operator writes, and what it means once it is checked. Never which blocks there are.

use crate::ipam::address::{prefix, to_bits};
use crate::ipam::segment::MOST_ADDRESSES;
use crate::ipam::{AddressRange, Family, IpamError};
use crate::model::{Encapsulation, LabelSelector, never_of_pods};
use crate::store::{Kind, Object, ObjectKey};
use crate::strict;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// `spec` of an `IPPool` as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawIpPoolSpec {
    /// The addresses of the pool, a prefix without host bits: `10.1.0.0/16`, `fd00:1::/64`.
    pub cidr: String,
    /// The prefix length of the blocks that nodes claim: 16 to 32 (default 26) for IPv4, 112 to 128 (default 122) for IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u8>,
    /// The nodes that may take from the pool; without it: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// The namespaces whose pods get addresses from the pool; without it: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Gives no new addresses; what is leased stays.
    #[serde(default, skip_serializing_if = "is_false")]
    pub disabled: bool,
    /// When traffic to the pool's addresses is wrapped; without it the backend's own configuration says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encapsulation: Option<Encapsulation>,
    /// Addresses that no pod gets: `10.1.0.1`, `10.1.0.0/28`, `10.1.0.1-10.1.0.9`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<String>,
    /// A block belongs to one node wholly, and no other node borrows from it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub strict_affinity: bool,
    /// The most blocks that one node claims, at least 1; without it: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_blocks_per_node: Option<u32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// A checked pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpPool {
    /// Its name.
    pub name: Arc<str>,
    /// Its addresses.
    pub cidr: IpNet,
    /// The prefix length of its blocks, not shorter than that of `cidr`.
    pub block_size: u8,
    /// The nodes that may take from it.
    pub node_selector: Option<LabelSelector>,
    /// The namespaces whose pods may get its addresses.
    pub namespace_selector: Option<LabelSelector>,
    /// Gives no new addresses.
    pub disabled: bool,
    /// When its traffic is wrapped.
    pub encapsulation: Option<Encapsulation>,
    /// Addresses that no pod gets, sorted, without overlaps, all inside of `cidr`.
    pub reservations: Arc<[AddressRange]>,
    /// No borrowing.
    pub strict_affinity: bool,
    /// The most blocks of one node.
    pub max_blocks_per_node: Option<u32>,
}

/// Block sizes per family: shortest, longest, default prefix length. A segment's bitmap holds 2^16 addresses.
pub(super) fn block_sizes(family: Family) -> (u8, u8, u8) {
    let shortest = family.bits() - u8::try_from(MOST_ADDRESSES.trailing_zeros()).unwrap_or(16);
    (shortest, family.bits(), family.bits() - 6)
}

impl IpPool {
    /// Checks what was written.
    ///
    /// # Errors
    /// [`IpamError::Invalid`], which names pool, field and what would be right.
    pub fn new(name: &str, raw: RawIpPoolSpec) -> Result<Self, IpamError> {
        let object = format!("pool {name}");
        let invalid = |field, problem: String| IpamError::invalid(object.clone(), field, problem);
        let cidr = prefix(&object, "spec.cidr", &raw.cidr)?;
        if let Some(special) = never_of_pods(&cidr) {
            let problem =
                format!("{cidr} overlaps {special}, which is not for pods; write unicast addresses of your own");
            return Err(invalid("spec.cidr", problem));
        }
        let (shortest, longest, default) = block_sizes(family(cidr));
        let block_size = raw.block_size.unwrap_or(default);
        if !(shortest..=longest).contains(&block_size) {
            let problem = format!("{block_size} is not in {shortest} to {longest}; the default is {default}");
            return Err(invalid("spec.blockSize", problem));
        }
        if block_size < cidr.prefix_len() {
            let (length, given) = (cidr.prefix_len(), if raw.block_size.is_some() { "" } else { " (the default)" });
            let problem = format!(
                "a block of /{block_size}{given} is larger than the pool {cidr}; write {length} or more, or a larger cidr"
            );
            return Err(invalid("spec.blockSize", problem));
        }
        if raw.max_blocks_per_node == Some(0) {
            let problem = "0 would let no node have addresses; write 1 or more, or set spec.disabled".to_owned();
            return Err(invalid("spec.maxBlocksPerNode", problem));
        }
        for (field, selector) in
            [("spec.nodeSelector", &raw.node_selector), ("spec.namespaceSelector", &raw.namespace_selector)]
        {
            if let Some(problem) = selector.as_ref().and_then(LabelSelector::problem) {
                return Err(invalid(field, problem));
            }
        }
        let whole = AddressRange::of_prefix(cidr);
        let mut reservations = Vec::with_capacity(raw.reservations.len());
        for text in &raw.reservations {
            let range: AddressRange = text.parse().map_err(|error| invalid("spec.reservations", format!("{error}")))?;
            if range.intersection(&whole) != Some(range) {
                return Err(invalid(
                    "spec.reservations",
                    format!("{text} is not inside of {cidr}; remove or correct it"),
                ));
            }
            reservations.push(range);
        }
        Ok(Self {
            name: name.into(),
            cidr,
            block_size,
            node_selector: raw.node_selector,
            namespace_selector: raw.namespace_selector,
            disabled: raw.disabled,
            encapsulation: raw.encapsulation,
            reservations: merge(reservations).into(),
            strict_affinity: raw.strict_affinity,
            max_blocks_per_node: raw.max_blocks_per_node,
        })
    }

    /// Reads the object of a store.
    ///
    /// # Errors
    /// [`IpamError::Invalid`]; an unknown key is answered with the nearest right one.
    pub fn from_object(object: &Object) -> Result<Self, IpamError> {
        let name = &*object.key.name;
        let spec = object.fields.get("spec").cloned().unwrap_or_default();
        let raw = strict::from_value(spec, "spec")
            .map_err(|error| IpamError::invalid(format!("pool {name}"), "spec", error.to_string()))?;
        Self::new(name, raw)
    }

    /// The pool's family.
    #[must_use]
    pub fn family(&self) -> Family {
        family(self.cidr)
    }

    /// How many addresses a block has.
    #[must_use]
    pub fn block_addresses(&self) -> u32 {
        1_u32 << (self.family().bits() - self.block_size).min(16)
    }

    /// How many blocks there is room for.
    #[must_use]
    pub fn blocks(&self) -> u128 {
        1_u128.checked_shl((self.block_size - self.cidr.prefix_len()).into()).unwrap_or(u128::MAX)
    }

    /// How many addresses no pod gets.
    #[must_use]
    pub fn reserved(&self) -> u128 {
        self.reservations.iter().fold(0, |sum, range| sum.saturating_add(range.count()))
    }

    /// Whether this node may take from it.
    #[must_use]
    pub fn selects_node(&self, labels: &BTreeMap<String, String>) -> bool {
        self.node_selector.as_ref().is_none_or(|selector| selector.matches(labels))
    }

    /// Whether pods of a namespace may get its addresses. A namespace whose labels are not known has none.
    #[must_use]
    pub fn selects_namespace(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        let none = BTreeMap::new();
        self.namespace_selector.as_ref().is_none_or(|selector| selector.matches(labels.unwrap_or(&none)))
    }

    /// The block that an address of the pool is in.
    pub(super) fn block_of(&self, address: std::net::IpAddr) -> Option<IpNet> {
        let block = IpNet::new(address, self.block_size).ok()?.trunc();
        self.cidr.contains(&block).then_some(block)
    }

    /// Whether a block has no address that a pod may get.
    pub(super) fn is_reserved(&self, block: IpNet) -> bool {
        let block = AddressRange::of_prefix(block);
        self.reservations.iter().any(|reserved| reserved.intersection(&block) == Some(block))
    }
}

/// The key of a pool's object.
#[must_use]
pub fn pool_key(name: &str) -> ObjectKey {
    ObjectKey::cluster(Kind::IP_POOL, name)
}

pub(super) fn family(prefix: IpNet) -> Family {
    Family::of(prefix.addr())
}

/// Sorted, overlaps and neighbours joined.
fn merge(mut ranges: Vec<AddressRange>) -> Vec<AddressRange> {
    ranges.sort();
    let mut merged: Vec<AddressRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if to_bits(range.first()) <= to_bits(last.last()).saturating_add(1) => {
                if let Some(joined) = AddressRange::new(last.first(), last.last().max(range.last())) {
                    *last = joined;
                }
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// Refuses pools that share addresses.
///
/// # Errors
/// [`IpamError::Overlap`] with both pools and their prefixes.
pub fn refuse_overlaps<'a>(pools: impl IntoIterator<Item = &'a IpPool>) -> Result<(), IpamError> {
    let mut sorted: Vec<&IpPool> = pools.into_iter().collect();
    sorted.sort_by_key(|pool| (pool.cidr, pool.name.clone()));
    for pair in sorted.windows(2) {
        let [one, other] = pair else { continue };
        // Sorted prefixes overlap only if neighbours do.
        if one.cidr.contains(&other.cidr) || other.cidr.contains(&one.cidr) {
            let (first, second) = if one.name <= other.name { (one, other) } else { (other, one) };
            return Err(IpamError::Overlap {
                first: first.name.to_string(),
                first_cidr: first.cidr,
                second: second.name.to_string(),
                second_cidr: second.cidr,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pool(spec: serde_json::Value) -> Result<IpPool, String> {
        let mut object = Object::new(pool_key("p"));
        object.fields.insert("spec".to_owned(), spec);
        IpPool::from_object(&object).map_err(|error| error.to_string())
    }

    #[test]
    fn block_sizes_default_to_26_and_122() {
        assert_eq!(pool(json!({"cidr": "10.1.0.0/16"})).map(|pool| (pool.block_size, pool.blocks())), Ok((26, 1024)));
        assert_eq!(pool(json!({"cidr": "fd00::/64"})).map(|pool| (pool.block_size, pool.blocks())), Ok((122, 1 << 58)));
    }

    #[test]
    fn bad_pools_are_refused_with_pool_field_and_remedy() {
        for (spec, words) in [
            (json!({"cidr": "10.1.0.1/16"}), "pool p: spec.cidr: 10.1.0.1/16 has host bits; did you mean 10.1.0.0/16?"),
            (json!({"cidr": "x"}), "pool p: spec.cidr: \"x\" is no prefix; write one as in 10.1.0.0/16 or fd00:1::/64"),
            (
                json!({"cidr": "127.0.0.0/16"}),
                "pool p: spec.cidr: 127.0.0.0/16 overlaps 127.0.0.0/8, which is not for pods; \
                 write unicast addresses of your own",
            ),
            (
                json!({"cidr": "fe80::/64"}),
                "pool p: spec.cidr: fe80::/64 overlaps fe80::/10, which is not for pods; \
                 write unicast addresses of your own",
            ),
            (
                json!({"cidr": "10.1.0.0/28"}),
                "pool p: spec.blockSize: a block of /26 (the default) is larger than the pool 10.1.0.0/28; \
                 write 28 or more, or a larger cidr",
            ),
            (
                json!({"cidr": "10.1.0.0/16", "blockSize": 33}),
                "pool p: spec.blockSize: 33 is not in 16 to 32; the default is 26",
            ),
            (
                json!({"cidr": "10.1.0.0/16", "reservations": ["10.2.0.1"]}),
                "pool p: spec.reservations: 10.2.0.1 is not inside of 10.1.0.0/16; remove or correct it",
            ),
            (
                json!({"cidr": "10.1.0.0/16", "maxBlocksPerNode": 0}),
                "pool p: spec.maxBlocksPerNode: 0 would let no node have addresses; write 1 or more, or set spec.disabled",
            ),
        ] {
            assert_eq!(pool(spec).map(|_| ()), Err(words.to_owned()));
        }
        let unknown = pool(json!({"cidr": "10.1.0.0/16", "blocksize": 26})).unwrap_err();
        assert!(unknown.contains("blockSize"), "the nearest right key is named: {unknown}");
    }

    #[test]
    fn overlapping_pools_are_refused_whatever_their_order() {
        let pool = |name: &str, cidr: &str| {
            IpPool::new(name, RawIpPoolSpec { cidr: cidr.to_owned(), ..RawIpPoolSpec::default() }).unwrap()
        };
        let pools = [pool("a", "10.1.128.0/17"), pool("b", "10.2.0.0/16"), pool("c", "10.1.0.0/16")];
        let words = "pools a (10.1.128.0/17) and c (10.1.0.0/16) overlap: spec.cidr of one of them must change";
        assert_eq!(refuse_overlaps(&pools).unwrap_err().to_string(), words);
        assert!(refuse_overlaps(&pools[..2]).is_ok());
    }

    #[test]
    fn reservations_are_joined_so_that_they_are_counted_once() {
        let pool = pool(json!({"cidr": "10.1.0.0/16", "reservations": ["10.1.0.0/30", "10.1.0.2-10.1.0.9"]})).unwrap();
        assert_eq!((pool.reservations.len(), pool.reserved()), (1, 10));
    }
}
