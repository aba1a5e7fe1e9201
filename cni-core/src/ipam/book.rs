//! The leases of one node: memory for speed, a journal for durability, and segments to take addresses from.
//! Never claims anything from other nodes.

use super::address::to_bits;
use super::allocator::check_held;
use super::segment::{Segment, SegmentSpec};
use super::{
    AssignRequest, Cooling, Family, IpamError, Lease, LeaseOp, LeaseState, LeaseStore, LeaseStoreError, MakeRecord,
    UnixMillis,
};
use crate::model::{EndpointId, PodRef};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A segment's place in the book: family and first address.
pub(super) type SegmentKey = (Family, u128);

#[derive(Debug, Default)]
struct State {
    by_owner: HashMap<EndpointId, Vec<Lease>>,
    by_address: BTreeMap<IpAddr, EndpointId>,
    /// Owners that are being worked on.
    busy: HashSet<EndpointId>,
    /// Addresses that were picked and are not committed yet.
    picked: HashMap<IpAddr, EndpointId>,
    segments: BTreeMap<SegmentKey, Segment>,
    /// Released addresses that lie in no segment, should one come.
    cooling: BTreeMap<IpAddr, UnixMillis>,
    /// Thawed addresses whose records in the journal can go with the next transaction.
    forget: Vec<IpAddr>,
}

/// The book.
#[derive(Debug)]
pub(super) struct Book<L> {
    journal: L,
    cool_down: Duration,
    state: Mutex<State>,
}

/// An address that is set aside for an owner.
#[derive(Debug, Clone)]
struct Pick {
    lease: Lease,
    /// Since when it cooled, to go on with that if it is not used after all.
    cooling_since: Option<UnixMillis>,
}

/// One owner's ADD under way: nobody else works on that owner, and what is picked goes back unless it is committed.
#[derive(Debug)]
pub(super) struct Ticket<'a, L: LeaseStore> {
    book: &'a Book<L>,
    owner: EndpointId,
    pod: Option<PodRef>,
    now: UnixMillis,
    picks: Vec<Pick>,
}

/// What [`Book::begin`] found.
pub(super) enum Begin<'a, L: LeaseStore> {
    /// The owner has leases already.
    Held(Vec<Lease>),
    /// It has none.
    Ticket(Ticket<'a, L>),
}

/// Numbers of the segments of one pool.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Numbers {
    pub(super) leased: u128,
    pub(super) cooling: u128,
    pub(super) free: u128,
    pub(super) reserved: u128,
    /// Cooling addresses that could be given if nothing else is left.
    pub(super) coolest: u128,
}

impl<L: LeaseStore> Book<L> {
    /// Reads the journal.
    pub(super) fn open(journal: L, cool_down: Duration) -> Result<Self, LeaseStoreError> {
        let LeaseState { leases, cooling, .. } = journal.load()?;
        let mut state = State { cooling, ..State::default() };
        for (address, lease) in leases {
            state.by_address.insert(address, lease.owner.clone());
            state.by_owner.entry(lease.owner.clone()).or_default().push(lease);
        }
        Ok(Self { journal, cool_down, state: Mutex::new(state) })
    }

    pub(super) fn journal(&self) -> &L {
        &self.journal
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below is made of steps that do not panic, so the state is whole even after a panic elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the segments be exactly these. Leases in segments that vanish stay, without one.
    pub(super) fn set_segments(&self, specs: Vec<SegmentSpec>) {
        self.replace_segments(|_| true, specs);
    }

    /// Makes the segments inside of one subnet be exactly these.
    pub(super) fn set_segments_of(&self, subnet: IpNet, specs: Vec<SegmentSpec>) {
        self.replace_segments(|segment| segment.spec.subnet == subnet, specs);
    }

    fn replace_segments(&self, which: impl Fn(&Segment) -> bool, specs: Vec<SegmentSpec>) {
        let mut state = self.lock();
        let keys: BTreeSet<SegmentKey> = specs.iter().map(key).collect();
        let gone: Vec<SegmentKey> = state
            .segments
            .iter()
            .filter(|(key, segment)| which(segment) && !keys.contains(key))
            .map(|(key, _)| *key)
            .collect();
        for key in gone {
            state.remove_segment(key);
        }
        for spec in specs {
            state.put_segment(spec);
        }
    }

    /// Removes the segments of a subnet if nothing in them is in use, so that their claim can be given back.
    pub(super) fn withdraw(&self, subnet: IpNet, now: UnixMillis) -> bool {
        let mut state = self.lock();
        state.thaw(now, self.cool_down);
        let idle = state.segments.values().filter(|segment| segment.spec.subnet == subnet).all(Segment::is_idle);
        if idle {
            state.segments.retain(|_, segment| segment.spec.subnet != subnet);
        }
        idle
    }

    /// Leases whose addresses lie in no segment: nobody guarantees any more that they are ours.
    pub(super) fn unbacked(&self) -> Vec<Lease> {
        let state = self.lock();
        let unbacked = |lease: &&Lease| state.segment_of(lease.address).is_none();
        let mut leases: Vec<Lease> = state.by_owner.values().flatten().filter(unbacked).cloned().collect();
        leases.sort_by_key(|lease| lease.address);
        leases
    }

    /// The numbers of one pool.
    pub(super) fn numbers(&self, pool: &str, now: UnixMillis) -> Numbers {
        self.sum(|of, _| of == pool, now)
    }

    /// The numbers of one family of a pool that has both.
    pub(super) fn numbers_of(&self, pool: &str, family: Family, now: UnixMillis) -> Numbers {
        self.sum(|of, address| of == pool && Family::of(address) == family, now)
    }

    fn sum(&self, counts: impl Fn(&str, IpAddr) -> bool, now: UnixMillis) -> Numbers {
        let mut state = self.lock();
        state.thaw(now, self.cool_down);
        let leases = state.by_owner.values().flatten();
        let leased = leases.filter(|lease| counts(&lease.pool, lease.address)).count() as u128;
        let mut numbers = Numbers { leased, ..Numbers::default() };
        for segment in state.segments.values() {
            if !counts(&segment.spec.pool, segment.range().first()) {
                continue;
            }
            numbers.cooling += segment.cooling() as u128;
            numbers.reserved += u128::from(segment.reserved());
            if !segment.spec.closed {
                numbers.free += u128::from(segment.free());
                numbers.coolest += segment.cooling() as u128;
            }
        }
        numbers
    }

    /// All leases by address.
    pub(super) fn leases(&self) -> Vec<Lease> {
        let mut leases: Vec<Lease> = self.lock().by_owner.values().flatten().cloned().collect();
        leases.sort_by_key(|lease| lease.address);
        leases
    }

    /// One owner's leases.
    pub(super) fn leases_of(&self, owner: &EndpointId) -> Vec<Lease> {
        self.lock().by_owner.get(owner).cloned().unwrap_or_default()
    }

    pub(super) fn check(&self, owner: &EndpointId, addresses: &[IpAddr]) -> Result<(), IpamError> {
        let state = self.lock();
        let held: Vec<IpAddr> = state.by_owner.get(owner).into_iter().flatten().map(|lease| lease.address).collect();
        check_held(owner, &held, addresses)
    }

    /// Begins an ADD. With leases already there, the record is stored again and they are the answer.
    pub(super) fn begin(&self, request: &AssignRequest<'_>, now: UnixMillis) -> Result<Begin<'_, L>, IpamError> {
        let owner = request.owner.clone();
        let mut state = self.lock();
        if !state.busy.insert(owner.clone()) {
            return Err(IpamError::Busy { owner });
        }
        let held = state.by_owner.get(&owner).cloned();
        drop(state);
        let ticket = Ticket { book: self, owner, pod: request.pod.cloned(), now, picks: Vec::new() };
        let Some(leases) = held else { return Ok(Begin::Ticket(ticket)) };
        let held: Vec<IpAddr> = leases.iter().map(|lease| lease.address).collect();
        if request.addresses.iter().any(|wanted| !held.contains(wanted)) {
            let (owner, wanted) = (ticket.owner.clone(), request.addresses.to_vec());
            return Err(IpamError::OtherHeld { owner, held, wanted });
        }
        if let Some(make) = request.record {
            let id = ticket.owner.clone();
            self.journal.commit(&[LeaseOp::PutEndpoint { id, record: make(&leases) }])?;
        }
        Ok(Begin::Held(leases))
    }

    /// Releases all that these owners have, in one transaction.
    pub(super) fn release(&self, owners: &[EndpointId], now: UnixMillis) -> Result<Vec<Lease>, IpamError> {
        let mut state = self.lock();
        if let Some(owner) = owners.iter().find(|owner| state.busy.contains(*owner)) {
            return Err(IpamError::Busy { owner: owner.clone() });
        }
        let held: Vec<EndpointId> =
            owners.iter().filter(|owner| state.by_owner.contains_key(*owner)).cloned().collect();
        if held.is_empty() {
            return Ok(Vec::new());
        }
        let released: Vec<Lease> =
            held.iter().flat_map(|owner| state.by_owner.get(owner).into_iter().flatten()).cloned().collect();
        state.busy.extend(held.iter().cloned());
        let forget = std::mem::take(&mut state.forget);
        drop(state);

        let mut ops: Vec<LeaseOp> = forget.iter().copied().map(LeaseOp::Forget).collect();
        ops.extend(released.iter().map(|lease| LeaseOp::Release(Cooling { address: lease.address, released_at: now })));
        ops.extend(held.iter().cloned().map(LeaseOp::DeleteEndpoint));
        let outcome = self.journal.commit(&ops);

        let mut state = self.lock();
        for owner in &held {
            state.busy.remove(owner);
        }
        if let Err(error) = outcome {
            state.forget.extend(forget);
            return Err(error.into());
        }
        for owner in &held {
            state.by_owner.remove(owner);
        }
        for lease in &released {
            state.by_address.remove(&lease.address);
            state.release(lease.address, now);
        }
        Ok(released)
    }

    /// Releases every owner that is not valid.
    pub(super) fn gc(&self, valid: &BTreeSet<EndpointId>, now: UnixMillis) -> Result<Vec<Lease>, IpamError> {
        let stale: Vec<EndpointId> = {
            let state = self.lock();
            state.by_owner.keys().filter(|owner| !valid.contains(*owner)).cloned().collect()
        };
        let mut released = self.release(&stale, now)?;
        released.sort_by_key(|lease| lease.address);
        Ok(released)
    }
}

fn key(spec: &SegmentSpec) -> SegmentKey {
    (spec.range.family(), to_bits(spec.range.first()))
}

impl State {
    fn segment_of(&self, address: IpAddr) -> Option<&Segment> {
        let (_, segment) = self.segments.range(..=(Family::of(address), to_bits(address))).next_back()?;
        segment.contains(address).then_some(segment)
    }

    fn segment_of_mut(&mut self, address: IpAddr) -> Option<&mut Segment> {
        let (_, segment) = self.segments.range_mut(..=(Family::of(address), to_bits(address))).next_back()?;
        segment.contains(address).then_some(segment)
    }

    fn put_segment(&mut self, spec: SegmentSpec) {
        let key = key(&spec);
        if let Some(present) = self.segments.get(&key)
            && present.spec == spec
        {
            return;
        }
        let mut segment = Segment::new(spec);
        if let Some(old) = self.segments.remove(&key) {
            self.keep_cooling(&old);
            segment.resume(&old);
        }
        let range = segment.range();
        let (first, last) = (range.first(), range.last());
        for address in self.by_address.range(first..=last).map(|(address, _)| *address) {
            segment.restore(address);
        }
        for address in self.picked.keys().filter(|address| range.contains(**address)) {
            segment.restore(*address);
        }
        let cooling: Vec<(IpAddr, UnixMillis)> =
            self.cooling.range(first..=last).map(|(address, since)| (*address, *since)).collect();
        for (address, since) in cooling {
            self.cooling.remove(&address);
            segment.restore_cooling(address, since);
        }
        self.segments.insert(key, segment);
    }

    fn keep_cooling(&mut self, segment: &Segment) {
        self.cooling.extend(segment.cooling_addresses());
    }

    /// Leases of its addresses stay; they have no segment then.
    fn remove_segment(&mut self, key: SegmentKey) {
        if let Some(segment) = self.segments.remove(&key) {
            self.keep_cooling(&segment);
        }
    }

    fn release(&mut self, address: IpAddr, now: UnixMillis) {
        // Its new rest must not be forgotten with the old one.
        self.forget.retain(|forgotten| *forgotten != address);
        match self.segment_of_mut(address) {
            Some(segment) => segment.release(address, now),
            None => drop(self.cooling.insert(address, now)),
        }
    }

    fn thaw(&mut self, now: UnixMillis, cool_down: Duration) {
        for segment in self.segments.values_mut() {
            self.forget.extend(segment.thaw(now, cool_down));
        }
    }
}

impl<L: LeaseStore> Ticket<'_, L> {
    fn keep(&mut self, state: &mut State, segment: SegmentKey, address: IpAddr, since: Option<UnixMillis>) {
        state.picked.insert(address, self.owner.clone());
        let Some(segment) = state.segments.get(&segment) else { return };
        let lease = Lease {
            address,
            subnet: segment.spec.subnet,
            gateway: None,
            pool: segment.spec.pool.to_string(),
            owner: self.owner.clone(),
            pod: self.pod.clone(),
            assigned_at: self.now,
        };
        self.picks.push(Pick { lease, cooling_since: since });
    }

    /// Sets aside the next free address of a pool.
    pub(super) fn pick(&mut self, pool: &str, family: Family) -> Option<IpAddr> {
        let book = self.book;
        let mut state = book.lock();
        state.thaw(self.now, book.cool_down);
        let (key, address) = state
            .segments
            .iter_mut()
            .filter(|(key, segment)| key.0 == family && &*segment.spec.pool == pool)
            .find_map(|(key, segment)| segment.take_next().map(|address| (*key, address)))?;
        self.keep(&mut state, key, address, None);
        Some(address)
    }

    /// Sets aside the address of these pools that has cooled longest: for when nothing else is left.
    pub(super) fn pick_coolest(&mut self, pools: &[&str], family: Family) -> Option<IpAddr> {
        let book = self.book;
        let mut state = book.lock();
        let (since, address, key) = state
            .segments
            .iter()
            .filter(|(key, segment)| key.0 == family && pools.contains(&&*segment.spec.pool))
            .filter_map(|(key, segment)| segment.longest_cooling().map(|(since, address)| (since, address, *key)))
            .min()?;
        if !state.segments.get_mut(&key).is_some_and(|segment| segment.take(address)) {
            return None;
        }
        self.keep(&mut state, key, address, Some(since));
        Some(address)
    }

    /// Sets aside one address, also a cooling one. `Ok(false)`: it lies in no open segment of ours.
    pub(super) fn pick_exact(&mut self, address: IpAddr) -> Result<bool, IpamError> {
        let book = self.book;
        let mut state = book.lock();
        state.thaw(self.now, book.cool_down);
        if let Some(holder) = state.by_address.get(&address).or_else(|| state.picked.get(&address)) {
            return Err(IpamError::Taken { address, holder: holder.clone() });
        }
        let Some(segment) = state.segment_of_mut(address).filter(|segment| !segment.spec.closed) else {
            return Ok(false);
        };
        let key = key(&segment.spec);
        let since = segment.cooling_since(address);
        if !segment.take(address) {
            return Err(IpamError::Unusable { address, reason: "it is reserved".to_owned() });
        }
        self.keep(&mut state, key, address, since);
        Ok(true)
    }

    /// Makes all that was picked durable, with the caller's record, in one transaction.
    pub(super) fn commit(mut self, record: Option<MakeRecord<'_>>) -> Result<Vec<Lease>, IpamError> {
        let mut leases: Vec<Lease> = self.picks.iter().map(|pick| pick.lease.clone()).collect();
        leases.sort_by_key(|lease| lease.address);
        let forget = {
            let mut state = self.book.lock();
            let mut forget = std::mem::take(&mut state.forget);
            forget.retain(|address| !leases.iter().any(|lease| lease.address == *address));
            forget
        };
        let mut ops: Vec<LeaseOp> = forget.iter().copied().map(LeaseOp::Forget).collect();
        ops.extend(leases.iter().cloned().map(LeaseOp::Assign));
        ops.extend(record.map(|make| LeaseOp::PutEndpoint { id: self.owner.clone(), record: make(&leases) }));
        let outcome = self.book.journal.commit(&ops);
        let mut state = self.book.lock();
        if let Err(error) = outcome {
            state.forget.extend(forget);
            return Err(error.into());
        }
        for pick in self.picks.drain(..) {
            state.picked.remove(&pick.lease.address);
            state.by_address.insert(pick.lease.address, self.owner.clone());
        }
        state.by_owner.insert(self.owner.clone(), leases.clone());
        Ok(leases)
    }
}

impl<L: LeaseStore> Drop for Ticket<'_, L> {
    fn drop(&mut self) {
        let mut state = self.book.lock();
        for pick in self.picks.drain(..) {
            let address = pick.lease.address;
            state.picked.remove(&address);
            match (state.segment_of_mut(address), pick.cooling_since) {
                (Some(segment), since) => segment.put_back(address, since),
                (None, Some(since)) => drop(state.cooling.insert(address, since)),
                (None, None) => {}
            }
        }
        state.busy.remove(&self.owner);
    }
}
