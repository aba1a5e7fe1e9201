//! What of a case can be made real, and as which objects. Never touches the kernel.

use crate::lab::fabric::is_on_the_way;
use crate::scenario::Scenario;
use cni_core::policy::cases::{Case, Query, Scene};
use cni_core::policy::evaluate::{Connection, Party};
use cni_core::policy::model::{Protocol, WorkloadId, WorkloadKind};
use cni_core::store::{Kind, Object, ObjectKey};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use super::traffic::Transport;

/// Why a query is not asked on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skip {
    /// The kernel has no SCTP.
    Sctp,
    /// Neither TCP nor UDP nor SCTP.
    Protocol,
    /// An end is a node or its host endpoint.
    Node,
    /// An end is a pod in its node's network.
    HostNetwork,
    /// An end is a pod that has ended, or none that we know.
    NoPod,
    /// An end is an address that no host outside can have.
    Address,
    /// Both ends are outside.
    Outside,
    /// The query itself is at fault.
    Query,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sctp => "SCTP, which is not sent here",
            Self::Protocol => "neither TCP nor UDP",
            Self::Node => "an end is a node",
            Self::HostNetwork => "an end is a pod in its node's network",
            Self::NoPod => "an end is no running pod",
            Self::Address => "an address that no host outside can have",
            Self::Outside => "both ends are outside",
            Self::Query => "the query cannot be read",
        })
    }
}

/// An end as it is made real.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Pod(WorkloadId),
    Outside(IpAddr),
}

/// A query that can be asked on the wire.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    pub(super) query: Query,
    pub(super) from: End,
    pub(super) to: End,
    pub(super) transport: Transport,
    pub(super) port: u16,
}

/// A case, prepared.
#[derive(Debug)]
pub(super) struct Plan<'c> {
    pub(super) case: &'c Case,
    pub(super) scene: Scene,
    pub(super) ready: Vec<Ready>,
    pub(super) skipped: BTreeMap<Skip, usize>,
    /// Pods without status, by workload.
    pub(super) pods: BTreeMap<WorkloadId, Object>,
    /// All other objects.
    pub(super) others: Vec<Object>,
}

impl<'c> Plan<'c> {
    pub(super) fn of(case: &'c Case, scenario: &Scenario) -> Self {
        let scene = case.scene();
        let (pods, others) = objects(case, &scene);
        let mut plan = Self { case, scene, ready: Vec::new(), skipped: BTreeMap::new(), pods, others };
        for query in &case.queries {
            match plan.prepare(query, scenario) {
                Ok(ready) => plan.ready.push(ready),
                Err(skip) => *plan.skipped.entry(skip).or_default() += 1,
            }
        }
        plan
    }

    fn prepare(&self, query: &Query, scenario: &Scenario) -> Result<Ready, Skip> {
        let question = query.question().map_err(|_| Skip::Query)?;
        let transport = match question.protocol {
            Protocol::TCP => Transport::Tcp,
            Protocol::UDP => Transport::Udp,
            Protocol::SCTP => return Err(Skip::Sctp),
            _ => return Err(Skip::Protocol),
        };
        let Connection { from, to, destination_port, .. } =
            question.connection(&self.scene.world).map_err(|_| Skip::Query)?;
        let (from, to) = (self.end(&from, scenario)?, self.end(&to, scenario)?);
        if let (End::Outside(_), End::Outside(_)) = (&from, &to) {
            return Err(Skip::Outside);
        }
        let port = destination_port.ok_or(Skip::Query)?;
        Ok(Ready { query: query.clone(), from, to, transport, port })
    }

    fn end(&self, party: &Party, scenario: &Scenario) -> Result<End, Skip> {
        let world = &self.scene.world;
        let workload = match party {
            Party::Workload(id) => Some(world.workloads.get(id).ok_or(Skip::NoPod)?),
            Party::Address(address) => world.workloads.values().find(|workload| {
                workload.addresses.contains(address) && !workload.host_network && !workload.identity.kind.is_group()
            }),
        };
        match (workload, party) {
            (Some(workload), _) if workload.host_network => Err(Skip::HostNetwork),
            (Some(workload), _) if workload.identity.kind != WorkloadKind::Pod => Err(Skip::Node),
            (Some(workload), _) if !self.pods.contains_key(&workload.id) => Err(Skip::NoPod),
            (Some(workload), _) => Ok(End::Pod(workload.id.clone())),
            (None, Party::Address(address)) if may_be_outside(*address, scenario) => Ok(End::Outside(*address)),
            (None, _) => Err(Skip::Address),
        }
    }
}

/// Whether a host beyond the nodes can have the address, and the lab does not use it itself.
fn may_be_outside(address: IpAddr, scenario: &Scenario) -> bool {
    let inside = scenario.pools.iter().any(|(_, pool)| pool.contains(&address)) || is_on_the_way(address);
    let unicast = match address {
        IpAddr::V4(v4) => {
            let below = scenario.subnets.iter().any(|subnet| subnet.v4.contains(&v4));
            !(below || v4.is_unspecified() || v4.is_loopback() || v4.is_multicast() || v4.is_broadcast())
                && !v4.is_link_local()
        }
        IpAddr::V6(v6) => {
            let below = scenario.subnets.iter().any(|subnet| subnet.v6.contains(&v6));
            let odd = v6.to_ipv4_mapped().is_some() || v6.is_unicast_link_local();
            !(below || odd || v6.is_unspecified() || v6.is_loopback() || v6.is_multicast())
        }
    };
    unicast && !inside
}

/// Pods as objects without status, also those of templates; and all others but nodes, which the lab has its own of.
fn objects(case: &Case, scene: &Scene) -> (BTreeMap<WorkloadId, Object>, Vec<Object>) {
    let (mut pods, mut others) = (BTreeMap::new(), Vec::new());
    let mut templates = Vec::new();
    for value in &case.objects {
        let Ok(mut object) = Object::from_value(value.clone()) else { continue };
        if object.key.kind == Kind::POD {
            let ended = object.field("status.phase").and_then(Value::as_str);
            let ended = ended.is_some_and(|phase| phase == "Succeeded" || phase == "Failed");
            object.fields.remove("status");
            let id = WorkloadId::pod(object.key.namespace.as_deref().unwrap_or("default"), &object.key.name);
            if !ended && scene.world.workloads.contains_key(&id) {
                pods.insert(id, object);
            }
        } else if object.field("spec.template").or(object.field("spec.jobTemplate.spec.template")).is_some() {
            templates.push(object);
        } else if object.key.kind != Kind::NODE {
            others.push(object);
        }
    }
    for object in templates {
        let id = WorkloadId::pod(object.key.namespace.as_deref().unwrap_or("default"), &object.key.name);
        if scene.world.workloads.contains_key(&id) && !pods.contains_key(&id) {
            pods.insert(id, pod_of(&object));
        }
    }
    (pods, others)
}

/// The pod that a template makes, under its owner's name.
fn pod_of(owner: &Object) -> Object {
    let template = owner.field("spec.template").or(owner.field("spec.jobTemplate.spec.template"));
    let template = template.unwrap_or(&Value::Null);
    let key = ObjectKey { kind: Kind::POD, namespace: owner.key.namespace.clone(), name: owner.key.name.clone() };
    let mut pod = Object::new(key);
    for (name, value) in template.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten() {
        if let Some(text) = value.as_str() {
            pod.metadata.labels.insert(name.clone(), text.to_owned());
        }
    }
    let spec = template.get("spec").cloned().unwrap_or_else(|| json!({}));
    pod.fields.insert("spec".to_owned(), spec);
    pod
}

/// The pod on a node, with the addresses that it was given, none before.
pub(super) fn placed(pod: &Object, node: &str, node_address: IpAddr, addresses: &[IpAddr]) -> Object {
    let mut pod = pod.clone();
    // Its owner is not there.
    pod.metadata.other.remove("ownerReferences");
    let spec = pod.fields.entry("spec").or_insert_with(|| Value::Object(Map::new()));
    spec["nodeName"] = json!(node);
    if let Some(first) = addresses.first() {
        let all: Vec<Value> = addresses.iter().map(|address| json!({"ip": address})).collect();
        let status = json!({"phase": "Running", "podIP": first, "podIPs": all, "hostIP": node_address});
        pod.fields.insert("status".to_owned(), status);
    }
    pod
}

/// The same object with other addresses where it names single ones.
pub(super) fn translated(object: &Object, addresses: &BTreeMap<String, String>) -> Value {
    fn walk(value: &mut Value, addresses: &BTreeMap<String, String>) {
        match value {
            Value::String(text) => {
                let (bare, length) = match text.split_once('/') {
                    Some((bare, length @ ("32" | "128"))) => (bare, Some(length)),
                    _ => (text.as_str(), None),
                };
                if let Some(address) = addresses.get(bare) {
                    *text = length.map_or_else(|| address.clone(), |length| format!("{address}/{length}"));
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| walk(value, addresses)),
            Value::Object(fields) => fields.values_mut().for_each(|value| walk(value, addresses)),
            _ => {}
        }
    }
    let mut value = object.to_value();
    walk(&mut value, addresses);
    value
}

/// How many queries of each case are asked, and which: spread over cases, and over what is allowed and denied. The same
/// for the same cases.
pub(super) fn sample(plans: &mut [Plan<'_>], most: usize) {
    let mut turns: Vec<[Vec<usize>; 2]> = Vec::new();
    for plan in plans.iter() {
        let mut by_verdict = [Vec::new(), Vec::new()];
        for (index, ready) in plan.ready.iter().enumerate() {
            by_verdict[usize::from(ready.query.expect)].push(index);
        }
        for indices in &mut by_verdict {
            // Neighbours ask about one pod, so a stride by the golden ratio takes them apart (Knuth, volume 3, 6.4).
            indices.sort_by_key(|index| (*index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        turns.push(by_verdict);
    }
    let mut chosen = vec![BTreeSet::new(); plans.len()];
    let mut left = most;
    while left > 0 && turns.iter().any(|turn| turn.iter().any(|indices| !indices.is_empty())) {
        for (number, [denied, allowed]) in turns.iter_mut().enumerate() {
            let even = (chosen[number].len() + number).is_multiple_of(2);
            let (first, second) = if even { (denied, allowed) } else { (allowed, denied) };
            if left > 0
                && let Some(index) = first.pop().or_else(|| second.pop())
            {
                chosen[number].insert(index);
                left -= 1;
            }
        }
    }
    for (plan, chosen) in plans.iter_mut().zip(chosen) {
        let mut index = 0..;
        plan.ready.retain(|_| index.next().is_some_and(|index| chosen.contains(&index)));
    }
}
