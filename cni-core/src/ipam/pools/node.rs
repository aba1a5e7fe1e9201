//! One node's part of the cluster pools: leases from its own claims, and more claims when they run out.
//! Never decides anything for another node: every claim is one compare-and-swap.

use super::block::{IpBlockSpec, block_key};
use super::seen::{SeenBlock, new_object};
use super::spec::IpPool;
use super::view::{Step, View};
use crate::ipam::book::{Begin, Book, Ticket};
use crate::ipam::{AddressRange, AssignRequest, Family, Ipam, IpamError, Lease, LeaseStore, UnixMillis, Usage};
use crate::model::{EndpointId, LocalBlock, NodeName};
use crate::store::{self, Event, Kind, Object, ObjectKey, Store, StoreExt};
use async_trait::async_trait;
use futures_util::lock::Mutex as AsyncMutex;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

/// How often a claim is tried when other nodes are faster.
const MOST_RACES: u32 = 64;

/// How long a released address rests unless the configuration says otherwise.
pub const DEFAULT_COOL_DOWN: Duration = Duration::from_secs(30);

/// Who holds the node's own addresses.
///
/// # Panics
/// Never: the name is in the alphabet.
#[must_use]
pub fn node_owner() -> EndpointId {
    EndpointId::of("cnidarian-node", "host").expect("the name is in the alphabet")
}

/// Cluster pools as one node uses them. Shared as `Arc`; every method takes `&self`.
///
/// The agent feeds it with the store's events ([`observe`](Self::observe)) and calls
/// [`maintain`](Self::maintain) now and then. Without events it still is correct, only slower: a claim made on an
/// outdated view loses its compare-and-swap and is made again on a fresh one.
pub struct PoolIpam<L> {
    store: Arc<dyn Store>,
    book: Book<L>,
    view: RwLock<View>,
    /// One claim at a time, so that a burst of ADDs does not claim a chunk each.
    gate: AsyncMutex<()>,
}

impl<L: LeaseStore> PoolIpam<L> {
    /// Reads the journal and the store.
    ///
    /// # Errors
    /// The journal or the store cannot be read. Bad pools are no error here; see [`problems`](Self::problems).
    pub async fn open(
        node: NodeName,
        store: Arc<dyn Store>,
        journal: L,
        cool_down: Duration,
    ) -> Result<Self, IpamError> {
        let book = Book::open(journal, cool_down)?;
        let ipam = Self { store, book, view: RwLock::new(View::new(node)), gate: AsyncMutex::new(()) };
        ipam.read_store().await?;
        Ok(ipam)
    }

    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The journal, for its endpoint records.
    #[must_use]
    pub fn journal(&self) -> &L {
        self.book.journal()
    }

    /// Reads pools, blocks and this node's labels from the store.
    ///
    /// # Errors
    /// The store cannot be read; the last view stays in force.
    pub async fn refresh(&self) -> Result<(), IpamError> {
        let _gate = self.gate.lock().await;
        self.read_store().await
    }

    /// Only at the gate: a claim made meanwhile would be missing in what was read.
    async fn read_store(&self) -> Result<(), IpamError> {
        let node = self.view().node.clone();
        let pools = self.store.list_kind(Kind::IP_POOL).await?;
        let blocks = self.store.list_kind(Kind::IP_BLOCK).await?;
        let labels = self.store.find(&ObjectKey::cluster(Kind::NODE, node.as_str())).await?;
        let mut fresh = View::new(node);
        fresh.labels = labels.map(|node| node.metadata.labels.clone()).unwrap_or_default();
        fresh.inherit(&self.view());
        for pool in &pools.objects {
            // Kept among the problems.
            let _ = fresh.put_pool(pool);
        }
        for block in &blocks.objects {
            fresh.put_block(block);
        }
        // A tree that grew in order is half empty; made anew it is full.
        fresh.blocks = std::mem::take(&mut fresh.blocks).into_iter().collect();
        let mut view = self.view_mut();
        self.book.set_segments(fresh.segments());
        *view = fresh;
        Ok(())
    }

    /// Takes in which prefixes are on link of the underlay: nothing new is given from a pool that overlaps one.
    pub fn set_underlay(&self, segments: Vec<IpNet>) {
        let mut view = self.view_mut();
        if view.underlay != segments {
            view.underlay = segments;
            self.book.set_segments(view.segments());
        }
    }

    /// Takes one event of a watch over `IPPool`, `IPBlock` or `Node`; others are ignored. Pure memory, O(change), apart
    /// from [`Event::Resynced`], after which [`refresh`](Self::refresh) has to be called.
    ///
    /// # Errors
    /// A pool that is not acceptable; the last good one stays in force.
    pub fn observe(&self, event: &Event) -> Result<(), IpamError> {
        let mut view = self.view_mut();
        match event {
            Event::Put(object) if object.key.kind == Kind::IP_BLOCK => self.see(&mut view, object),
            Event::Put(object) if object.key.kind == Kind::IP_POOL => {
                let outcome = view.put_pool(object);
                self.book.set_segments(view.segments());
                return outcome;
            }
            Event::Put(object) if object.key.kind == Kind::NODE && *object.key.name == *view.node.as_str() => {
                view.labels.clone_from(&object.metadata.labels);
            }
            Event::Delete(key) if key.kind == Kind::IP_BLOCK => {
                if let Some(cidr) = view.delete_block(key) {
                    self.book.set_segments_of(cidr, Vec::new());
                }
            }
            Event::Delete(key) if key.kind == Kind::IP_POOL => {
                view.pools.remove(&key.name);
                view.broken.remove(&format!("pool {}", key.name));
                self.book.set_segments(view.segments());
            }
            _ => {}
        }
        Ok(())
    }

    fn see(&self, view: &mut View, object: &Object) {
        if let Some(cidr) = view.put_block(object) {
            self.book.set_segments_of(cidr, view.segments_of(cidr));
        }
    }

    /// Objects that could not be used, each with the reason.
    #[must_use]
    pub fn problems(&self) -> Vec<IpamError> {
        self.view().broken.values().cloned().collect()
    }

    /// Leases whose addresses this node holds no claim for: somebody deleted the block.
    /// [`maintain`](Self::maintain) claims them again where nobody else has.
    #[must_use]
    pub fn unbacked(&self) -> Vec<Lease> {
        self.book.unbacked()
    }

    /// The prefixes that this node routes: its blocks, and the addresses it borrowed.
    #[must_use]
    pub fn local_blocks(&self) -> Vec<LocalBlock> {
        let view = self.view();
        let ours = self.book.leases_of(&node_owner());
        let mut blocks: Vec<LocalBlock> = Vec::new();
        for block in view.blocks.values() {
            let encapsulation = view.pools.get(&*block.spec.pool).and_then(|pool| pool.encapsulation);
            for (node, prefix) in block.spec.routes() {
                if node == view.node {
                    let pool = Some((*block.spec.pool).to_owned());
                    let inside = |lease: &&Lease| prefix.contains(&lease.address);
                    let node_address = ours.iter().find(inside).map(|lease| lease.address);
                    blocks.push(LocalBlock { prefix, pool, encapsulation, node_address });
                }
            }
        }
        blocks
    }

    /// The node's own addresses in the pools, one of every family, as [`LocalBlock::node_address`]. Taken at the first
    /// call, kept by [`gc`](Ipam::gc), and given back by releasing [`node_owner`].
    ///
    /// # Errors
    /// As of [`assign`](Ipam::assign).
    pub async fn node_addresses(&self, now: SystemTime) -> Result<Vec<Lease>, IpamError> {
        self.assign(&AssignRequest::new(&node_owner()), now).await
    }

    async fn assign_one(
        &self,
        ticket: &mut Ticket<'_, L>,
        family: Family,
        request: &AssignRequest<'_>,
        now: SystemTime,
    ) -> Result<(), IpamError> {
        let pools = self.view().candidates(family, request);
        if pools.iter().any(|pool| ticket.pick(&pool.name, family).is_some()) {
            return Ok(());
        }
        let gate = self.gate.lock().await;
        let mut refreshed = false;
        loop {
            // Somebody before us at the gate may have brought more than they needed.
            if pools.iter().any(|pool| ticket.pick(&pool.name, family).is_some()) {
                return Ok(());
            }
            let mut claimed = false;
            for pool in &pools {
                if self.claim_more(pool).await? {
                    claimed = true;
                    break;
                }
            }
            if !claimed {
                if refreshed {
                    break;
                }
                self.read_store().await?;
                refreshed = true;
            }
        }
        drop(gate);
        let names: Vec<&str> = pools.iter().map(|pool| &*pool.name).collect();
        if ticket.pick_coolest(&names, family).is_some() {
            return Ok(());
        }
        let usage = self.usage(now)?;
        let asked = usage.into_iter().filter(|usage| names.contains(&usage.pool.as_str())).collect();
        Err(IpamError::Exhausted { family, usage: asked })
    }

    /// One more claim in a pool. `false`: there is nothing left to claim.
    async fn claim_more(&self, pool: &IpPool) -> Result<bool, IpamError> {
        for attempt in 0..MOST_RACES {
            let Some(step) = self.view().next_step(pool, attempt) else { return Ok(false) };
            if self.write(step).await? {
                return Ok(true);
            }
        }
        Err(IpamError::Contended { pool: pool.name.to_string(), attempts: MOST_RACES })
    }

    /// Claims one address.
    async fn claim_exact(&self, address: IpAddr, pool: &IpPool) -> Result<(), IpamError> {
        for _ in 0..MOST_RACES {
            let step = self.view().step_for(address, pool)?;
            if self.write(step).await? {
                return Ok(());
            }
        }
        Err(IpamError::Contended { pool: pool.name.to_string(), attempts: MOST_RACES })
    }

    /// Writes a step. `false`: somebody was faster, and the view now has what they wrote.
    async fn write(&self, step: Step) -> Result<bool, IpamError> {
        let written = match &step {
            Step::Create(spec) => self.store.create(&new_object(spec)?).await,
            Step::Update(spec) => {
                let object = self.view().blocks.get(&spec.cidr).map(|block| block.with(spec));
                let Some(object) = object else { return Ok(false) };
                self.store.update(&object?).await
            }
        };
        let (Step::Create(spec) | Step::Update(spec)) = step;
        match written {
            Ok(object) => {
                self.see(&mut self.view_mut(), &object);
                Ok(true)
            }
            Err(error) => self.after_lost_race(spec.cidr, error).await.map(|()| false),
        }
    }

    async fn after_lost_race(&self, cidr: IpNet, error: store::Error) -> Result<(), IpamError> {
        match error {
            store::Error::Conflict { .. } | store::Error::AlreadyExists { .. } | store::Error::NotFound { .. } => {}
            other => return Err(other.into()),
        }
        let key = block_key(cidr);
        let now_there = self.store.find(&key).await?;
        let mut view = self.view_mut();
        match now_there {
            Some(object) => self.see(&mut view, &object),
            None => {
                view.delete_block(&key);
                self.book.set_segments_of(cidr, Vec::new());
            }
        }
        Ok(())
    }

    async fn assign_exact(
        &self,
        ticket: &mut Ticket<'_, L>,
        address: IpAddr,
        request: &AssignRequest<'_>,
    ) -> Result<(), IpamError> {
        let unusable = |reason: String| IpamError::Unusable { address, reason };
        let pool = self.view().pool_of(address).cloned();
        let pool = pool.ok_or_else(|| unusable("it is in no pool".to_owned()))?;
        if !self.view().candidates(pool.family(), request).iter().any(|candidate| candidate.name == pool.name) {
            let reason = "is disabled, or does not select this node or the pod's namespace, or the pod asks for others";
            return Err(unusable(format!("its pool {} {reason}", pool.name)));
        }
        if pool.reservations.iter().any(|reserved| reserved.contains(address)) {
            return Err(unusable(format!("pool {} reserves it (spec.reservations)", pool.name)));
        }
        if ticket.pick_exact(address)? {
            return Ok(());
        }
        let _gate = self.gate.lock().await;
        if ticket.pick_exact(address)? {
            return Ok(());
        }
        self.claim_exact(address, &pool).await?;
        if ticket.pick_exact(address)? { Ok(()) } else { Err(unusable("its claim was lost; try again".to_owned())) }
    }

    /// Gives blocks and borrowed addresses back that have been empty since they cooled, keeping one block per pool, and
    /// claims again what [`unbacked`](Self::unbacked) leases need. For a timer; costs nothing when nothing is idle.
    /// Returns the prefixes that were given back.
    ///
    /// # Errors
    /// The store fails. What was done stays done.
    pub async fn maintain(&self, now: SystemTime) -> Result<Vec<IpNet>, IpamError> {
        let _gate = self.gate.lock().await;
        for lease in self.book.unbacked() {
            let pool = self.view().pool_of(lease.address).cloned();
            if let Some(pool) = pool {
                match self.claim_exact(lease.address, &pool).await {
                    Err(IpamError::Unusable { .. }) | Ok(()) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let mut given_back = Vec::new();
        for cidr in self.surplus() {
            if let Some(seen) = self.leave(cidr, now)
                && self.give_back(&seen).await?
            {
                given_back.push(cidr);
            }
        }
        Ok(given_back)
    }

    /// Blocks that may be given back if they are empty: all but the first of each pool that is in use.
    fn surplus(&self) -> Vec<IpNet> {
        let view = self.view();
        let mut kept: BTreeSet<&str> = BTreeSet::new();
        let mut surplus = Vec::new();
        for (cidr, block) in &view.blocks {
            let ours = block.spec.owner.as_ref() == Some(&view.node);
            if !ours && block.spec.claims_of(&view.node).next().is_none() {
                continue;
            }
            let usable = view.pools.get(&*block.spec.pool).is_some_and(|pool| !pool.disabled);
            if ours && usable && kept.insert(&block.spec.pool) {
                continue;
            }
            surplus.push(*cidr);
        }
        surplus
    }

    /// Closes an idle block, before anything is written.
    fn leave(&self, cidr: IpNet, now: SystemTime) -> Option<SeenBlock> {
        let mut view = self.view_mut();
        let seen = view.blocks.get(&cidr)?.clone();
        let was_leaving = view.is_leaving(cidr);
        view.leave(&seen);
        if self.book.withdraw(cidr, now.into()) {
            return Some(seen);
        }
        if !was_leaving {
            view.stay(cidr);
        }
        None
    }

    async fn give_back(&self, seen: &SeenBlock) -> Result<bool, IpamError> {
        let (cidr, node) = (seen.spec.cidr, self.view().node.clone());
        let mut spec: IpBlockSpec = seen.spec.clone();
        spec.give_back(&node);
        let written = if spec.is_abandoned() {
            let Some(version) = seen.version() else { return Ok(false) };
            self.store.delete(&seen.key(), version).await.map(|()| None)
        } else {
            self.store.update(&seen.with(&spec)?).await.map(Some)
        };
        match written {
            Ok(Some(object)) => self.see(&mut self.view_mut(), &object),
            Ok(None) => {
                self.view_mut().deleted_block(seen);
                self.book.set_segments_of(cidr, Vec::new());
            }
            Err(error) => {
                // After a lost race a later state is read, which counts. After any other failure nobody knows whether the
                // write was done, so the block stays closed until the next round has found out.
                self.after_lost_race(cidr, error).await?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn usage_of(&self, view: &View, pool: &IpPool, now: UnixMillis) -> Usage {
        let numbers = self.book.numbers(&pool.name, now);
        Usage {
            pool: pool.name.to_string(),
            family: pool.family(),
            prefixes: vec![pool.cidr],
            capacity: AddressRange::of_prefix(pool.cidr).count(),
            reserved: pool.reserved(),
            used: numbers.leased,
            cooling: numbers.cooling,
            free_here: numbers.free,
            unclaimed: view.unclaimed(pool),
            max_blocks_per_node: pool.max_blocks_per_node,
            blocks_per_node: view.blocks_per_node(pool),
            disabled: pool.disabled,
        }
    }
}

#[async_trait]
impl<L: LeaseStore> Ipam for PoolIpam<L> {
    async fn assign(&self, request: &AssignRequest<'_>, now: SystemTime) -> Result<Vec<Lease>, IpamError> {
        let mut ticket = match self.book.begin(request, now.into())? {
            Begin::Held(leases) => return Ok(leases),
            Begin::Ticket(ticket) => ticket,
        };
        let families = self.view().families(request)?;
        for address in request.addresses {
            self.assign_exact(&mut ticket, *address, request).await?;
        }
        let wanted: BTreeSet<Family> = request.addresses.iter().map(|address| Family::of(*address)).collect();
        for family in families.into_iter().filter(|family| !wanted.contains(family)) {
            self.assign_one(&mut ticket, family, request, now).await?;
        }
        ticket.commit(request.record)
    }

    async fn release(&self, owner: &EndpointId, now: SystemTime) -> Result<Vec<Lease>, IpamError> {
        self.book.release(std::slice::from_ref(owner), now.into())
    }

    fn check(&self, owner: &EndpointId, addresses: &[IpAddr]) -> Result<(), IpamError> {
        self.book.check(owner, addresses)
    }

    fn leases(&self) -> Result<Vec<Lease>, IpamError> {
        Ok(self.book.leases())
    }

    fn usage(&self, now: SystemTime) -> Result<Vec<Usage>, IpamError> {
        let view = self.view();
        Ok(view.pools.values().map(|pool| self.usage_of(&view, pool, now.into())).collect())
    }

    fn status(&self, now: SystemTime) -> Result<(), IpamError> {
        let view = self.view();
        let anybody = EndpointId::of("status", "eth0").expect("the name is in the alphabet");
        let request = AssignRequest::new(&anybody);
        for family in view.families(&request)? {
            let pools = view.candidates(family, &request);
            let has_room = |pool: &Arc<IpPool>| {
                let numbers = self.book.numbers(&pool.name, now.into());
                numbers.free > 0 || numbers.coolest > 0 || view.next_step(pool, 0).is_some()
            };
            if !pools.iter().any(has_room) {
                let usage = pools.iter().map(|pool| self.usage_of(&view, pool, now.into())).collect();
                return Err(IpamError::Exhausted { family, usage });
            }
        }
        Ok(())
    }

    async fn gc(&self, valid: &BTreeSet<EndpointId>, now: SystemTime) -> Result<Vec<Lease>, IpamError> {
        let mut valid = valid.clone();
        valid.insert(node_owner());
        self.book.gc(&valid, now.into())
    }
}
