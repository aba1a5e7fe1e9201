//! Writing objects of several tables in one batch, with respect for what is not ours. Never diffs: that is the engine's.
//!
//! The kernel can't be asked to replace only what is ours. So what is thought to be absent is created exclusively;
//! when its place is taken, the table is read, and only an object with our mark (or a neighbour that nobody owns) is
//! replaced.

use crate::addr::Address;
use crate::fdb::FdbEntry;
use crate::neigh::{Neighbour, NeighbourState};
use crate::netlink::{Batch, Error, Result, Socket};
use crate::nexthop::NextHop;
use crate::route::{Route, RouteFilter};
use cni_core::backend::Known;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::Hash;

/// An object of one of the kernel's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A route.
    Route(Route),
    /// A neighbour.
    Neighbour(Neighbour),
    /// A forwarding entry, of a device of ours.
    Fdb(FdbEntry),
    /// A next-hop object.
    NextHop(NextHop),
    /// An address, of a device of ours.
    Address(Address),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route(object) => object.fmt(f),
            Self::Neighbour(object) => object.fmt(f),
            Self::Fdb(object) => object.fmt(f),
            Self::NextHop(object) => object.fmt(f),
            Self::Address(object) => object.fmt(f),
        }
    }
}

/// Collects what was read, under a driver's own keys: what comes twice under one key is none that it wrote.
#[derive(Debug)]
pub struct Found<K, O> {
    objects: HashMap<K, O>,
    strange: O,
}

impl<K: Eq + Hash, O: Clone> Found<K, O> {
    /// Nothing yet. `strange` stands for an object that the driver never writes.
    #[must_use]
    pub fn new(strange: O) -> Self {
        Self { objects: HashMap::new(), strange }
    }

    /// One more.
    pub fn add(&mut self, key: K, object: O) {
        match self.objects.entry(key) {
            Entry::Occupied(mut twice) => *twice.get_mut() = self.strange.clone(),
            Entry::Vacant(free) => drop(free.insert(object)),
        }
    }
}

impl<K, O> IntoIterator for Found<K, O> {
    type Item = (K, O);
    type IntoIter = std::collections::hash_map::IntoIter<K, O>;

    fn into_iter(self) -> Self::IntoIter {
        self.objects.into_iter()
    }
}

/// One write. All are idempotent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Thought to be absent: create it, or replace one that is ours.
    Create(Object),
    /// Known to be there and ours: replace it, or create it.
    Replace(Object),
    /// Remove it; that it is gone is a success.
    Delete(Object),
}

impl Write {
    /// The write of an engine's `Put`.
    #[must_use]
    pub fn put<O>(present: &Known<O>, object: Object) -> Self {
        match present {
            Known::Present(_) => Self::Replace(object),
            Known::Absent | Known::Unknown => Self::Create(object),
        }
    }

    fn object(&self) -> &Object {
        match self {
            Self::Create(object) | Self::Replace(object) | Self::Delete(object) => object,
        }
    }

    fn add(&self, batch: &mut Batch) {
        match self {
            Self::Create(Object::Route(route)) => route.create(batch),
            Self::Create(Object::Neighbour(neighbour)) => neighbour.create(batch),
            // A device of ours has no foreign addresses and entries.
            Self::Create(Object::Address(address)) => address.replace(batch),
            Self::Create(Object::Fdb(entry)) | Self::Replace(Object::Fdb(entry)) => entry.replace(batch),
            Self::Create(Object::NextHop(nexthop)) => nexthop.create(batch),
            Self::Replace(object) => object.replace(batch),
            Self::Delete(Object::Route(route)) => route.delete(batch),
            Self::Delete(Object::Neighbour(neighbour)) => neighbour.delete(batch),
            Self::Delete(Object::Fdb(entry)) => entry.delete(batch),
            Self::Delete(Object::NextHop(nexthop)) => nexthop.delete(batch),
            Self::Delete(Object::Address(address)) => address.delete(batch),
        }
    }
}

impl Object {
    fn replace(&self, batch: &mut Batch) {
        match self {
            Self::Route(route) => route.replace(batch),
            Self::Neighbour(neighbour) => neighbour.replace(batch),
            Self::Fdb(entry) => entry.replace(batch),
            Self::NextHop(nexthop) => nexthop.replace(batch),
            Self::Address(address) => address.replace(batch),
        }
    }
}

/// Writes in order and gives one result each, in order. A failed write does not stop the others.
pub fn write(socket: &mut Socket, writes: &[Write]) -> Vec<Result<()>> {
    let mut batch = Batch::new();
    for write in writes {
        write.add(&mut batch);
    }
    let mut results = socket.run(&mut batch);
    let taken: Vec<usize> = (0..writes.len())
        .filter(|at| matches!((&writes[*at], &results[*at]), (Write::Create(_), Err(error)) if error.is_exists()))
        .collect();
    for (write, result) in writes.iter().zip(&mut results) {
        let gone = matches!((write, &*result), (Write::Delete(_), Err(error)) if error.is_gone());
        if gone {
            *result = Ok(());
        }
    }
    if !taken.is_empty() {
        take_over(socket, writes, &taken, &mut results);
    }
    results
}

/// Replaces, of the objects whose place is taken, those where what stands there is ours.
fn take_over(socket: &mut Socket, writes: &[Write], taken: &[usize], results: &mut [Result<()>]) {
    let mut present = Present::default();
    let mut batch = Batch::new();
    let mut again = Vec::new();
    for at in taken {
        let object = writes[*at].object();
        match present.foreign(socket, object) {
            Ok(None) => {
                object.replace(&mut batch);
                again.push(*at);
            }
            Ok(Some(found)) => {
                results[*at] = Err(Error::Foreign { operation: "create", object: object.to_string(), found });
            }
            Err(error) => results[*at] = Err(error),
        }
    }
    for (at, result) in again.into_iter().zip(socket.run(&mut batch)) {
        results[at] = result;
    }
}

/// Tables, each read once when it is first asked for.
#[derive(Default)]
struct Present {
    routes: Option<Vec<Route>>,
    neighbours: Option<Vec<Neighbour>>,
    nexthops: Option<Vec<NextHop>>,
}

impl Present {
    /// What stands in the object's place, when that is not ours.
    fn foreign(&mut self, socket: &mut Socket, object: &Object) -> Result<Option<String>> {
        Ok(match object {
            Object::Route(route) => {
                let present = load(&mut self.routes, || Route::dump(socket, &RouteFilter::default()))?;
                let mut same = present.iter().filter(|other| other.same_place(route)).peekable();
                // IPv6 keeps several of one place side by side: one of ours among them is ours to replace.
                let foreign = same.peek().map(|other| format!("protocol {}", other.protocol));
                if same.any(Route::is_ours) { None } else { foreign }
            }
            Object::Neighbour(neighbour) => {
                let present = load(&mut self.neighbours, || Neighbour::dump(socket, None))?;
                let same = |other: &&Neighbour| other.index == neighbour.index && other.address == neighbour.address;
                let found = present.iter().find(same);
                let foreign = |other: &&Neighbour| other.state != NeighbourState::Dynamic && !other.is_ours();
                found.filter(foreign).map(|other| match other.mac {
                    Some(mac) => format!("{mac}, protocol {}", other.protocol),
                    None => format!("protocol {}", other.protocol),
                })
            }
            Object::NextHop(nexthop) => {
                let present = load(&mut self.nexthops, || NextHop::dump(socket, None))?;
                let found = present.iter().find(|other| other.id == nexthop.id);
                found.filter(|other| !other.is_ours()).map(|other| format!("protocol {}", other.protocol))
            }
            Object::Fdb(_) | Object::Address(_) => None,
        })
    }
}

fn load<T>(table: &mut Option<Vec<T>>, read: impl FnOnce() -> Result<Vec<T>>) -> Result<&[T]> {
    if table.is_none() {
        *table = Some(read()?);
    }
    Ok(table.as_deref().unwrap_or_default())
}
