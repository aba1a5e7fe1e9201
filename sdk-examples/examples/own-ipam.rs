//! An own IPAM: a container keeps its address for life, because it is computed from its name. Leases are one JSON file.
//!
//! As a plugin, in a network's `ipam`: `{"type": "own-ipam", "subnet": "10.88.0.0/24", "file": "/run/own-ipam.json"}`.
//! `cargo test -p sdk-examples --example own-ipam` runs the laws of [`Ipam`] on it.

use async_trait::async_trait;
use cni_core::cni::{CniError, ErrorCode, NetConf};
use cni_core::ipam::{AssignRequest, Family, Ipam, IpamError, IpamPlugin, Lease, LeaseStoreError, UnixMillis, Usage};
use cni_core::model::EndpointId;
use ipnet::Ipv4Net;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::error::Error;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

const POOL: &str = "sticky";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StickyIpam {
    subnet: Ipv4Net,
    file: PathBuf,
}

fn failed<E: Error + Send + Sync + 'static>(operation: &'static str) -> impl FnOnce(E) -> IpamError {
    move |error| LeaseStoreError::Storage { operation, source: Arc::new(error) }.into()
}

impl StickyIpam {
    /// Reads the leases, lets `change` change them, and writes them durably; no other process does so meanwhile.
    fn locked<T>(&self, change: impl FnOnce(&mut Vec<Lease>) -> Result<T, IpamError>) -> Result<T, IpamError> {
        let lock = File::create(self.file.with_extension("lock")).map_err(failed("open the lock"))?;
        lock.lock().map_err(failed("lock"))?;
        let mut leases: Vec<Lease> = match fs::read(&self.file) {
            Ok(text) => serde_json::from_slice(&text).map_err(failed("read"))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed("read")(error)),
        };
        let before = leases.clone();
        let answer = change(&mut leases)?;
        if leases != before {
            let text = serde_json::to_vec(&leases).map_err(failed("write"))?;
            // A crash leaves the old file or the new one, never half of it.
            let draft = self.file.with_extension("new");
            let durable = || fs::write(&draft, text).and_then(|()| File::open(&draft)?.sync_all());
            durable().and_then(|()| fs::rename(&draft, &self.file)).map_err(failed("write"))?;
        }
        Ok(answer)
    }

    /// All addresses once, the owner's own first.
    fn candidates(&self, owner: &EndpointId) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = self.subnet.hosts().map(IpAddr::V4).collect();
        let mut hasher = DefaultHasher::new();
        owner.hash(&mut hasher);
        let start = hasher.finish() % all.len() as u64;
        all.rotate_left(usize::try_from(start).unwrap_or(0));
        all
    }

    fn numbers(&self, leases: &[Lease]) -> Usage {
        let (capacity, used) = (self.subnet.hosts().count() as u128, leases.len() as u128);
        Usage { used, free_here: capacity - used, ..Usage::new(POOL, Family::V4, vec![self.subnet.into()], capacity) }
    }

    fn choose(&self, request: &AssignRequest<'_>, leases: &[Lease]) -> Result<IpAddr, IpamError> {
        let mut free = self.candidates(request.owner);
        free.retain(|address| leases.iter().all(|lease| lease.address != *address));
        match request.addresses {
            [] => free.first().copied().ok_or_else(|| self.exhausted(leases)),
            [wanted] if free.contains(wanted) => Ok(*wanted),
            [address, ..] => {
                let reason = format!("it is taken, not of {}, or not the only one", self.subnet);
                Err(IpamError::Unusable { address: *address, reason })
            }
        }
    }

    fn exhausted(&self, leases: &[Lease]) -> IpamError {
        IpamError::Exhausted { family: Family::V4, usage: vec![self.numbers(leases)] }
    }
}

#[async_trait]
impl Ipam for StickyIpam {
    async fn assign(&self, request: &AssignRequest<'_>, now: SystemTime) -> Result<Vec<Lease>, IpamError> {
        if request.record.is_some() {
            let (allocator, what) = ("own-ipam", "a record with the lease");
            return Err(IpamError::Unsupported { allocator, what, reason: "its file holds leases only" });
        }
        self.locked(|leases| {
            if let Some(held) = leases.iter().find(|lease| lease.owner == *request.owner) {
                return Ok(vec![held.clone()]);
            }
            let (address, owner) = (self.choose(request, leases)?, request.owner.clone());
            let (subnet, pod, assigned_at) = (self.subnet.into(), request.pod.cloned(), UnixMillis::from(now));
            leases.push(Lease { address, subnet, gateway: None, pool: POOL.to_owned(), owner, pod, assigned_at });
            Ok(leases.last().cloned().into_iter().collect())
        })
    }
    async fn release(&self, owner: &EndpointId, _: SystemTime) -> Result<Vec<Lease>, IpamError> {
        self.locked(|leases| Ok(leases.extract_if(.., |lease| lease.owner == *owner).collect()))
    }
    fn leases(&self) -> Result<Vec<Lease>, IpamError> {
        self.locked(|leases| Ok(leases.clone()))
    }
    fn usage(&self, _: SystemTime) -> Result<Vec<Usage>, IpamError> {
        self.locked(|leases| Ok(vec![self.numbers(leases)]))
    }
    fn status(&self, _: SystemTime) -> Result<(), IpamError> {
        self.locked(|leases| if self.numbers(leases).free_here > 0 { Ok(()) } else { Err(self.exhausted(leases)) })
    }
    async fn gc(&self, valid: &BTreeSet<EndpointId>, _: SystemTime) -> Result<Vec<Lease>, IpamError> {
        self.locked(|leases| Ok(leases.extract_if(.., |lease| !valid.contains(&lease.owner)).collect()))
    }
}

fn main() -> ExitCode {
    let open = |conf: &NetConf| -> Result<StickyIpam, CniError> {
        let ipam = conf.ipam.as_ref().ok_or_else(|| CniError::new(ErrorCode::InvalidConfig, "ipam: is missing"))?;
        Ok(ipam.own()?)
    };
    cni_core::plugin::main(&IpamPlugin::new("own-ipam", env!("CARGO_PKG_VERSION"), open))
}

#[test]
fn sticky_addresses_keep_the_laws_of_ipam() {
    let open = |directory: &tempfile::TempDir| StickyIpam {
        subnet: "10.88.0.0/28".parse().unwrap(),
        file: directory.path().join("leases.json"),
    };
    // The suite restarts and writes thousands of times; in memory that needs no disk.
    let directory = || tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    cni_core::ipam::conformance::IpamSuite::new(directory, open).run();
}
