//! Policy of a node: objects of the store in, programs for its endpoints out. Never opens what it does not know: an endpoint
//! whose program is not in the kernel yet, or whose pod nobody has told of, is closed.
//!
//! ```text
//!  store --watch--> Intake --ModelChange--> Compiler --PolicyChange--> engine task --> kernel
//!                      ^                       ^
//!  ADD: the pod's object as it is now          ADD, DEL: endpoints
//! ```
//!
//! Nothing is handed to the engine before the whole first state of the store is there, so that a restart finds in the kernel
//! what it compiles itself, and neither opens nor cuts anything.

mod flows;
mod open;
#[cfg(test)]
mod tests;

pub(super) use flows::hear;
pub(super) use open::{clear_others, open};

use super::engine::EngineHandle;
use super::error::NodeError;
use super::record::Record;
use super::status::{HostStatus, Problem};
use cni_core::backend::{Change, CommitReport};
use cni_core::flow::FlowSource;
use cni_core::model::{EndpointId, InterfaceName, NodeName, PodRef};
use cni_core::policy::Intake;
use cni_core::policy::compile::{Compiler, LocalEndpoint};
use cni_core::policy::counters::RuleCounters;
use cni_core::policy::failsafe::Failsafe;
use cni_core::policy::model::{Effect, Problem as PolicyProblem};
use cni_core::policy::program::{PolicyChange, PolicyItem, PolicyKey};
use cni_core::store::{Event, Kind, Object, ObjectKey, Query, Store, StoreExt};
use flows::FlowLog;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, SelectAll, select_all};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{Mutex, MutexGuard, Notify};

/// What is known, and what was compiled of it.
struct Front {
    intake: Intake,
    compiler: Compiler,
    /// Objects of each kind that the store has.
    known: BTreeMap<Kind, BTreeSet<ObjectKey>>,
    /// What was said in the log.
    told: BTreeSet<String>,
    /// Local endpoints of pods: while one lives its pod's labels count, whatever the store says.
    attached: BTreeMap<EndpointId, ObjectKey>,
    /// The node itself, which is there whatever the store says.
    itself: ObjectKey,
}

/// Policy of this node.
pub(super) struct Policy {
    node: NodeName,
    store: Arc<dyn Store>,
    front: Mutex<Front>,
    engine: EngineHandle<PolicyItem>,
    counters: Option<Arc<dyn RuleCounters>>,
    /// `None`: the engine tells of none.
    flows: Option<FlowLog>,
    /// The store may have told of a pod that it did not know at its ADD.
    told_of_pods: Notify,
}

/// The most events that are taken in at once, so that an ADD that waits for the same lock does not wait for long.
const MOST_EVENTS: usize = 1024;
/// The addresses of each interface of the node.
pub(super) type Interfaces = BTreeMap<InterfaceName, BTreeSet<IpAddr>>;

type Events = SelectAll<BoxStream<'static, (Kind, cni_core::store::Result<Event>)>>;

/// Watches of all kinds that say something of policy.
pub(super) struct Following {
    waiting: usize,
    events: Events,
}

fn pod_key(pod: &PodRef) -> ObjectKey {
    ObjectKey::namespaced(Kind::POD, &pod.namespace, &pod.name)
}

impl Front {
    fn new(node: &NodeName, failsafe: Failsafe) -> Self {
        Self {
            intake: Intake::new(),
            compiler: Compiler::with_failsafe(node.as_str(), failsafe),
            known: BTreeMap::new(),
            told: BTreeSet::new(),
            attached: BTreeMap::new(),
            itself: ObjectKey::cluster(Kind::NODE, node.as_str()),
        }
    }

    fn put(&mut self, object: &Object) {
        self.known.entry(object.key.kind.clone()).or_default().insert(object.key.clone());
        for change in self.intake.put(object) {
            self.compiler.apply(change);
        }
    }

    /// The store does not have it any more. A pod that is attached here keeps its labels until it is detached, and this node
    /// keeps its own until its object is written anew: policies about it do not open meanwhile.
    fn forget(&mut self, key: &ObjectKey) {
        if let Some(keys) = self.known.get_mut(&key.kind) {
            keys.remove(key);
        }
        if *key != self.itself && !self.attached.values().any(|attached| attached == key) {
            for change in self.intake.remove(key) {
                self.compiler.apply(change);
            }
        }
    }

    /// What is wrong with objects and what they compiled to. Of mere warnings only addresses of two pods.
    fn problems(&self) -> Vec<PolicyProblem> {
        let compiled = self.compiler.problems();
        let all = self.intake.problems().cloned().chain(compiled);
        let serious = all.filter(|problem| problem.effect != Effect::Warning);
        serious.chain(self.intake.shared_addresses().cloned()).collect()
    }

    /// Says in the log what is wrong since the last call.
    fn tell(&mut self) {
        let problems: BTreeSet<String> = self.problems().iter().map(ToString::to_string).collect();
        for problem in problems.difference(&self.told) {
            tracing::warn!(%problem, "an object does not count as it is written; policies fail closed");
        }
        self.told = problems;
    }

    fn is_known(&self, pod: &ObjectKey) -> bool {
        self.known.get(&Kind::POD).is_some_and(|known| known.contains(pod))
    }

    fn take(&mut self, kind: &Kind, event: &Event) {
        match event {
            Event::Put(object) => self.put(object),
            Event::Delete(key) => self.forget(key),
            Event::Resynced(list) => {
                let before = self.known.remove(kind).unwrap_or_default();
                list.objects.iter().for_each(|object| self.put(object));
                let now = self.known.get(kind);
                let gone: Vec<&ObjectKey> =
                    before.iter().filter(|key| !now.is_some_and(|now| now.contains(*key))).collect();
                gone.into_iter().for_each(|key| self.forget(key));
            }
        }
    }

    fn attach(&mut self, record: &Record, object: Option<&Object>, node: &NodeName) {
        if let Some(pod) = &record.endpoint.pod {
            let key = pod_key(pod);
            match object {
                Some(object) => self.put(object),
                // A pod that no store tells of has no labels. One that a store told of once is closed until it does again.
                None if !self.is_known(&key) && !record.pod_known => {
                    let stranger = stranger(pod, &record.endpoint.addresses, node);
                    for change in self.intake.put(&stranger) {
                        self.compiler.apply(change);
                    }
                }
                None => {}
            }
            self.attached.insert(record.endpoint.id.clone(), key);
        }
        self.compiler.put_endpoint(LocalEndpoint::from(&record.endpoint));
    }

    fn detach(&mut self, id: &EndpointId) {
        self.compiler.remove_endpoint(id);
        if let Some(pod) = self.attached.remove(id)
            && !self.is_known(&pod)
        {
            self.forget(&pod);
        }
    }
}

/// The object of a pod that nobody wrote one for.
fn stranger(pod: &PodRef, addresses: &[IpAddr], node: &NodeName) -> Object {
    let mut object = Object::new(pod_key(pod));
    let addresses: Vec<_> = addresses.iter().map(|address| json!({"ip": address.to_string()})).collect();
    object.fields.insert("spec".to_owned(), json!({"nodeName": node.as_str()}));
    object.fields.insert("status".to_owned(), json!({"podIPs": addresses}));
    object
}

impl Policy {
    pub(super) fn new(
        node: NodeName,
        store: Arc<dyn Store>,
        engine: EngineHandle<PolicyItem>,
        counters: Option<Arc<dyn RuleCounters>>,
        flows: Option<Box<dyn FlowSource>>,
        failsafe: Failsafe,
    ) -> Self {
        let front = Mutex::new(Front::new(&node, failsafe));
        let flows = flows.map(FlowLog::new);
        Self { node, store, front, engine, counters, flows, told_of_pods: Notify::new() }
    }

    pub(super) fn engine(&self) -> &EngineHandle<PolicyItem> {
        &self.engine
    }

    pub(super) fn counters(&self) -> Option<Arc<dyn RuleCounters>> {
        self.counters.clone()
    }

    /// Begins to watch. Each stream begins with the whole state.
    pub(super) async fn follow(&self) -> Result<Following, NodeError> {
        let mut streams = Vec::new();
        for kind in Intake::kinds() {
            let watch = self.store.follow(&Query::kind(kind.clone())).await?;
            streams.push(watch.map(move |event| (kind.clone(), event)).boxed());
        }
        Ok(Following { waiting: streams.len(), events: select_all(streams) })
    }

    /// Takes the whole first state in, with what a predecessor attached, and hands it to the engine as one.
    pub(super) async fn first_sync(
        &self,
        following: &mut Following,
        records: &[Arc<Record>],
        interfaces: Interfaces,
    ) -> Result<(), NodeError> {
        let mut front = self.front.lock().await;
        front.compiler.set_interfaces(interfaces);
        while following.waiting > 0 {
            let Some((kind, event)) = following.events.next().await else { return Err(NodeError::Closing) };
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    tracing::warn!(%error, %kind, "the store is disturbed; waiting for its policies");
                    continue;
                }
            };
            if matches!(event, Event::Resynced(_)) {
                following.waiting -= 1;
            }
            front.take(&kind, &event);
        }
        for record in records {
            front.attach(record, None, &self.node);
        }
        let mut changes = front.compiler.drain();
        front.tell();
        changes.push(Change::InSync);
        let submitted = self.engine.submit(changes, None).await?;
        drop(front);
        self.told_of_pods.notify_one();
        Ok(submitted.done().await?)
    }

    /// The node's own interfaces have these addresses now.
    pub(super) async fn set_interfaces(&self, interfaces: Interfaces) -> Result<(), NodeError> {
        let mut front = self.front.lock().await;
        front.compiler.set_interfaces(interfaces);
        self.pass_on(front).await
    }

    /// Hands what changed to the engine, and waits for it.
    async fn pass_on(&self, mut front: MutexGuard<'_, Front>) -> Result<(), NodeError> {
        let changes = front.compiler.drain();
        if changes.is_empty() {
            return Ok(());
        }
        let submitted = self.engine.submit(changes, None).await?;
        drop(front);
        Ok(submitted.done().await?)
    }

    /// Waits until the store may have told of a pod that it did not know at its ADD.
    pub(super) async fn told_of_pods(&self) {
        self.told_of_pods.notified().await;
    }

    /// Whether the store tells of the pod of an attachment.
    pub(super) async fn knows(&self, record: &Record) -> bool {
        let Some(pod) = &record.endpoint.pod else { return false };
        self.front.lock().await.is_known(&pod_key(pod))
    }

    /// Passes changes on for as long as the store lives. What came while the engine was at work is one commit: each may have to
    /// look at all open connections.
    pub(super) async fn run(&self, following: Following) {
        let mut events = following.events.ready_chunks(MOST_EVENTS);
        while let Some(several) = events.next().await {
            let mut good = Vec::with_capacity(several.len());
            for (kind, event) in several {
                match event {
                    Ok(event) => good.push((kind, event)),
                    Err(error) => {
                        tracing::warn!(%error, %kind, "the store is disturbed; policies that were known stay in force")
                    }
                }
            }
            if let Err(error) = self.take_in(self.front.lock().await, &good).await {
                tracing::warn!(%error, "a change of policy could not be passed on");
            }
        }
    }

    async fn take_in(&self, mut front: MutexGuard<'_, Front>, events: &[(Kind, Event)]) -> Result<(), NodeError> {
        for (kind, event) in events {
            front.take(kind, event);
            if *kind == Kind::POD {
                self.told_of_pods.notify_one();
            }
        }
        front.tell();
        self.pass_on(front).await
    }

    /// Reads the store whole, so that what was written to it before this call is in force after it.
    pub(super) async fn refresh(&self) -> Result<(), NodeError> {
        for kind in Intake::kinds() {
            // Locked before it is read: a newer event that was taken in meanwhile would be undone by an older list, for good.
            let front = self.front.lock().await;
            let list = self.store.list(&Query::kind(kind.clone())).await?;
            self.take_in(front, &[(kind, Event::Resynced(list))]).await?;
        }
        Ok(())
    }

    /// Puts the program of an endpoint in force. Its interface is there, and down until then.
    pub(super) async fn attach(&self, record: &Record) -> Result<(), NodeError> {
        // Locked before it is read, as in `refresh`.
        let mut front = self.front.lock().await;
        // The watch may not have told of the pod yet.
        let object = match &record.endpoint.pod {
            Some(pod) => self.store.find(&pod_key(pod)).await?,
            None => None,
        };
        front.attach(record, object.as_deref(), &self.node);
        self.told_of_pods.notify_one();
        let changes = front.compiler.drain();
        let submitted = self.engine.submit(changes, Some(PolicyKey::Endpoint(record.endpoint.id.clone()))).await?;
        drop(front);
        Ok(submitted.done().await?)
    }

    /// Takes the program of an endpoint back: its interface is closed from then on.
    pub(super) async fn detach(&self, id: &EndpointId) -> Result<(), NodeError> {
        let mut front = self.front.lock().await;
        front.detach(id);
        let changes: Vec<PolicyChange> = front.compiler.drain();
        let submitted = self.engine.submit(changes, Some(PolicyKey::Endpoint(id.clone()))).await?;
        drop(front);
        Ok(submitted.done().await?)
    }

    /// What is enforced at the node's own interfaces. Empty also while a change is being taken in.
    pub(super) fn hosts(&self) -> Vec<HostStatus> {
        let Ok(front) = self.front.try_lock() else { return Vec::new() };
        let program = front.compiler.host();
        program.iter().flat_map(|program| &program.endpoints).map(HostStatus::from).collect()
    }

    /// What is wrong with policies and with what they became in the kernel.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let report: CommitReport = self.engine.state().last_commit;
        let mut problems = Problem::of_commit(&report);
        problems.extend(self.flows.as_ref().and_then(FlowLog::problem));
        // A status page does not wait for a change that is being taken in; the next one has it.
        let Ok(front) = self.front.try_lock() else { return problems };
        problems.extend(front.compiler.idle_host_endpoints().into_iter().map(|idle| Problem {
            object: format!("HostEndpoint {}", idle.name),
            error: idle.reason.to_string(),
            state: "left out".to_owned(),
        }));
        problems.extend(front.problems().into_iter().map(|problem| {
            Problem {
                object: problem.object.to_string(),
                error: format!("{}: {}", problem.path, problem.detail),
                state: match problem.effect {
                    Effect::SubjectClosed => "closed",
                    Effect::RuleClosed => "rule closed",
                    Effect::LeftOut => "left out",
                    Effect::Warning => "counts as both",
                }
                .to_owned(),
            }
        }));
        problems
    }
}
