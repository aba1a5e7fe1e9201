//! Nodes, blocks and pools of the cluster, as the peers and local blocks that a datapath wants. Pure and incremental.

use super::claims::{Claim, Claims, PoolId, Source};
use super::{ClusterProblem, NotForPods};
use crate::backend::{Change, NetworkChange};
use crate::model::{
    Attributes, Encapsulation, LocalBlock, NetworkItem, NetworkKey, NodeName, Peer, PeerPrefix, never_of_pods, overlap,
};
use crate::store::resources::Node;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Words that are kept for others to share before it is looked which are still in use.
const MOST_WORDS: usize = 1024;

/// What a node's object says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Published {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
    labels: Attributes,
    attributes: Attributes,
    /// Sorted, without duplicates.
    pod_cidrs: Box<[IpNet]>,
}

#[derive(Debug, Default)]
struct NodeEntry {
    /// `None` while only blocks speak of the node.
    published: Option<Published>,
    /// The prefixes that it won, sorted.
    prefixes: Vec<IpNet>,
    /// The datapath knows it as a peer.
    told: bool,
}

#[derive(Debug)]
struct PoolEntry {
    name: Arc<str>,
    encapsulation: Option<Encapsulation>,
}

/// The table.
///
/// # Laws
/// 1. What [`changes`](Self::changes) gave in sum depends only on what is in force: any order, repetition or squashing of
///    the same puts and removes, drained at any times, ends in the same peers and local blocks.
/// 2. A put or remove costs O(change), apart from a pool's encapsulation and our own address, which may touch every node.
/// 3. A put of what is in force already gives no change.
/// 4. A prefix belongs to one node: the holder of a block before a `podCIDR`, then the lesser name. The others are
///    reported. The decision is the same on every node.
///    A single address that we borrow from a block is no block of ours.
/// 5. A node without an underlay address, and one with ours, is no peer, and is reported.
/// 6. A prefix of a peer that must not be routed here (see [`NotForPods`]) is left out alone, and is reported.
#[derive(Debug)]
pub struct PeerTable {
    local: NodeName,
    v4: Option<Ipv4Net>,
    v6: Option<Ipv6Net>,
    nodes: BTreeMap<NodeName, NodeEntry>,
    claims: BTreeMap<IpNet, Claims>,
    /// Prefixes with more than one claim.
    contested: BTreeSet<IpNet>,
    pools: Vec<PoolEntry>,
    words: HashSet<Arc<str>>,
    /// With more of them, those that nobody has any more go.
    most_words: usize,
    /// Of our own blocks: the address that is the node's own.
    node_addresses: BTreeMap<IpNet, IpAddr>,
    dirty_nodes: BTreeSet<NodeName>,
    dirty_blocks: BTreeSet<IpNet>,
    told_blocks: BTreeSet<IpNet>,
}

impl PeerTable {
    /// An empty table of the node with this name and these underlay addresses, each with the length of its segment's prefix.
    #[must_use]
    pub fn new(local: NodeName, v4: Option<Ipv4Net>, v6: Option<Ipv6Net>) -> Self {
        Self {
            local,
            v4,
            v6,
            nodes: BTreeMap::new(),
            claims: BTreeMap::new(),
            contested: BTreeSet::new(),
            pools: Vec::new(),
            words: HashSet::new(),
            most_words: MOST_WORDS,
            node_addresses: BTreeMap::new(),
            dirty_nodes: BTreeSet::new(),
            dirty_blocks: BTreeSet::new(),
            told_blocks: BTreeSet::new(),
        }
    }

    /// Our own underlay addresses changed.
    pub fn set_underlay(&mut self, v4: Option<Ipv4Net>, v6: Option<Ipv6Net>) {
        let (old_v4, old_v6) = (self.v4, self.v6);
        if (old_v4, old_v6) == (v4, v6) {
            return;
        }
        let old = self.segments();
        (self.v4, self.v6) = (v4, v6);
        let segments: Vec<IpNet> = old.chain(self.segments()).collect();
        let touched = |prefix: &IpNet| segments.iter().any(|segment| overlap(segment, prefix));
        let concerned = |published: &Published| {
            [old_v4, v4].iter().flatten().any(|own| published.v4 == Some(own.addr()))
                || [old_v6, v6].iter().flatten().any(|own| published.v6 == Some(own.addr()))
        };
        let nodes = self
            .nodes
            .iter()
            .filter(|(_, entry)| entry.published.as_ref().is_some_and(concerned) || entry.prefixes.iter().any(touched));
        self.dirty_nodes.extend(nodes.map(|(name, _)| name.clone()));
    }

    /// A node exists, with this content.
    pub fn put_node(&mut self, node: &Node) {
        let mut pod_cidrs = node.pod_cidrs.clone();
        pod_cidrs.sort_unstable();
        pod_cidrs.dedup();
        let attributes = node.attributes.iter().map(|(key, value)| (self.word(key), value.clone())).collect();
        // Thousands of nodes have the same few values.
        let labels = node.labels.iter().map(|(key, value)| (self.word(key), self.word(value))).collect();
        if self.words.len() > self.most_words {
            self.words.retain(|word| Arc::strong_count(word) > 1);
            self.most_words = (2 * self.words.len()).max(MOST_WORDS);
        }
        let new = Published { v4: node.v4, v6: node.v6, labels, attributes, pod_cidrs: pod_cidrs.into() };
        self.set_published(&node.name, Some(new));
    }

    /// A node does not exist any more. Removing an unknown one is harmless.
    pub fn remove_node(&mut self, name: &NodeName) {
        self.set_published(name, None);
    }

    /// A block exists: `routes` are the prefixes that nodes have by it, the block itself or addresses inside of it.
    /// Prefixes outside of it are ignored.
    pub fn put_block(&mut self, block: IpNet, pool: Option<&str>, routes: &[(NodeName, IpNet)]) {
        let pool = pool.map(|pool| self.pool(pool));
        let source = Source::Block { block, pool };
        let inside = routes.iter().filter(|(_, prefix)| block.contains(prefix));
        let wanted: BTreeSet<(IpNet, Claim)> =
            inside.map(|(node, prefix)| (*prefix, Claim { source, node: self.name(node) })).collect();
        for (prefix, claim) in self.claims_of_block(block) {
            if !wanted.contains(&(prefix, claim.clone())) {
                self.remove_claim(prefix, &claim);
            }
        }
        for (prefix, claim) in wanted {
            self.add_claim(prefix, claim);
        }
    }

    /// A block does not exist any more. Removing an unknown one is harmless.
    pub fn remove_block(&mut self, block: IpNet) {
        for (prefix, claim) in self.claims_of_block(block) {
            self.remove_claim(prefix, &claim);
        }
    }

    /// What a pool says of encapsulation; `None` also when the pool is gone.
    pub fn set_pool(&mut self, name: &str, encapsulation: Option<Encapsulation>) {
        let id = self.pool(name);
        let Some(pool) = self.pools.get_mut(id.0 as usize) else { return };
        if pool.encapsulation == encapsulation {
            return;
        }
        pool.encapsulation = encapsulation;
        for (prefix, claims) in &self.claims {
            let winner = claims.winner();
            if winner.source.pool() == Some(id) {
                if winner.node == self.local {
                    self.dirty_blocks.insert(*prefix);
                } else {
                    self.dirty_nodes.insert(winner.node.clone());
                }
            }
        }
    }

    /// The node's own address in one of its blocks, see [`LocalBlock::node_address`]. Kept while the block comes and goes.
    pub fn set_node_address(&mut self, block: IpNet, address: Option<IpAddr>) {
        let before = match address {
            Some(address) => self.node_addresses.insert(block, address),
            None => self.node_addresses.remove(&block),
        };
        if before != address {
            self.dirty_blocks.insert(block);
        }
    }

    /// The names of all nodes that exist.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.nodes.iter().filter(|(_, entry)| entry.published.is_some()).map(|(name, _)| name)
    }

    /// All peers as they are now, by name.
    pub fn peers(&self) -> impl Iterator<Item = Peer> {
        self.nodes.keys().filter_map(|name| self.peer(name))
    }

    /// All `podCIDRs` of all nodes, sorted.
    #[must_use]
    pub fn pod_cidrs(&self) -> BTreeSet<IpNet> {
        let published = self.nodes.values().filter_map(|entry| entry.published.as_ref());
        published.flat_map(|published| published.pod_cidrs.iter().copied()).collect()
    }

    /// All blocks that give somebody a prefix, sorted.
    #[must_use]
    pub fn blocks(&self) -> BTreeSet<IpNet> {
        let claims = self.claims.values().flat_map(Claims::iter);
        claims
            .filter_map(|claim| match claim.source {
                Source::Block { block, .. } => Some(block),
                Source::PodCidr => None,
            })
            .collect()
    }

    /// What changed since the last call, for the datapath: own blocks first, then peers, each by key.
    #[must_use = "the changes are given once"]
    pub fn changes(&mut self) -> Vec<NetworkChange> {
        let mut changes = Vec::new();
        for prefix in std::mem::take(&mut self.dirty_blocks) {
            // The address of one pod is no block: the route to the pod stands under the same prefix.
            let block = self.claims.get(&prefix).filter(|_| prefix.prefix_len() < prefix.max_prefix_len());
            let own = block.map(Claims::winner).filter(|claim| claim.node == self.local);
            if let Some(claim) = own {
                let pool = claim.source.pool().and_then(|id| self.pools.get(id.0 as usize));
                changes.push(Change::Put(NetworkItem::Block(LocalBlock {
                    prefix,
                    pool: pool.map(|pool| (*pool.name).to_owned()),
                    encapsulation: pool.and_then(|pool| pool.encapsulation),
                    node_address: self.node_addresses.get(&prefix).copied(),
                })));
                self.told_blocks.insert(prefix);
            } else if self.told_blocks.remove(&prefix) {
                changes.push(Change::Remove(NetworkKey::Block(prefix)));
            }
        }
        for name in std::mem::take(&mut self.dirty_nodes) {
            let peer = self.peer(&name);
            let Some(entry) = self.nodes.get_mut(&name) else { continue };
            let told = std::mem::replace(&mut entry.told, peer.is_some());
            match peer {
                Some(peer) => changes.push(Change::Put(NetworkItem::Peer(peer))),
                None if told => changes.push(Change::Remove(NetworkKey::Peer(name.clone()))),
                None => {}
            }
            if entry.published.is_none() && entry.prefixes.is_empty() {
                self.nodes.remove(&name);
            }
        }
        changes
    }

    /// What is wrong now, in a fixed order.
    #[must_use]
    pub fn problems(&self) -> Vec<ClusterProblem> {
        let mut problems = Vec::new();
        for (node, entry) in &self.nodes {
            let Some(published) = &entry.published else { continue };
            let node = node.clone();
            if node == self.local {
                let v4 =
                    published.v4.zip(self.v4).map(|(published, own)| (IpAddr::V4(published), IpAddr::V4(own.addr())));
                let v6 =
                    published.v6.zip(self.v6).map(|(published, own)| (IpAddr::V6(published), IpAddr::V6(own.addr())));
                if let Some((published, own)) = [v4, v6].into_iter().flatten().find(|(published, own)| published != own)
                {
                    problems.push(ClusterProblem::OwnName { node, published, own });
                }
            } else if let Some(address) = self.own_address(published) {
                problems.push(ClusterProblem::OwnAddress { node, address });
            } else if published.v4.is_none() && published.v6.is_none() {
                problems.push(ClusterProblem::NoUnderlayAddress { node });
            } else {
                problems.extend(entry.prefixes.iter().filter_map(|prefix| {
                    let (other, what) = self.unusable(prefix, published)?;
                    Some(ClusterProblem::UnusablePrefix { node: node.clone(), prefix: *prefix, other, what })
                }));
            }
        }
        for prefix in &self.contested {
            let Some(claims) = self.claims.get(prefix) else { continue };
            let winner = &claims.winner().node;
            // A node may have one prefix for two reasons.
            let losers: BTreeSet<_> =
                claims.losers().iter().map(|claim| &claim.node).filter(|node| *node != winner).collect();
            for loser in losers {
                let (winner, loser) = (winner.clone(), loser.clone());
                problems.push(ClusterProblem::SharedPrefix { prefix: *prefix, winner, loser });
            }
        }
        problems
    }

    /// The peer as it is now; `None` for ourselves and for what is no peer.
    fn peer(&self, name: &NodeName) -> Option<Peer> {
        let entry = self.nodes.get(name)?;
        let published = entry.published.as_ref().filter(|_| *name != self.local)?;
        if (published.v4.is_none() && published.v6.is_none()) || self.own_address(published).is_some() {
            return None;
        }
        let prefix = |prefix: &IpNet| {
            let pool = self.claims.get(prefix).and_then(|claims| claims.winner().source.pool());
            let pool = pool.and_then(|id| self.pools.get(id.0 as usize));
            PeerPrefix { prefix: *prefix, encapsulation: pool.and_then(|pool| pool.encapsulation) }
        };
        let usable = |prefix: &&IpNet| self.unusable(prefix, published).is_none();
        Some(Peer {
            node: name.clone(),
            v4: published.v4,
            v6: published.v6,
            prefixes: entry.prefixes.iter().filter(usable).map(prefix).collect(),
            labels: published.labels.clone(),
            attributes: published.attributes.clone(),
        })
    }

    /// The prefixes on link of our underlay.
    pub(super) fn segments(&self) -> impl Iterator<Item = IpNet> + use<> {
        let v4 = self.v4.map(|net| IpNet::V4(net.trunc()));
        v4.into_iter().chain(self.v6.map(|net| IpNet::V6(net.trunc())))
    }

    /// What keeps a prefix of another node from being routed.
    fn unusable(&self, prefix: &IpNet, published: &Published) -> Option<(IpNet, NotForPods)> {
        let special = never_of_pods(prefix).map(|special| (special, NotForPods::Special));
        let underlay = self.segments().find(|segment| overlap(segment, prefix));
        let mut own = [published.v4.map(IpAddr::V4), published.v6.map(IpAddr::V6)].into_iter().flatten();
        let own = own.find(|own| prefix.contains(own)).map(|own| (IpNet::from(own), NotForPods::OwnAddress));
        special.or(underlay.map(|segment| (segment, NotForPods::Underlay))).or(own)
    }

    /// Our own address, where the other node has it too.
    fn own_address(&self, published: &Published) -> Option<IpAddr> {
        let v4 = self.v4.map(|net| net.addr()).filter(|own| published.v4 == Some(*own)).map(IpAddr::V4);
        let v6 = self.v6.map(|net| net.addr()).filter(|own| published.v6 == Some(*own)).map(IpAddr::V6);
        v4.or(v6)
    }

    fn set_published(&mut self, name: &NodeName, new: Option<Published>) {
        if self.nodes.get(name).and_then(|entry| entry.published.as_ref()) == new.as_ref() {
            return;
        }
        let name = self.name(name);
        let cidrs = |published: &Option<Published>| -> Vec<IpNet> {
            published.as_ref().map_or_else(Vec::new, |published| published.pod_cidrs.to_vec())
        };
        let wanted = cidrs(&new);
        let entry = self.nodes.entry(name.clone()).or_default();
        let present = cidrs(&std::mem::replace(&mut entry.published, new));
        self.dirty_nodes.insert(name.clone());
        let claim = Claim { source: Source::PodCidr, node: name };
        for prefix in present.iter().filter(|prefix| !wanted.contains(prefix)) {
            self.remove_claim(*prefix, &claim);
        }
        for prefix in wanted.iter().filter(|prefix| !present.contains(prefix)) {
            self.add_claim(*prefix, claim.clone());
        }
    }

    /// The claims that come from a block. All lie inside of it, so a range of the table holds them.
    fn claims_of_block(&self, block: IpNet) -> Vec<(IpNet, Claim)> {
        let first_of = |address| match address {
            IpAddr::V4(v4) => Ipv4Net::new(v4, 0).map(IpNet::V4),
            IpAddr::V6(v6) => Ipv6Net::new(v6, 0).map(IpNet::V6),
        };
        let (Ok(first), last) = (first_of(block.network()), IpNet::from(block.broadcast())) else { return Vec::new() };
        let from_it = |claim: &&Claim| matches!(claim.source, Source::Block { block: of, .. } if of == block);
        let claims = self
            .claims
            .range(first..=last)
            .flat_map(|(prefix, claims)| claims.iter().map(move |claim| (*prefix, claim)));
        claims.filter(|(_, claim)| from_it(claim)).map(|(prefix, claim)| (prefix, claim.clone())).collect()
    }

    fn add_claim(&mut self, prefix: IpNet, claim: Claim) {
        let before = self.claims.get(&prefix).map(|claims| claims.winner().clone());
        match self.claims.get_mut(&prefix) {
            Some(claims) => claims.add(claim),
            None => drop(self.claims.insert(prefix, Claims::one(claim))),
        }
        self.settle(prefix, before);
    }

    fn remove_claim(&mut self, prefix: IpNet, claim: &Claim) {
        let Some(claims) = self.claims.remove(&prefix) else { return };
        let before = Some(claims.winner().clone());
        if let Some(left) = claims.without(claim) {
            self.claims.insert(prefix, left);
        }
        self.settle(prefix, before);
    }

    /// Gives a prefix to its winner, after its claims changed.
    fn settle(&mut self, prefix: IpNet, before: Option<Claim>) {
        let claims = self.claims.get(&prefix);
        let after = claims.map(|claims| claims.winner().clone());
        if claims.is_some_and(|claims| !claims.losers().is_empty()) {
            self.contested.insert(prefix);
        } else {
            self.contested.remove(&prefix);
        }
        if before == after {
            return;
        }
        if let Some(claim) = &before
            && let Some(entry) = self.nodes.get_mut(&claim.node)
            && let Ok(at) = entry.prefixes.binary_search(&prefix)
        {
            entry.prefixes.remove(at);
        }
        if let Some(claim) = &after {
            let prefixes = &mut self.nodes.entry(claim.node.clone()).or_default().prefixes;
            if let Err(at) = prefixes.binary_search(&prefix) {
                prefixes.insert(at, prefix);
            }
        }
        for claim in before.into_iter().chain(after) {
            if claim.node == self.local {
                self.dirty_blocks.insert(prefix);
            }
            self.dirty_nodes.insert(claim.node);
        }
    }

    /// The name as the table has it, so that there is one copy of it.
    fn name(&self, name: &NodeName) -> NodeName {
        self.nodes.get_key_value(name).map_or(name, |(known, _)| known).clone()
    }

    fn word(&mut self, word: &str) -> Arc<str> {
        if let Some(known) = self.words.get(word) {
            return known.clone();
        }
        let word: Arc<str> = word.into();
        self.words.insert(word.clone());
        word
    }

    fn pool(&mut self, name: &str) -> PoolId {
        let at = self.pools.iter().position(|pool| *pool.name == *name).unwrap_or_else(|| {
            self.pools.push(PoolEntry { name: name.into(), encapsulation: None });
            self.pools.len() - 1
        });
        PoolId(u32::try_from(at).expect("4,294,967,296 pool names do not fit in memory"))
    }
}

#[cfg(test)]
mod laws;
