//! What the next commit will change: where it writes what was staged, that alone is looked at; where it writes all, all is. Never
//! decides what is enforced: the tables do, for a plan as for a commit.

use super::super::objects::{Key, Object, Objects, View};
use super::Enforcing;
use crate::policy::{AtInterfaces, Outlook};
use cni_core::backend::{Action, Change, Plan, Step};
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::program::PolicyKey;
use std::collections::BTreeMap;

/// Objects as they shall be; `None`: not there.
type Named = BTreeMap<Key, Option<Object>>;

impl Enforcing {
    /// What is in the kernel: ours, and what a predecessor left.
    pub(super) fn present(&self) -> Objects {
        let mut all = self.left.objects.clone();
        all.extend(self.view.objects().iter().map(|(key, object)| (key.clone(), object.clone())));
        all
    }

    /// What shall be there.
    pub(super) fn wanted(&self) -> Objects {
        let outlook = if self.removed_early.is_empty() {
            self.tables.whole()
        } else {
            let mut tables = self.tables.renewed();
            self.removed_early.iter().for_each(|key| tables.apply(Change::Remove(key.clone())));
            tables.whole()
        };
        named(outlook, &View::default()).into_iter().filter_map(|(key, object)| Some((key, object?))).collect()
    }

    /// Whether the next commit writes all that is staged, and not only what changed.
    fn writes_all(&self) -> bool {
        self.running.is_none() || self.worn || !self.in_sync || !self.left.is_empty()
    }

    pub(super) fn plan_here(&self) -> Plan {
        let mut plan = Plan { blocked: self.blocked(), ..Plan::default() };
        if self.writes_all() {
            let (present, wanted) = (self.present(), self.wanted());
            let gone = present.keys().filter(|key| !wanted.contains_key(key)).map(|key| (key.clone(), None));
            let mut named: Named = gone.collect();
            named.extend(wanted.into_iter().map(|(key, object)| (key, Some(object))));
            let mut steps = steps(&named, &present);
            if !self.in_sync {
                let all = steps.len();
                steps.retain(|step| step.action != Action::Delete);
                plan.waiting_for_sync = all - steps.len();
            }
            plan.steps = steps;
        } else {
            let outlook = self.tables.outlook(self.touched_endpoints());
            plan.steps = steps(&named(outlook, &self.view), self.view.objects());
        }
        plan
    }

    /// Endpoints that were staged since all was in force.
    pub(super) fn touched_endpoints(&self) -> impl Iterator<Item = &EndpointId> {
        self.touched.iter().filter_map(|key| match key {
            PolicyKey::Endpoint(id) => Some(id),
            _ => None,
        })
    }
}

/// An outlook as objects, beside what is there.
fn named(outlook: Outlook, there: &View) -> Named {
    let Outlook { identities, interfaces, hosts } = outlook;
    let mut all: Named =
        identities.into_iter().map(|(net, digest)| (Key::Identity(net), digest.map(Object::Identity))).collect();
    // Where no programs are they are put whenever there is a commit.
    all.extend(there.bare().map(|(key, object)| (key.clone(), Some(attached(object)))));
    let of = |at: AtInterfaces, key: fn(InterfaceName) -> Key| {
        at.into_iter().map(move |(name, addresses)| {
            (key(name), (!addresses.is_empty()).then_some(Object::Interface { addresses, attached: true }))
        })
    };
    all.extend(of(interfaces, Key::Interface));
    if let Some(hosts) = hosts {
        // They are the last ones.
        let before = there.objects().keys().rev().take_while(|key| matches!(key, Key::Host(_)));
        all.extend(before.map(|key| (key.clone(), None)));
        all.extend(of(hosts, Key::Host));
    }
    all
}

fn attached(object: &Object) -> Object {
    match object {
        Object::Interface { addresses, .. } => Object::Interface { addresses: addresses.clone(), attached: true },
        Object::Identity(_) => object.clone(),
    }
}

/// What differs from what is there: first what comes or changes, then what goes.
fn steps(wanted: &Named, present: &Objects) -> Vec<Step> {
    let comes = wanted.iter().filter_map(|(key, object)| {
        let object = object.as_ref()?;
        let (action, detail) = match present.get(key) {
            Some(old) if old == object => return None,
            Some(old) => (Action::Update, format!("{old} -> {object}")),
            None => (Action::Create, object.to_string()),
        };
        Some(Step { action, object: key.to_string(), detail })
    });
    let goes = wanted.iter().filter(|(_, object)| object.is_none()).filter_map(|(key, _)| {
        let detail = present.get(key)?.to_string();
        Some(Step { action: Action::Delete, object: key.to_string(), detail })
    });
    comes.chain(goes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Device, Tables};
    use cni_core::policy::compile::Compiler;
    use cni_core::policy::program::PolicyItem;
    use cni_core::testkit::dice::Dice;
    use cni_core::testkit::policy::Scene;
    use std::collections::BTreeSet;

    /// Tables, and what the kernel has of them.
    #[derive(Default)]
    struct Node {
        tables: Tables,
        view: View,
        names: BTreeMap<u32, InterfaceName>,
        touched: BTreeSet<EndpointId>,
    }

    impl Node {
        fn stage(&mut self, change: Change<PolicyItem>) {
            match &change {
                Change::Put(PolicyItem::Endpoint(program)) => {
                    let name = &program.host_interface;
                    let known = self.names.iter().find(|(_, other)| *other == name).map(|(index, _)| *index);
                    let index = known.unwrap_or(100 + u32::try_from(self.names.len()).unwrap());
                    self.names.insert(index, name.clone());
                    self.tables.set_interface(name, Some(index));
                    self.touched.insert(program.endpoint.clone());
                }
                Change::Remove(PolicyKey::Endpoint(id)) => drop(self.touched.insert(id.clone())),
                _ => {}
            }
            self.tables.apply(change);
        }

        fn plan(&self) -> BTreeSet<String> {
            let named = named(self.tables.outlook(&self.touched), &self.view);
            steps(&named, self.view.objects()).iter().map(|step| format!("{step:?}")).collect()
        }

        /// What a commit does, with what it changed.
        fn commit(&mut self) -> BTreeSet<String> {
            let before = self.view.objects().clone();
            for write in self.tables.drain() {
                self.view.take(&write, &self.names);
            }
            let pods = self.tables.host_interfaces().map(|(_, name)| Key::Interface(name.clone()));
            let hosts = self.tables.guarded().map(|(name, _)| Key::Host(name.clone()));
            pods.chain(hosts).for_each(|key| self.view.set_attached(key, true));
            self.touched.clear();
            let after = self.view.objects();
            let differing: BTreeSet<&Key> =
                before.keys().chain(after.keys()).filter(|key| before.get(key) != after.get(key)).collect();
            let of = |key: &Key| {
                let (action, detail) = match (before.get(key), after.get(key)) {
                    (Some(old), Some(new)) => (Action::Update, format!("{old} -> {new}")),
                    (None, Some(new)) => (Action::Create, new.to_string()),
                    (old, None) => (Action::Delete, old.unwrap().to_string()),
                };
                format!("{:?}", Step { action, object: key.to_string(), detail })
            };
            differing.into_iter().map(of).collect()
        }
    }

    #[test]
    fn a_plan_says_exactly_what_the_next_commit_changes_and_the_whole_is_what_is_there_then() {
        let mut changed = 0;
        for seed in 0..30 {
            let mut dice = Dice::new(seed);
            let mut scene = Scene::random(&mut dice, 10, 8);
            let mut compiler = Compiler::new(&scene.node);
            scene.load(&mut compiler);
            let mut node = Node::default();
            let device = |(name, index, is_pods)| {
                (InterfaceName::new(name).unwrap(), Device { index, is_pods, is_ethernet: true })
            };
            let devices: BTreeMap<_, _> = [("eth0", 20, false), ("cni1", 21, true)].map(device).into();
            node.names.extend(devices.iter().map(|(name, device)| (device.index, name.clone())));
            node.tables.set_devices(devices);
            for step in 0..20 {
                let addresses = Scene::interfaces().into_values().flatten();
                node.tables.set_node_addresses(addresses.skip(dice.below(2)).collect());
                let change = match dice.below(2) {
                    0 => scene.workload_change(&mut dice, 10),
                    _ => scene.policy_change(&mut dice, 8, true),
                };
                let before = scene.endpoints.clone();
                scene.apply(change.clone());
                compiler.apply(change);
                for id in before.keys().filter(|id| !scene.endpoints.contains_key(id)) {
                    compiler.remove_endpoint(id);
                }
                scene.endpoints.values().for_each(|endpoint| compiler.put_endpoint(endpoint.clone()));
                compiler.drain().into_iter().for_each(|change| node.stage(change));
                let (planned, done) = (node.plan(), node.commit());
                assert_eq!(planned, done, "seed {seed}, step {step}");
                changed += done.len();
                let whole = named(node.tables.whole(), &View::default());
                let whole: Objects = whole.into_iter().filter_map(|(key, object)| Some((key, object?))).collect();
                assert_eq!(&whole, node.view.objects(), "seed {seed}, step {step}");
                assert!(node.plan().is_empty());
                // A program that is taken off is planned to be put back.
                if dice.below(3) == 0
                    && let Some(key) = node.view.objects().keys().find(|key| !matches!(key, Key::Identity(_))).cloned()
                {
                    node.view.set_attached(key, false);
                    assert_eq!(node.plan().len(), 1);
                }
            }
        }
        assert!(changed > 1000, "only {changed} objects changed");
    }
}
