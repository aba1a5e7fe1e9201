//! Cases of policy made real: their pods attached in namespaces, their connections made with packets, the answers compared
//! with what the case expects and with what the evaluator says. Never decides who is right when these two differ.

mod plan;
pub mod traffic;

pub use plan::Skip;

use crate::lab::{Lab, LabError, Pod};
use crate::scenario::{PodSpec, Scenario};
use cni_core::policy::cases::{Case, Query};
use cni_core::policy::evaluate::{Connection, Evaluator, Outcome, Party};
use cni_core::policy::model::{Protocol, WorkloadId};
use cni_core::policy::world::World;
use cni_core::store::{Kind, Object, ObjectKey};
use plan::{End, Plan, Ready, placed, sample, translated};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use traffic::{Attempt, Transport};

/// A query whose packets did not do what they should, or that is judged differently.
#[derive(Debug)]
pub struct Wrong {
    /// The case.
    pub case: String,
    /// The query.
    pub query: Query,
    /// Whether the connection could be made.
    pub packets: bool,
    /// What should have been: what the case says, or the evaluator where the lab's own addresses make a difference.
    pub expected: bool,
    /// What the evaluator says of the pods as they were here.
    pub evaluator: Outcome,
}

/// What came of all cases.
#[derive(Debug, Default)]
pub struct Report {
    /// Cases of which at least one query was asked.
    pub cases: usize,
    /// Queries that were asked.
    pub queries: usize,
    /// Of these, queries that the lab's own addresses give another meaning: the evaluator says what is right.
    pub translated: usize,
    /// Queries that cannot be asked, by the reason.
    pub skipped: BTreeMap<Skip, usize>,
    /// Queries that could be asked and are not in the sample.
    pub left_out: usize,
    /// What is wrong.
    pub wrong: Vec<Wrong>,
}

/// Makes the cases real, one after the other, in a lab without pods.
///
/// # Errors
/// [`LabError`]: the lab itself failed. A query that comes out otherwise is in the report.
pub fn run(lab: &Lab, cases: &[Case], most: Option<usize>, cancel: &AtomicBool) -> Result<Report, LabError> {
    let mut plans: Vec<Plan<'_>> = cases.iter().map(|case| Plan::of(case, &lab.scenario)).collect();
    let mut report = Report::default();
    for (skip, count) in plans.iter().flat_map(|plan| &plan.skipped) {
        *report.skipped.entry(*skip).or_default() += count;
    }
    let possible: usize = plans.iter().map(|plan| plan.ready.len()).sum();
    if let Some(most) = most {
        sample(&mut plans, most);
    }
    report.left_out = possible - plans.iter().map(|plan| plan.ready.len()).sum::<usize>();
    let ends = plans.iter().flat_map(|plan| plan.ready.iter().flat_map(|ready| [&ready.from, &ready.to]));
    let outside: BTreeSet<IpAddr> =
        ends.filter_map(|end| if let End::Outside(address) = end { Some(*address) } else { None }).collect();
    lab.fabric().open_outside(&outside.into_iter().collect::<Vec<_>>())?;
    for (number, plan) in plans.iter().enumerate().filter(|(_, plan)| !plan.ready.is_empty()) {
        if cancel.load(Ordering::SeqCst) {
            return Err(LabError::Interrupted);
        }
        Stage { lab, number, plan, files: BTreeSet::new() }.run(&mut report)?;
    }
    Ok(report)
}

/// One case on its stage.
struct Stage<'a> {
    lab: &'a Lab,
    number: usize,
    plan: &'a Plan<'a>,
    /// Names of the manifests that are there.
    files: BTreeSet<String>,
}

/// The lab's own name of a node's address.
fn node_address(scenario: &Scenario, node: usize, like: IpAddr) -> IpAddr {
    let (v4, v6) = scenario.node_addresses(node);
    if like.is_ipv4() { v4.into() } else { v6.into() }
}

impl Stage<'_> {
    fn run(mut self, report: &mut Report) -> Result<(), LabError> {
        let lab = self.lab;
        // Before the pods in one case, after them in the next: what is in force must not depend on it.
        let policies_first = self.number.is_multiple_of(2);
        if policies_first {
            self.write_others(&BTreeMap::new())?;
        }
        self.write_pods(&BTreeMap::new())?;
        let pods = self.attach()?;
        self.write_pods(&pods)?;
        let addresses = self.addresses(&pods);
        if !policies_first || !addresses.is_empty() {
            self.write_others(&addresses)?;
        }
        self.put_in_force()?;
        let routes: Vec<(IpAddr, IpAddr)> = pods
            .values()
            .flat_map(|pod| pod.addresses.iter().map(|address| (*address, pod.node)))
            .map(|(address, node)| (address, node_address(&lab.scenario, node, address)))
            .collect();
        lab.fabric().route_pods(&routes, true)?;
        self.ask(&pods, &addresses, report)?;
        lab.fabric().route_pods(&routes, false)?;
        for name in &self.files {
            lab.manifests.remove(name)?;
        }
        self.each_node(&pods.into_values().collect::<Vec<_>>(), |pod: &Pod| pod.node, |pod| lab.detach(pod))?;
        Ok(())
    }

    fn write(&mut self, name: String, object: &serde_json::Value) -> Result<(), LabError> {
        self.lab.manifests.put(&name, object)?;
        self.files.insert(name);
        Ok(())
    }

    fn write_others(&mut self, addresses: &BTreeMap<String, String>) -> Result<(), LabError> {
        for (index, object) in self.plan.others.iter().enumerate() {
            self.write(format!("case-{}-object-{index}", self.number), &translated(object, addresses))?;
        }
        Ok(())
    }

    /// The node of each pod: all in turn.
    fn node_of(&self, index: usize) -> usize {
        index % self.lab.nodes.len()
    }

    fn real_pod(&self, index: usize, id: &WorkloadId, attached: &BTreeMap<WorkloadId, Pod>) -> Object {
        let node = self.node_of(index);
        let addresses = attached.get(id).map(|pod| pod.addresses.as_slice()).unwrap_or_default();
        let (node_v4, _) = self.lab.scenario.node_addresses(node);
        placed(&self.plan.pods[id], &self.lab.nodes[node].name, node_v4.into(), addresses)
    }

    fn write_pods(&mut self, attached: &BTreeMap<WorkloadId, Pod>) -> Result<(), LabError> {
        for (index, id) in self.plan.pods.keys().enumerate() {
            let pod = self.real_pod(index, id, attached);
            self.write(format!("case-{}-pod-{index}", self.number), &pod.to_value())?;
        }
        Ok(())
    }

    /// Attaches the pods that queries are about.
    fn attach(&self) -> Result<BTreeMap<WorkloadId, Pod>, LabError> {
        let ends = self.plan.ready.iter().flat_map(|ready| [&ready.from, &ready.to]);
        let needed: BTreeSet<&WorkloadId> =
            ends.filter_map(|end| if let End::Pod(id) = end { Some(id) } else { None }).collect();
        let all = self.plan.pods.keys().enumerate().filter(|(_, id)| needed.contains(id));
        let specs: Vec<(WorkloadId, PodSpec)> = all
            .map(|(index, id)| {
                let namespace = id.namespace.as_deref().unwrap_or("default").to_owned();
                let spec = PodSpec {
                    name: id.name.to_string(),
                    namespace,
                    node: self.node_of(index),
                    annotations: Vec::new(),
                };
                (id.clone(), spec)
            })
            .collect();
        let attached =
            self.each_node(&specs, |(_, spec)| spec.node, |(id, spec)| Ok((id.clone(), self.lab.attach(spec)?)));
        Ok(attached?.into_iter().collect())
    }

    /// Works on the things of every node at the same time.
    fn each_node<T: Sync, R: Send>(
        &self,
        things: &[T],
        node_of: impl Fn(&T) -> usize + Sync,
        work: impl Fn(&T) -> Result<R, LabError> + Sync,
    ) -> Result<Vec<R>, LabError> {
        let (work, node_of) = (&work, &node_of);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.lab.nodes.len())
                .map(|node| {
                    let mine = things.iter().filter(move |thing| node_of(thing) == node);
                    scope.spawn(move || mine.map(work).collect::<Result<Vec<R>, LabError>>())
                })
                .collect();
            let mut done = Vec::new();
            for worker in workers {
                done.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(done)
        })
    }

    /// From the address that the case gives a pod to the one that it has here.
    fn addresses(&self, pods: &BTreeMap<WorkloadId, Pod>) -> BTreeMap<String, String> {
        let mut addresses = BTreeMap::new();
        for (id, pod) in pods {
            let Some(workload) = self.plan.scene.world.workloads.get(id) else { continue };
            for was in &workload.addresses {
                if let Some(is) = pod.addresses.iter().find(|is| is.is_ipv4() == was.is_ipv4()) {
                    addresses.insert(was.to_string(), is.to_string());
                }
            }
        }
        addresses
    }

    /// A resync reads the store whole first, so that what was written before is in force after.
    fn put_in_force(&self) -> Result<(), LabError> {
        let nodes: Vec<usize> = (0..self.lab.nodes.len()).collect();
        self.each_node(
            &nodes,
            |node| *node,
            |node| {
                let node = &self.lab.nodes[*node];
                let mut command = Command::new(&self.lab.programs().cnidarian);
                let output = command.args(["resync", "--socket"]).arg(&node.socket).output();
                let output = output.map_err(|source| LabError::Io { what: "resync", source })?;
                if output.status.success() {
                    return Ok(());
                }
                let detail = [output.stdout, output.stderr].concat();
                let detail = String::from_utf8_lossy(&detail).into_owned();
                Err(LabError::Resync { node: node.name.clone(), detail, log: node.log_tail() })
            },
        )?;
        Ok(())
    }

    /// Everything that is in force here, to be evaluated.
    fn world(&self, pods: &BTreeMap<WorkloadId, Pod>, addresses: &BTreeMap<String, String>) -> World {
        let others =
            self.plan.others.iter().filter_map(|object| Object::from_value(translated(object, addresses)).ok());
        let real = self.plan.pods.keys().enumerate().map(|(index, id)| self.real_pod(index, id, pods));
        let nodes = self.lab.nodes.iter().enumerate().map(|(index, node)| {
            let (v4, v6) = self.lab.scenario.node_addresses(index);
            let mut object = Object::new(ObjectKey::cluster(Kind::NODE, &node.name));
            let list = json!([{"type": "InternalIP", "address": v4}, {"type": "InternalIP", "address": v6}]);
            object.fields.insert("status".to_owned(), json!({"addresses": list}));
            object
        });
        let all: Vec<Object> = others.chain(real).chain(nodes).collect();
        World::read(&all).0
    }

    fn ask(
        &self,
        pods: &BTreeMap<WorkloadId, Pod>,
        addresses: &BTreeMap<String, String>,
        report: &mut Report,
    ) -> Result<(), LabError> {
        let world = self.world(pods, addresses);
        let (here, there) = (Evaluator::new(&world), Evaluator::new(&self.plan.scene.world));
        let mut places = vec![self.lab.outside().clone()];
        let place_of: BTreeMap<&WorkloadId, usize> =
            pods.keys().enumerate().map(|(index, id)| (id, index + 1)).collect();
        places.extend(pods.values().map(|pod| pod.namespace.clone()));
        let mut asked = Vec::new();
        for ready in &self.plan.ready {
            let Some((source, destination)) = way(ready, pods) else {
                *report.skipped.entry(Skip::Address).or_default() += 1;
                continue;
            };
            let Some(outcome) = judge(&here, ready) else {
                *report.skipped.entry(Skip::NoPod).or_default() += 1;
                continue;
            };
            let place = |end: &End| if let End::Pod(id) = end { place_of[id] } else { 0 };
            let attempt = Attempt {
                from: place(&ready.from),
                source: Some(source),
                to: place(&ready.to),
                address: SocketAddr::new(destination, ready.port),
                transport: ready.transport,
                hopeless: !outcome.allowed(),
            };
            asked.push((ready, outcome, attempt));
        }
        let attempts: Vec<Attempt> = asked.iter().map(|(.., attempt)| *attempt).collect();
        let answers = traffic::run(&places, &attempts).map_err(|source| LabError::Io { what: "packets", source })?;
        report.cases += 1;
        report.queries += asked.len();
        for ((ready, outcome, _), packets) in asked.into_iter().zip(answers) {
            let mut expected = ready.query.expect;
            if judge(&there, ready).is_some_and(|case| case.allowed() != outcome.allowed()) {
                report.translated += 1;
                expected = outcome.allowed();
            }
            if packets != expected || outcome.allowed() != expected {
                let (case, query) = (self.plan.case.id.clone(), ready.query.clone());
                report.wrong.push(Wrong { case, query, packets, expected, evaluator: outcome });
            }
        }
        Ok(())
    }
}

/// Source and destination addresses of one family; IPv4 where both have it.
fn way(ready: &Ready, pods: &BTreeMap<WorkloadId, Pod>) -> Option<(IpAddr, IpAddr)> {
    let of = |end: &End| match end {
        End::Pod(id) => pods.get(id).map(|pod| pod.addresses.clone()).unwrap_or_default(),
        End::Outside(address) => vec![*address],
    };
    let (from, to) = (of(&ready.from), of(&ready.to));
    from.iter().find_map(|from| Some((*from, *to.iter().find(|to| to.is_ipv4() == from.is_ipv4())?)))
}

fn judge(evaluator: &Evaluator<'_>, ready: &Ready) -> Option<Outcome> {
    let party = |end: &End| match end {
        End::Pod(id) => Party::Workload(id.clone()),
        End::Outside(address) => Party::Address(*address),
    };
    let protocol = match ready.transport {
        Transport::Tcp => Protocol::TCP,
        Transport::Udp => Protocol::UDP,
    };
    evaluator.decide(&Connection::new(party(&ready.from), party(&ready.to), protocol, ready.port)).ok()
}
