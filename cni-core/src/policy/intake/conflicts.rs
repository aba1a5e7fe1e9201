//! Objects that say what another one says: an address of two pods, one name under two kinds. Never who is right.

use super::Intake;
use super::kinds::{self, Role};
use super::lookup::holders;
use super::problems::Cause;
use crate::policy::model::{Effect, Problem, Workload};
use crate::store::{Kind, ObjectKey};
use std::collections::BTreeSet;
use std::net::IpAddr;

impl Intake {
    /// Keeps the index of addresses, and the problems of pods that have one in common.
    pub(super) fn addresses_changed(&mut self, key: &ObjectKey, old: Option<&Workload>, new: Option<&Workload>) {
        let own = |pod: Option<&Workload>| -> BTreeSet<IpAddr> {
            pod.filter(|pod| !pod.host_network).into_iter().flat_map(|pod| pod.addresses.iter().copied()).collect()
        };
        let (old, new) = (own(old), own(new));
        for address in old.difference(&new) {
            self.holders.remove(&(*address, key.clone()));
        }
        for address in new.difference(&old) {
            self.holders.insert((*address, key.clone()));
        }
        let changed = old.symmetric_difference(&new);
        let mut touched: BTreeSet<ObjectKey> =
            changed.flat_map(|address| self.others(*address, key).cloned().collect::<Vec<_>>()).collect();
        touched.insert(key.clone());
        for key in touched {
            let addresses = own(self.workloads.get(&key).map(|pod| &**pod));
            let problem = |address: IpAddr| {
                let other = self.others(address, &key).next()?;
                let detail =
                    format!("{address} is also an address of {other}; it counts as both but on the nodes of the two");
                let (object, path) = (key.clone(), "status.podIPs".to_owned());
                Some(Problem { object, path, detail, effect: Effect::Warning })
            };
            let problems = addresses.into_iter().filter_map(problem).collect();
            self.problems.set(&key, Cause::Address, problems);
        }
    }

    /// Other pods that have an address.
    fn others<'a>(&'a self, address: IpAddr, key: &'a ObjectKey) -> impl Iterator<Item = &'a ObjectKey> {
        holders(&self.holders, address).filter(move |holder| *holder != key)
    }

    /// Keeps the problems of objects that say the same under two API versions or kinds.
    pub(super) fn repeated(&mut self, key: &ObjectKey, there: bool) {
        let (before, after) = kinds::rivals(key);
        // A pod and the template that it was made from are no mistake.
        let rivals: Vec<ObjectKey> = before.chain(after).filter(|rival| rival.kind != Kind::POD).collect();
        if rivals.is_empty() || key.kind == Kind::POD {
            return;
        }
        let changed = if there { self.rivals.insert(key.clone()) } else { self.rivals.remove(key) };
        if !changed {
            return;
        }
        let all: Vec<&ObjectKey> = rivals.iter().chain([key]).filter(|rival| self.rivals.contains(rival)).collect();
        if !there {
            self.problems.set(key, Cause::Duplicate, Vec::new());
        }
        for object in &all {
            let other = all.iter().filter(|other| *other != object).min();
            let problem = other.map(|other| {
                let (api, kind) = (other.kind.api_version(), other.kind.kind());
                let what = match kinds::role(&object.kind) {
                    Role::Template => "both count as one pod; write pods to have both",
                    _ => "remove one of them",
                };
                let detail = format!("the same name is there as {api} {kind}; {what}");
                let (object, path) = ((*object).clone(), "metadata.name".to_owned());
                Problem { object, path, detail, effect: Effect::Warning }
            });
            self.problems.set(object, Cause::Duplicate, problem.into_iter().collect());
        }
    }
}
