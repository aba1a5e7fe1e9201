//! ADD, DEL, CHECK, STATUS and GC of `host-local` as the reference answers them. Never the CNI envelope around the answers.

use super::disk::{Directory, Holder};
use super::range::{Range, RangeSet};
use super::{HostLocalConfig, HostLocalError, resolv};
use crate::cni::{AddResult, Dns, IpConfig};
use crate::ipam::UnixMillis;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

/// `host-local` on one network.
#[derive(Debug, Clone)]
pub struct HostLocal {
    pub(super) config: HostLocalConfig,
}

impl HostLocal {
    /// The allocator of a configuration. Touches nothing.
    #[must_use]
    pub fn new(config: HostLocalConfig) -> Self {
        Self { config }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &HostLocalConfig {
        &self.config
    }

    pub(super) fn lock(&self) -> Result<Directory, HostLocalError> {
        Directory::lock(&self.config.data_dir, &self.config.network)
    }

    /// ADD: one address of every range set, or none; the configuration's routes, and what `resolvConf` says.
    ///
    /// # Errors
    /// [`HostLocalError`], among them [`HostLocalError::Duplicate`] when the container has one already.
    /// All addresses of the container in this network are released then, as the reference does, if one was given before
    /// the error.
    pub fn add(&self, container: &str, interface: &str, now: SystemTime) -> Result<AddResult, HostLocalError> {
        let dns = self.read_resolv_conf()?;
        let mut directory = self.lock()?;
        let ips = self.take(&mut directory, container, interface, &self.config.requested, now)?;
        Ok(AddResult { ips, routes: self.config.routes.clone(), dns, ..AddResult::default() })
    }

    fn read_resolv_conf(&self) -> Result<Dns, HostLocalError> {
        let Some(path) = &self.config.resolv_conf else { return Ok(Dns::default()) };
        let text = fs::read_to_string(path).map_err(|source| HostLocalError::Io {
            operation: "open",
            path: path.clone(),
            source: Arc::new(source),
        })?;
        Ok(resolv::parse(&text))
    }

    pub(super) fn take(
        &self,
        directory: &mut Directory,
        container: &str,
        interface: &str,
        requested: &[IpAddr],
        now: SystemTime,
    ) -> Result<Vec<IpConfig>, HostLocalError> {
        let mut requested = requested.to_vec();
        let mut ips = Vec::with_capacity(self.config.range_sets.len());
        let mut outcome = Ok(());
        for (index, set) in self.config.range_sets.iter().enumerate() {
            let wanted = requested
                .iter()
                .position(|address| set.range_of(*address).is_some())
                .map(|position| requested.remove(position));
            match self.take_one(directory, container, interface, index, wanted, now) {
                Ok(ip) => ips.push(ip),
                Err(source) => {
                    outcome = Err(HostLocalError::Allocate { index, source: Box::new(source) });
                    break;
                }
            }
        }
        if outcome.is_ok() && !requested.is_empty() {
            outcome = Err(HostLocalError::NotInRanges { addresses: requested });
        }
        if let Err(error) = outcome {
            if !ips.is_empty() {
                // The first error is the one to tell.
                let _ = release(directory, container, interface);
            }
            return Err(error);
        }
        self.end_cooling(directory, &ips, now)?;
        Ok(ips)
    }

    fn take_one(
        &self,
        directory: &mut Directory,
        container: &str,
        interface: &str,
        index: usize,
        wanted: Option<IpAddr>,
        now: SystemTime,
    ) -> Result<IpConfig, HostLocalError> {
        let set = &self.config.range_sets[index];
        let (address, range) = match wanted {
            Some(address) => (address, wanted_range(directory, set, address)?),
            None => {
                refuse_duplicate(directory, set, container, interface)?;
                let cooling = self.cooling(directory, now);
                free_address(directory, set, directory.last_reserved(index), &cooling)
                    .ok_or_else(|| HostLocalError::Exhausted { set: set.to_string() })?
            }
        };
        directory.reserve(address, container, interface, index)?;
        // A range's addresses are of its subnet's family, so the length always fits.
        let prefix = IpNet::new(address, range.subnet.prefix_len()).unwrap_or(range.subnet);
        Ok(IpConfig { gateway: Some(range.gateway), ..IpConfig::new(prefix) })
    }

    /// The addresses that must still wait.
    pub(super) fn cooling(&self, directory: &Directory, now: SystemTime) -> BTreeMap<IpAddr, UnixMillis> {
        if self.config.cool_down.is_zero() {
            return BTreeMap::new();
        }
        let mut cooling = directory.cooling();
        cooling.retain(|_, at| UnixMillis::from(now).since(*at) < self.config.cool_down);
        cooling
    }

    fn end_cooling(&self, directory: &Directory, ips: &[IpConfig], now: SystemTime) -> Result<(), HostLocalError> {
        let mut cooling = self.cooling(directory, now);
        let before = cooling.len();
        cooling.retain(|address, _| !ips.iter().any(|ip| ip.address.addr() == *address));
        if cooling.len() == before { Ok(()) } else { directory.set_cooling(&cooling) }
    }

    /// DEL: releases all addresses of the container's interface. One without any is no error.
    ///
    /// # Errors
    /// [`HostLocalError::Io`].
    pub fn del(&self, container: &str, interface: &str, now: SystemTime) -> Result<Vec<IpAddr>, HostLocalError> {
        let mut directory = self.lock()?;
        self.give_back(&mut directory, container, interface, now)
    }

    pub(super) fn give_back(
        &self,
        directory: &mut Directory,
        container: &str,
        interface: &str,
        now: SystemTime,
    ) -> Result<Vec<IpAddr>, HostLocalError> {
        if !self.config.cool_down.is_zero() {
            // First the list, then the files: after a crash in between an address cools that is still held, which is harmless.
            let mut cooling = self.cooling(directory, now);
            cooling.extend(held_by(directory, container, interface).into_iter().map(|address| (address, now.into())));
            directory.set_cooling(&cooling)?;
        }
        release(directory, container, interface)
    }

    /// CHECK: whether the container's interface has an address in this network.
    ///
    /// # Errors
    /// [`HostLocalError::NotFound`], or the files cannot be read.
    pub fn verify(&self, container: &str, interface: &str) -> Result<(), HostLocalError> {
        let directory = self.lock()?;
        if held_by(&directory, container, interface).is_empty() {
            return Err(HostLocalError::NotFound { container: container.to_owned() });
        }
        Ok(())
    }

    /// STATUS: whether the next ADD would find an address in every range set. (The reference always says yes.)
    ///
    /// # Errors
    /// [`HostLocalError::Allocate`] with the range set that has none left.
    pub fn ready(&self) -> Result<(), HostLocalError> {
        let directory = self.lock()?;
        for (index, set) in self.config.range_sets.iter().enumerate() {
            if free_address(&directory, set, directory.last_reserved(index), &BTreeMap::new()).is_none() {
                let source = Box::new(HostLocalError::Exhausted { set: set.to_string() });
                return Err(HostLocalError::Allocate { index, source });
            }
        }
        Ok(())
    }

    /// GC: releases the addresses of every container and interface that `valid` refuses, and returns them.
    /// (The reference does nothing.) Files of very old versions, which name no interface, are judged with an empty one.
    ///
    /// # Errors
    /// [`HostLocalError::Io`].
    pub fn collect(&self, valid: impl Fn(&str, &str) -> bool, now: SystemTime) -> Result<Vec<IpAddr>, HostLocalError> {
        let mut directory = self.lock()?;
        let stale = |holder: &Holder| !valid(&holder.container, holder.interface.as_deref().unwrap_or_default());
        let stale: Vec<IpAddr> =
            directory.held().iter().filter(|(_, holder)| stale(holder)).map(|(address, _)| *address).collect();
        if !self.config.cool_down.is_zero() {
            let mut cooling = self.cooling(&directory, now);
            cooling.extend(stale.iter().map(|address| (*address, now.into())));
            directory.set_cooling(&cooling)?;
        }
        for address in &stale {
            directory.remove(*address)?;
        }
        Ok(stale)
    }
}

fn wanted_range<'a>(directory: &Directory, set: &'a RangeSet, address: IpAddr) -> Result<&'a Range, HostLocalError> {
    let Some(range) = set.range_of(address) else {
        return Err(HostLocalError::NotInRanges { addresses: vec![address] });
    };
    if address == range.gateway {
        return Err(HostLocalError::Gateway { address });
    }
    if directory.held().contains_key(&address) {
        return Err(HostLocalError::Unavailable { address, set: set.to_string() });
    }
    Ok(range)
}

fn refuse_duplicate(
    directory: &Directory,
    set: &RangeSet,
    container: &str,
    interface: &str,
) -> Result<(), HostLocalError> {
    let ours = |holder: &Holder| holder.is(container, interface) || holder.is_old_file_of(container);
    match directory.held().iter().find(|(address, holder)| ours(holder) && set.range_of(**address).is_some()) {
        Some((address, _)) => Err(HostLocalError::Duplicate { address: *address, container: container.to_owned() }),
        None => Ok(()),
    }
}

/// The next free address after the last one; when all free ones still cool, the one that has cooled longest.
fn free_address<'a>(
    directory: &Directory,
    set: &'a RangeSet,
    last: Option<IpAddr>,
    cooling: &BTreeMap<IpAddr, UnixMillis>,
) -> Option<(IpAddr, &'a Range)> {
    let mut longest: Option<(UnixMillis, (IpAddr, &Range))> = None;
    for found in set.walk(last).filter(|(address, _)| !directory.held().contains_key(address)) {
        match cooling.get(&found.0) {
            None => return Some(found),
            Some(at) if longest.is_none_or(|(longest, _)| *at < longest) => longest = Some((*at, found)),
            Some(_) => {}
        }
    }
    longest.map(|(_, found)| found)
}

/// The addresses of a container's interface; only when there are none: those in files that name no interface.
pub(super) fn held_by(directory: &Directory, container: &str, interface: &str) -> Vec<IpAddr> {
    let matching = |ours: &dyn Fn(&Holder) -> bool| {
        directory.held().iter().filter(|(_, holder)| ours(holder)).map(|(address, _)| *address).collect::<Vec<_>>()
    };
    let held = matching(&|holder| holder.is(container, interface));
    if held.is_empty() { matching(&|holder| holder.is_old_file_of(container)) } else { held }
}

fn release(directory: &mut Directory, container: &str, interface: &str) -> Result<Vec<IpAddr>, HostLocalError> {
    let held = held_by(directory, container, interface);
    for address in &held {
        directory.remove(*address)?;
    }
    Ok(held)
}
