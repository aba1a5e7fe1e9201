//! Virtual services and destinations in the kernel. Never touches a service without our mark.

use super::{Draining, IpvsDriver, Write, another};
use crate::drain::{Fate, draining, fate, is_draining};
use crate::object::{Key, Object};
use cni_core::backend::{Error, ErrorKind, Known, Op, Result};
use net_linux::ipvs::{Changes, Connections, Destination, Ipvs, Service, ServiceId};
use net_linux::netlink::Error as NetlinkError;
use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

/// A destination in the kernel: whether it drains, and its connections.
type Present = BTreeMap<SocketAddr, (bool, Connections)>;

fn present(ipvs: &mut Ipvs, id: &ServiceId) -> Result<Present, NetlinkError> {
    let found = ipvs.destinations(id)?.into_iter();
    Ok(found.map(|(found, connections, _)| (found.address, (is_draining(&found), connections))).collect())
}

/// Marks of all services, by id.
fn owners(ipvs: &mut Ipvs) -> Result<BTreeMap<ServiceId, bool>, NetlinkError> {
    Ok(ipvs.services()?.into_iter().map(|(service, _)| (service.id, service.ours)).collect())
}

/// Takes away services with our mark, and with them their destinations.
pub(super) fn clear(ipvs: &mut Ipvs) -> Result<()> {
    let ours: Vec<ServiceId> = owners(ipvs)?.into_iter().filter_map(|(id, ours)| ours.then_some(id)).collect();
    let mut batch = ipvs.batch();
    for id in &ours {
        batch.delete(id);
    }
    match ipvs.run(batch).into_iter().find(|answer| answer.as_ref().is_err_and(|error| !error.is_gone())) {
        Some(refused) => Ok(refused?),
        None => Ok(()),
    }
}

impl IpvsDriver {
    pub(super) fn read_balance(&mut self, found: &mut Vec<(Key, Object)>) -> Result<()> {
        let now = Instant::now();
        for (service, _) in self.ipvs.services()? {
            if !service.ours {
                continue;
            }
            let id = service.id;
            for (destination, ..) in self.ipvs.destinations(&id)? {
                if is_draining(&destination) {
                    // Taken away already, perhaps by a predecessor.
                    self.begin_draining(id, destination.address, now);
                } else {
                    found.push((Key::Destination(id, destination.address), Object::Destination(destination)));
                }
            }
            found.push((Key::Service(id), Object::Service(Box::new(service))));
        }
        Ok(())
    }

    fn begin_draining(&self, id: ServiceId, address: SocketAddr, now: Instant) {
        let mut ledger = self.draining.ledger();
        if ledger.is_empty() {
            self.draining.begun.notify_one();
        }
        ledger.begin(id, address, now);
    }

    pub(super) fn write_services(&mut self, ops: &[Write]) -> Vec<Result<()>> {
        if ops.is_empty() {
            return Vec::new();
        }
        let unsure = |op: &Write| matches!(op, Op::Delete { present: Known::Unknown, .. });
        let mut owned = None;
        if ops.iter().any(unsure) {
            owned = Some(owners(&mut self.ipvs));
        }
        let mut batch = self.ipvs.batch();
        let mut sent = Vec::with_capacity(ops.len());
        let mut results: Vec<Result<()>> = ops.iter().map(|_| Ok(())).collect();
        for (at, op) in ops.iter().enumerate() {
            match op {
                Op::Put { object: Object::Service(service), present: Known::Present(_), .. } => batch.change(service),
                Op::Put { object: Object::Service(service), .. } => batch.create(service),
                Op::Delete { key: Key::Service(id), present } => {
                    if *present == Known::Unknown {
                        match &owned {
                            Some(Ok(owned)) if owned.get(id) == Some(&true) => {}
                            Some(Err(error)) => {
                                results[at] = Err(error.clone().into());
                                continue;
                            }
                            // It is gone, or it was never ours.
                            _ => continue,
                        }
                    }
                    batch.delete(id)
                }
                Op::Put { key, .. } | Op::Delete { key, .. } => {
                    results[at] = Err(another(key));
                    continue;
                }
            };
            sent.push(at);
        }
        let answers = self.ipvs.run(batch);
        let mut again = Vec::new();
        for (at, answer) in sent.into_iter().zip(answers) {
            match (&ops[at], answer) {
                (Op::Delete { key: Key::Service(id), .. }, Ok(())) => self.draining.ledger().end_all(id),
                (Op::Delete { .. }, Err(error)) if error.is_gone() => {}
                (Op::Put { .. }, Err(error)) if needs_a_look(&error) => again.push((at, error)),
                (op, answer) => results[at] = answer.map_err(|error| refused(op, error)),
            }
        }
        self.take_over(ops, again, &mut results);
        results
    }

    /// Services that were there although they should not be, or not although they should. Those with our mark are changed.
    fn take_over(&mut self, ops: &[Write], again: Vec<(usize, NetlinkError)>, results: &mut [Result<()>]) {
        if again.is_empty() {
            return;
        }
        let owned = match owners(&mut self.ipvs) {
            Ok(owned) => owned,
            Err(error) => {
                again.iter().for_each(|(at, _)| results[*at] = Err(error.clone().into()));
                return;
            }
        };
        let mut batch = self.ipvs.batch();
        let mut sent = Vec::new();
        for (at, error) in again {
            let Op::Put { key, object: Object::Service(service), .. } = &ops[at] else { continue };
            match owned.get(&service.id) {
                Some(true) => batch.change(service),
                Some(false) => {
                    let detail = "there is one that is not ours; refusing to take it over";
                    results[at] = Err(Error::new(ErrorKind::Foreign, "create", key, detail));
                    continue;
                }
                // Not there: what was missing was its scheduler.
                None if error.errno() == Some(Errno::ENOENT) => {
                    results[at] = Err(refused(&ops[at], error));
                    continue;
                }
                None => batch.create(service),
            };
            sent.push(at);
        }
        for (at, answer) in sent.into_iter().zip(self.ipvs.run(batch)) {
            results[at] = answer.map_err(|error| refused(&ops[at], error));
        }
    }

    pub(super) fn write_destinations(&mut self, ops: &[Write]) -> Vec<Result<()>> {
        if ops.is_empty() {
            return Vec::new();
        }
        let mut results: Vec<Result<()>> = ops.iter().map(|_| Ok(())).collect();
        let services = ops.iter().filter_map(|op| match op {
            Op::Delete { key: Key::Destination(id, _), .. } => Some(*id),
            _ => None,
        });
        let mut of_services: BTreeMap<ServiceId, Result<Present, NetlinkError>> = BTreeMap::new();
        for id in services.collect::<BTreeSet<_>>() {
            let found = present(&mut self.ipvs, &id);
            of_services.insert(id, found);
        }
        let patience = self.draining.patience();
        let mut batch = self.ipvs.batch();
        let mut sent: Vec<(usize, Step)> = Vec::with_capacity(ops.len());
        for (at, op) in ops.iter().enumerate() {
            let step = match op {
                Op::Put { key: Key::Destination(id, _), present, object: Object::Destination(destination) } => {
                    let step = if matches!(present, Known::Present(_)) { Step::Change } else { Step::Create };
                    step.add(&mut batch, id, destination);
                    step
                }
                Op::Delete { key: Key::Destination(id, address), .. } => {
                    let connections = match of_services.get(id) {
                        Some(Ok(found)) => found.get(address).map(|(_, connections)| *connections),
                        Some(Err(error)) => {
                            results[at] = Err(error.clone().into());
                            continue;
                        }
                        None => None,
                    };
                    let Some(connections) = connections else { continue };
                    let step = match fate(id, connections, patience) {
                        Fate::Goes => Step::Delete,
                        Fate::Drains => Step::Drain,
                    };
                    step.add(&mut batch, id, &draining(*address));
                    step
                }
                Op::Put { key, .. } | Op::Delete { key, .. } => {
                    results[at] = Err(another(key));
                    continue;
                }
            };
            sent.push((at, step));
        }
        let answers = self.ipvs.run(batch);
        self.finish(ops, sent.into_iter().zip(answers).collect(), &mut results, true);
        results
    }

    /// Takes the answers in. What is there although it should not be is changed, and the other way round, once.
    fn finish(
        &mut self,
        ops: &[Write],
        answers: Vec<((usize, Step), Result<(), NetlinkError>)>,
        results: &mut [Result<()>],
        first: bool,
    ) {
        let now = Instant::now();
        let mut batch = self.ipvs.batch();
        let mut again = Vec::new();
        for ((at, step), answer) in answers {
            let Key::Destination(id, address) = ops[at].key() else { continue };
            let retry = match (step, &answer) {
                (Step::Create, Err(error)) if first && error.is_exists() => Some(Step::Change),
                (Step::Change, Err(error)) if first && error.errno() == Some(Errno::ENOENT) => Some(Step::Create),
                _ => None,
            };
            if let (Some(step), Op::Put { object: Object::Destination(destination), .. }) = (retry, &ops[at]) {
                step.add(&mut batch, id, destination);
                again.push((at, step));
                continue;
            }
            let gone = matches!((step, &answer), (Step::Delete | Step::Drain, Err(error)) if error.is_gone());
            let answer = if gone { Ok(()) } else { answer };
            if answer.is_ok() {
                match step {
                    Step::Drain if !gone => self.begin_draining(*id, *address, now),
                    _ => self.draining.ledger().end(id, address),
                }
            }
            results[at] = answer.map_err(Into::into);
        }
        if !again.is_empty() {
            let answers = self.ipvs.run(batch);
            self.finish(ops, again.into_iter().zip(answers).collect(), results, false);
        }
    }
}

/// What is asked of the kernel for a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create,
    Change,
    Delete,
    Drain,
}

impl Step {
    fn add(self, batch: &mut Changes, id: &ServiceId, destination: &Destination) {
        match self {
            Self::Create => batch.create_destination(id, destination),
            Self::Change | Self::Drain => batch.change_destination(id, destination),
            Self::Delete => batch.delete_destination(id, destination),
        };
    }
}

/// Whether what was refused may be otherwise than we thought.
fn needs_a_look(error: &NetlinkError) -> bool {
    error.is_exists() || error.is_gone()
}

/// The error of a service; a scheduler that the kernel has not is said so.
fn refused(op: &Write, error: NetlinkError) -> Error {
    let missing = error.errno() == Some(Errno::ENOENT);
    match op {
        Op::Put { key, object: Object::Service(service), .. } if missing => {
            let Service { scheduler, .. } = &**service;
            let detail = format!("this kernel has no scheduler {scheduler} (module ip_vs_{scheduler})");
            let error = Error::new(ErrorKind::Unsupported, "create", key, detail).because(error);
            Error { field: Some("scheduler"), ..error }
        }
        _ => error.into(),
    }
}

/// Takes away destinations that have drained.
pub struct Drainer {
    ipvs: Ipvs,
    draining: Draining,
}

impl Drainer {
    /// Beside a driver, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// This kernel has no IPVS.
    pub(crate) fn open(draining: Draining) -> Result<Self> {
        Ok(Self { ipvs: Ipvs::open()?, draining })
    }

    /// Looks at the connections of all that drain, and takes away those that have none, or had time enough.
    ///
    /// # Errors
    /// The kernel refused; the rest drains on.
    pub fn sweep(&mut self, now: Instant) -> Result<()> {
        let services = self.draining.ledger().services();
        let patience = self.draining.patience();
        for id in services {
            let found = present(&mut self.ipvs, &id)?;
            let due = self.draining.ledger().due(&id, &found, now, patience);
            let mut batch = self.ipvs.batch();
            due.iter().for_each(|address| {
                batch.delete_destination(&id, &draining(*address));
            });
            for (address, answer) in due.iter().zip(self.ipvs.run(batch)) {
                match answer {
                    Err(error) if !error.is_gone() => return Err(error.into()),
                    _ => self.draining.ledger().end(&id, address),
                }
            }
        }
        Ok(())
    }
}
