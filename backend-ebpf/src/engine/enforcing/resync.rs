//! What the kernel has beside what was written. Never trusts what was written.

use super::super::objects::{Key, View, differing};
use super::super::{refused, running};
use super::Enforcing;
use crate::kernel::Way;
use crate::policy::Write;
use cni_core::backend::{Drift, Error, ErrorKind, Failure, Result};
use cni_core::policy::program::PolicyKey;
use net_linux::addr::Address;
use net_linux::netlink::Socket;
use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// For how long programs of pods are moved from clsact to TCX.
pub(super) const MOVING: Duration = Duration::from_millis(200);

impl Enforcing {
    pub(super) fn resync_here(&mut self) -> Result<Drift> {
        self.begin()?;
        self.tables.set_node_addresses(node_addresses()?);
        let mut drift = Drift::default();
        if self.running.is_none() || self.worn {
            drift.repair = self.commit_here();
            return Ok(drift);
        }
        // Interfaces may have been made anew behind our back.
        self.touched.extend(self.tables.host_interfaces().map(|(id, _)| PolicyKey::Endpoint(id.clone())));
        self.make_place()?;
        let running = self.running.as_mut().expect("looked at above");
        if running.pin_missing()? {
            drift.missing.push("pins in the bpffs".to_owned());
        }
        let actual: HashSet<Write> = running.object.entries().map_err(refused)?.into_iter().collect();
        let expected: HashSet<Write> = self.tables.entries().into_iter().collect();
        let keys: HashSet<Write> = expected.iter().map(|write| write.removal()).collect();
        let mut wrong: Vec<Write> = expected.difference(&actual).copied().collect();
        wrong.sort_by_key(Write::place);
        let mut needless: Vec<Write> =
            actual.iter().map(|write| write.removal()).filter(|removal| !keys.contains(removal)).collect();
        needless.sort_by_key(|write| (std::cmp::Reverse(write.level()), write.place()));
        let mut seen = View::default();
        let (mut unsettled, begun) = (Vec::new(), Instant::now());
        let mut entries: Vec<&Write> = actual.iter().collect();
        entries.sort_by_key(|write| write.level());
        entries.iter().for_each(|write| seen.take(write, &self.names));
        for name in running.attached.keys().cloned().collect::<Vec<_>>() {
            let is_there = running.is_at(&mut self.hooks, Way::PODS, &name)?;
            // Pods wait for us: what is left is for the watch, or for the next one.
            let settled = if begun.elapsed() < MOVING { running::settle(&mut self.hooks, &name) } else { Ok(()) };
            if let Err(error) = settled {
                let items = Vec::new();
                unsettled.push(Failure { items, object: format!("policy at {name}"), error });
            }
            seen.set_attached(Key::Interface(name.clone()), is_there);
            if !is_there {
                running.attached.remove(&name);
                self.touched.extend(
                    self.tables
                        .host_interfaces()
                        .filter(|(_, other)| **other == name)
                        .map(|(id, _)| PolicyKey::Endpoint(id.clone())),
                );
            }
        }
        for name in running.guards.keys().cloned().collect::<Vec<_>>() {
            let is_there = running.is_at(&mut self.hooks, Way::HOST, &name)?;
            seen.set_attached(Key::Host(name.clone()), is_there);
            if !is_there {
                running.guards.remove(&name);
            }
        }
        let known = self.view.objects();
        for (key, object) in seen.objects() {
            match known.get(key) {
                None => drift.unexpected.push(key.to_string()),
                Some(other) if other != object => drift.changed.push(key.to_string()),
                Some(_) => {}
            }
        }
        drift.missing.extend(known.keys().filter(|key| !seen.objects().contains_key(key)).map(ToString::to_string));
        let found = differing(seen.objects(), known);
        wrong.extend(needless);
        if let (_, Err(error)) = running.object.write_all(&wrong) {
            self.worn = true;
            return Err(refused(error));
        }
        if !wrong.is_empty() {
            self.end_change()?;
        }
        drift.repair = self.commit_here();
        drift.repair.written += found;
        drift.repair.failed.extend(unsettled);
        Ok(drift)
    }
}

/// The addresses of the node, but for those of its loopback network: no packet of a pod has those.
pub(super) fn node_addresses() -> Result<BTreeSet<IpAddr>> {
    let failed =
        |error: net_linux::netlink::Error| Error::new(ErrorKind::Kernel, "list", "addresses of the node", error);
    let all = Address::dump(&mut Socket::route().map_err(failed)?, None).map_err(failed)?;
    Ok(all.into_iter().map(|address| address.address.addr()).filter(|address| !address.is_loopback()).collect())
}
