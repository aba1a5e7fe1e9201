//! What this node knows of the cluster's pools and blocks. Never asks the store: others bring what it says.

use super::block::{IpBlockSpec, block_of};
use super::seen::{SeenBlock, Stamp};
use super::spec::{IpPool, family, refuse_overlaps};
use crate::ipam::segment::SegmentSpec;
use crate::ipam::{AddressRange, AssignRequest, Family, IpamError};
use crate::model::{NodeName, overlap};
use crate::store::{Object, ObjectKey};
use ipnet::IpNet;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::net::IpAddr;
use std::sync::Arc;

/// Pools, blocks and this node's labels.
#[derive(Debug)]
pub(super) struct View {
    pub(super) node: NodeName,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) pools: BTreeMap<Arc<str>, Arc<IpPool>>,
    pub(super) blocks: BTreeMap<IpNet, SeenBlock>,
    /// The uids of blocks that we deleted, until the watch says so, too: events from before come late.
    deleted: BTreeMap<Arc<str>, Box<str>>,
    /// Blocks that are being given back, as they were when that began. Whether our write is done is not known before the
    /// store shows a later state, so nothing is given from them until then.
    leaving: BTreeMap<IpNet, Stamp>,
    /// Objects that could not be read, by name, with the reason: for people.
    pub(super) broken: BTreeMap<String, IpamError>,
    /// The prefixes on link of the underlay: a pool there would cut nodes off.
    pub(super) underlay: Vec<IpNet>,
}

/// What to write in order to get more addresses.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// A new block, with us as its owner.
    Create(IpBlockSpec),
    /// A block as it shall be.
    Update(IpBlockSpec),
}

impl View {
    pub(super) fn new(node: NodeName) -> Self {
        Self {
            node,
            labels: BTreeMap::new(),
            pools: BTreeMap::new(),
            blocks: BTreeMap::new(),
            deleted: BTreeMap::new(),
            leaving: BTreeMap::new(),
            broken: BTreeMap::new(),
            underlay: Vec::new(),
        }
    }

    /// Takes a pool's new content. A bad one leaves the last good one in force, but closed.
    pub(super) fn put_pool(&mut self, object: &Object) -> Result<(), IpamError> {
        let name: Arc<str> = object.key.name.clone();
        let outcome = IpPool::from_object(object).and_then(|pool| {
            refuse_overlaps(self.pools.values().map(|pool| &**pool).filter(|other| other.name != name).chain([&pool]))?;
            Ok(pool)
        });
        match outcome {
            Ok(pool) => {
                self.broken.remove(&format!("pool {name}"));
                self.pools.insert(name, Arc::new(pool));
                Ok(())
            }
            Err(error) => {
                self.broken.insert(format!("pool {name}"), error.clone());
                Err(error)
            }
        }
    }

    /// Takes a block's new content. `None`: it is older than what is known, or cannot be read.
    ///
    /// A watch may bring an old state after our own write. To believe it would be to give addresses that we have given
    /// back, so the store's count of changes decides.
    pub(super) fn put_block(&mut self, object: &Object) -> Option<IpNet> {
        let name = &object.key.name;
        let stamp = Stamp::of(object);
        if stamp.uid.is_some() && self.deleted.get(name) == stamp.uid.as_ref() {
            return None;
        }
        self.deleted.remove(name);
        let mut spec = match IpBlockSpec::from_object(object) {
            Ok(spec) => spec,
            Err(error) => {
                self.broken.insert(format!("block {name}"), error);
                return None;
            }
        };
        self.broken.remove(&format!("block {name}"));
        let cidr = spec.cidr;
        if self.blocks.get(&cidr).is_some_and(|seen| seen.stamp.is_after(&stamp)) {
            return None;
        }
        if self.leaving.get(&cidr).is_some_and(|began| !stamp.is_at_most(began)) {
            self.leaving.remove(&cidr);
        }
        // One name for the thousands of blocks of a pool.
        if let Some((pool, _)) = self.pools.get_key_value(&spec.pool) {
            spec.pool = pool.clone();
        }
        self.blocks.insert(cidr, SeenBlock::new(spec, object));
        Some(cidr)
    }

    /// Takes that a block is gone.
    pub(super) fn delete_block(&mut self, key: &ObjectKey) -> Option<IpNet> {
        self.broken.remove(&format!("block {}", key.name));
        self.deleted.remove(&key.name);
        let cidr = block_of(key)?;
        self.blocks.remove(&cidr)?;
        self.leaving.remove(&cidr);
        Some(cidr)
    }

    /// Takes that we deleted a block.
    pub(super) fn deleted_block(&mut self, seen: &SeenBlock) {
        self.blocks.remove(&seen.spec.cidr);
        self.leaving.remove(&seen.spec.cidr);
        if let Some(uid) = &seen.stamp.uid {
            self.deleted.insert(seen.key().name, uid.clone());
        }
    }

    /// Gives nothing from a block any more, until the store shows a later state of it.
    pub(super) fn leave(&mut self, seen: &SeenBlock) {
        self.leaving.insert(seen.spec.cidr, seen.stamp.clone());
    }

    /// Whether nothing is given from a block.
    pub(super) fn is_leaving(&self, cidr: IpNet) -> bool {
        self.leaving.contains_key(&cidr)
    }

    /// Gives from it again: it is in use after all, and nothing was written.
    pub(super) fn stay(&mut self, cidr: IpNet) {
        self.leaving.remove(&cidr);
    }

    /// What an older view knows of our own writes and of the underlay.
    pub(super) fn inherit(&mut self, older: &Self) {
        self.deleted.clone_from(&older.deleted);
        self.leaving.clone_from(&older.leaving);
        self.underlay.clone_from(&older.underlay);
    }

    /// The segments that our claims in a block give.
    pub(super) fn segments_of(&self, cidr: IpNet) -> Vec<SegmentSpec> {
        let Some(block) = self.blocks.get(&cidr) else { return Vec::new() };
        if self.leaving.contains_key(&cidr) {
            return Vec::new();
        }
        let pool = self.pools.get(&*block.spec.pool);
        let reserved: Arc<[AddressRange]> = pool.map_or_else(|| [].into(), |pool| pool.reservations.clone());
        // Of a pool that was deleted the leases stay, as of one that is disabled.
        let closed = pool.is_none_or(|pool| pool.disabled || self.on_underlay(pool).is_some());
        block
            .spec
            .claims_of(&self.node)
            .map(|range| SegmentSpec {
                pool: block.spec.pool.clone(),
                subnet: cidr,
                range,
                reserved: reserved.clone(),
                closed,
            })
            .collect()
    }

    pub(super) fn segments(&self) -> Vec<SegmentSpec> {
        self.blocks.keys().flat_map(|cidr| self.segments_of(*cidr)).collect()
    }

    /// The pools that a request may take from, best first.
    pub(super) fn candidates(&self, family: Family, request: &AssignRequest<'_>) -> Vec<Arc<IpPool>> {
        let of_family = |pool: &&Arc<IpPool>| pool.family() == family;
        let named: Vec<&Arc<IpPool>> =
            request.pools.iter().filter_map(|name| self.pools.get(name.as_str())).filter(of_family).collect();
        let pools = if named.is_empty() { self.pools.values().filter(of_family).collect() } else { named };
        pools.into_iter().filter(|pool| self.obstacle(pool, request).is_none()).cloned().collect()
    }

    /// The prefix of the underlay that a pool overlaps.
    fn on_underlay(&self, pool: &IpPool) -> Option<IpNet> {
        self.underlay.iter().copied().find(|segment| overlap(segment, &pool.cidr))
    }

    /// Why a request may not take from a pool.
    fn obstacle(&self, pool: &IpPool, request: &AssignRequest<'_>) -> Option<String> {
        let name = &pool.name;
        if pool.disabled {
            Some(format!("{name} is disabled"))
        } else if let Some(segment) = self.on_underlay(pool) {
            Some(format!("{name}: spec.cidr: {} overlaps {segment} of this node's underlay", pool.cidr))
        } else if !pool.selects_node(&self.labels) {
            Some(format!("{name} does not select node {}", self.node))
        } else if !pool.selects_namespace(request.namespace_labels) {
            Some(format!("{name} does not select the pod's namespace"))
        } else {
            None
        }
    }

    /// The families to give, or why there is none.
    pub(super) fn families(&self, request: &AssignRequest<'_>) -> Result<Vec<Family>, IpamError> {
        if let Some(name) = request.pools.iter().find(|name| !self.pools.contains_key(name.as_str())) {
            return Err(IpamError::NoPool { reason: format!("there is no pool {name}; the pod asks for it") });
        }
        for name in request.pools {
            if let Some(reason) = self.pools.get(name.as_str()).and_then(|pool| self.obstacle(pool, request)) {
                return Err(IpamError::NoPool { reason: format!("{reason}; the pod asks for it") });
            }
        }
        let families: Vec<Family> = [Family::V4, Family::V6]
            .into_iter()
            .filter(|family| !self.candidates(*family, request).is_empty())
            .collect();
        if families.is_empty() {
            return Err(self.no_pool(request));
        }
        Ok(families)
    }

    fn no_pool(&self, request: &AssignRequest<'_>) -> IpamError {
        let obstacles = self.pools.values().filter_map(|pool| self.obstacle(pool, request));
        let broken = self.broken.values().map(ToString::to_string);
        let reasons: Vec<String> = obstacles.chain(broken).collect();
        let reason = if reasons.is_empty() { "there is none; create an IPPool".to_owned() } else { reasons.join("; ") };
        IpamError::NoPool { reason }
    }

    /// The pool that an address lies in.
    pub(super) fn pool_of(&self, address: IpAddr) -> Option<&Arc<IpPool>> {
        self.pools.values().find(|pool| pool.cidr.contains(&address))
    }

    fn blocks_of<'a>(&'a self, pool: &'a IpPool) -> impl Iterator<Item = &'a SeenBlock> + 'a {
        self.blocks.values().filter(|block| *block.spec.pool == *pool.name)
    }

    fn owned(&self, pool: &IpPool) -> u32 {
        let owned = self.blocks_of(pool).filter(|block| block.spec.owner.as_ref() == Some(&self.node)).count();
        u32::try_from(owned).unwrap_or(u32::MAX)
    }

    fn may_own_more(&self, pool: &IpPool) -> bool {
        pool.max_blocks_per_node.is_none_or(|limit| self.owned(pool) < limit)
    }

    /// The next write that brings this node more addresses of a pool; `None` when there is nothing left to take.
    /// After a lost race (`attempt` above 0) another new block is tried than everybody else tries.
    pub(super) fn next_step(&self, pool: &IpPool, attempt: u32) -> Option<Step> {
        let ours = |block: &&SeenBlock| block.spec.owner.as_ref() == Some(&self.node);
        if let Some(block) = self.blocks_of(pool).filter(ours).find_map(|block| self.extended(block, pool)) {
            return Some(Step::Update(block));
        }
        if self.may_own_more(pool) {
            let ownerless = |block: &&SeenBlock| block.spec.owner.is_none();
            if let Some(block) = self.blocks_of(pool).filter(ownerless).find_map(|block| self.extended(block, pool)) {
                return Some(Step::Update(block));
            }
            if let Some(cidr) = self.free_block(pool, attempt) {
                let mut block = IpBlockSpec::new(&pool.name, cidr);
                block.owner = Some(self.node.clone());
                for range in block.next_chunks(pool.strict_affinity) {
                    block.claim(&self.node, range);
                }
                return Some(Step::Create(block));
            }
        }
        if pool.strict_affinity {
            return None;
        }
        self.blocks_of(pool).find_map(|block| {
            let address = block.spec.next_borrowed(&pool.reservations)?;
            let mut block = block.spec.clone();
            block.claim(&self.node, AddressRange::new(address, address)?);
            Some(Step::Update(block))
        })
    }

    /// The block as ours, with the next chunk; `None` when nobody can get anything of use from it.
    fn extended(&self, block: &SeenBlock, pool: &IpPool) -> Option<IpBlockSpec> {
        block.spec.next_borrowed(&pool.reservations)?;
        let chunks = block.spec.next_chunks(pool.strict_affinity);
        let mut block = block.spec.clone();
        block.owner = Some(self.node.clone());
        for range in chunks {
            block.claim(&self.node, range);
        }
        Some(block)
    }

    /// A prefix of the pool that is no block yet and has addresses to give.
    fn free_block(&self, pool: &IpPool, attempt: u32) -> Option<IpNet> {
        let count = pool.blocks();
        // All begin with the lowest, which is easy to read; who loses a race goes elsewhere, each node to another place.
        let start = match attempt {
            0 => 0,
            _ => {
                let hasher = BuildHasherDefault::<DefaultHasher>::default();
                u128::from(hasher.hash_one((self.node.as_str(), attempt))) % count
            }
        };
        // Beside the blocks that are there only as many are looked at as reservations can cover.
        let tries = self.blocks.len() as u128 + 1 + pool.reservations.len() as u128 * 2 + 1024;
        (0..count.min(tries)).find_map(|step| {
            let index = (start + step) % count;
            let cidr = nth_block(pool, index)?;
            (!self.overlaps_a_block(cidr) && !pool.is_reserved(cidr)).then_some(cidr)
        })
    }

    /// Blocks of another size may be left from a time when the pool had other settings.
    fn overlaps_a_block(&self, cidr: IpNet) -> bool {
        let before = self.blocks.range(..=cidr).next_back().map(|(block, _)| *block);
        let after = self.blocks.range(cidr..).next().map(|(block, _)| *block);
        before.is_some_and(|block| block.contains(&cidr)) || after.is_some_and(|block| cidr.contains(&block))
    }

    /// The write that gives this node one address, or why that is not possible.
    pub(super) fn step_for(&self, address: IpAddr, pool: &IpPool) -> Result<Step, IpamError> {
        let unusable = |reason: String| IpamError::Unusable { address, reason };
        let cidr = pool
            .block_of(address)
            .ok_or_else(|| unusable(format!("it is not in pool {} ({})", pool.name, pool.cidr)))?;
        let single = AddressRange::new(address, address).ok_or_else(|| unusable("it is no address".to_owned()))?;
        let Some(block) = self.blocks.get(&cidr) else {
            if self.overlaps_a_block(cidr) {
                let reason =
                    format!("pool {} has blocks of another size there; let them become empty first", pool.name);
                return Err(unusable(reason));
            }
            let mut block = IpBlockSpec::new(&pool.name, cidr);
            if self.may_own_more(pool) {
                block.owner = Some(self.node.clone());
            } else if pool.strict_affinity {
                return Err(unusable(format!(
                    "node {} has all blocks of pool {} that spec.maxBlocksPerNode allows",
                    self.node, pool.name
                )));
            }
            if pool.strict_affinity {
                for range in block.next_chunks(true) {
                    block.claim(&self.node, range);
                }
            } else {
                block.claim(&self.node, single);
            }
            return Ok(Step::Create(block));
        };
        if let Some(holder) = block.spec.holder(address) {
            return Err(unusable(if *holder == self.node {
                "its block is being given back; try again".to_owned()
            } else {
                format!("node {holder} holds it (block {cidr}); run the pod there or ask for another address")
            }));
        }
        match &block.spec.owner {
            Some(owner) if *owner != self.node && pool.strict_affinity => Err(unusable(format!(
                "its block {cidr} belongs to node {owner}, and pool {} has strictAffinity",
                pool.name
            ))),
            _ => {
                let mut block = block.spec.clone();
                block.claim(&self.node, single);
                Ok(Step::Update(block))
            }
        }
    }

    /// How many addresses of a pool no node holds.
    pub(super) fn unclaimed(&self, pool: &IpPool) -> u128 {
        let capacity = AddressRange::of_prefix(pool.cidr).count();
        let claimed: u128 =
            self.blocks_of(pool).flat_map(|block| &block.spec.claims).map(|claim| claim.range.count()).sum();
        capacity.saturating_sub(claimed)
    }

    pub(super) fn blocks_per_node(&self, pool: &IpPool) -> BTreeMap<String, u32> {
        let mut counts: HashMap<&str, u32> = HashMap::new();
        for owner in self.blocks_of(pool).filter_map(|block| block.spec.owner.as_ref()) {
            *counts.entry(owner.as_str()).or_default() += 1;
        }
        counts.into_iter().map(|(node, count)| (node.to_owned(), count)).collect()
    }
}

fn nth_block(pool: &IpPool, index: u128) -> Option<IpNet> {
    use crate::ipam::address::{from_bits, to_bits};
    let family = family(pool.cidr);
    let shift = u32::from(family.bits() - pool.block_size);
    let bits = to_bits(pool.cidr.network()).checked_add(index.checked_shl(shift)?)?;
    IpNet::new(from_bits(family, bits), pool.block_size).ok()
}
