//! What the engine takes to put policy in force: all of it at a cold start and at a restart, and one change of it. On a node of its own,
//! whose pods' interfaces carry nothing. Never a packet.

use super::AnyError;
use backend_ebpf::engine::{self, Config, Hook, probe};
use benches::place::apart;
use benches::stats::{Table, millis, quantile};
use cni_core::backend::{Change, CommitReport};
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::model::{Action, Direction, Family, PolicyId, PortRange, Protocol, Stage, TierEnd};
use cni_core::policy::program::{
    Chain, ChainId, Clause, DirectionProgram, EndpointProgram, Member, PolicyEngine, PolicyItem, PolicyKey,
    ProgramRule, Set, SetId, SetKind, SetMatch, Side, TierProgram,
};
use cni_core::store::{Kind, ObjectKey};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use testlab::bed::run;
use tokio::runtime::Runtime;

/// Pods here, rules of each, addresses that rules name, rounds.
const LOADS: &[(u32, u32, u32, usize)] = &[(1, 10, 10, 11), (1, 100, 1_000, 7), (1, 1_000, 100_000, 3)];
const CHANGES: &[(u32, u32, u32, usize)] = &[(100, 10, 10_000, 101), (100, 10, 100_000, 101)];

/// A node: pods with rules, each for its own peers and one of 100 ports, and addresses that nearly each have an identity of their own,
/// because no other is in the same two sets.
struct Node {
    pods: u32,
    rules: u32,
    addresses: u32,
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a01_0000 + number)
}

fn set(number: u32) -> Set {
    Set { id: SetId(format!("{number:x}").into()), kind: SetKind::Addresses(Family::V4) }
}

impl Node {
    fn sets(&self) -> u32 {
        self.pods * self.rules
    }

    fn interface(pod: u32) -> Result<InterfaceName, AnyError> {
        Ok(InterfaceName::new(&format!("cni{pod:012x}"))?)
    }

    fn make_interfaces(&self) -> Result<(), AnyError> {
        for pod in 0..self.pods {
            let name = Self::interface(pod)?;
            run(&format!("ip link add {name} type veth peer name p{pod}"));
        }
        Ok(())
    }

    /// The sets that an address is in.
    fn of(&self, number: u32) -> [Member2; 2] {
        let sets = self.sets();
        [number % sets, (number / sets + number + 1) % sets]
            .map(|at| (set(at), Member::Address(address(number).into())))
    }

    /// A policy with its first port.
    fn chain(&self, pod: u32, direction: Direction, first: u16) -> Chain {
        let object =
            ObjectKey::namespaced(Kind::new("networking.k8s.io/v1", "NetworkPolicy"), "red", &format!("p{pod}"));
        let side = if direction == Direction::Ingress { Side::Source } else { Side::Destination };
        let rule = |number: u32| {
            let port = PortRange::one(first + (number % 100) as u16);
            let clause = Clause {
                family: Some(Family::V4),
                sets: vec![SetMatch { side, set: set(pod * self.rules + number), negated: false }],
                protocol: Some(Protocol::TCP),
                destination_ports: Some(vec![port]),
                ..Clause::default()
            };
            let path = format!("spec.rules[{number}]").into();
            ProgramRule { path, action: Action::Allow, clauses: vec![clause], unenforceable: None }
        };
        let id = ChainId { policy: PolicyId { object, part: 0 }, direction };
        Chain { id, stage: Stage::Tracked, rules: (0..self.rules).map(rule).collect() }
    }

    fn endpoint(&self, pod: u32) -> Result<PolicyItem, AnyError> {
        let program = |direction| {
            let chains = vec![self.chain(pod, direction, 1000).id];
            let tier = TierProgram { tier: "default".into(), chains, end: TierEnd::Deny };
            DirectionProgram { enforced: vec![tier], staged: None }
        };
        Ok(PolicyItem::Endpoint(EndpointProgram {
            endpoint: EndpointId::of(&format!("pod-{pod}"), "eth0")?,
            host_interface: Self::interface(pod)?,
            addresses: vec![Ipv4Addr::from(0x0a00_0001 + pod).into()],
            ingress: program(Direction::Ingress),
            egress: program(Direction::Egress),
        }))
    }

    fn items(&self) -> Result<Vec<PolicyItem>, AnyError> {
        let mut all: Vec<PolicyItem> = (0..self.sets()).map(|number| PolicyItem::Set(set(number))).collect();
        let members = (0..self.addresses).flat_map(|number| self.of(number));
        all.extend(members.map(|(set, member)| PolicyItem::Member(set, member)));
        for pod in 0..self.pods {
            let both = [Direction::Ingress, Direction::Egress];
            all.extend(both.map(|direction| PolicyItem::Chain(self.chain(pod, direction, 1000))));
            all.push(self.endpoint(pod)?);
        }
        Ok(all)
    }
}

type Member2 = (Set, Member);

/// An engine with the time that it took.
struct Started {
    engine: Box<dyn PolicyEngine>,
    staged: Duration,
    committed: Duration,
}

fn complete(report: &CommitReport) -> Result<(), AnyError> {
    if report.is_complete() { Ok(()) } else { Err(format!("{report:?}").into()) }
}

fn start(node: &Node, runtime: &Runtime) -> Result<Started, AnyError> {
    let items = node.items()?;
    let mut engine = engine::open_at(&Config::default(), probe(), Hook::probe())?;
    let begin = Instant::now();
    for item in items {
        engine.stage(Change::Put(item))?;
    }
    engine.stage(Change::InSync)?;
    let staged = begin.elapsed();
    let begin = Instant::now();
    complete(&runtime.block_on(engine.commit()))?;
    Ok(Started { engine, staged, committed: begin.elapsed() })
}

/// Times of one kind of change: to plan it, and to stage and commit it.
#[derive(Default)]
struct Times {
    plan: Vec<Duration>,
    commit: Vec<Duration>,
}

impl Times {
    fn take(
        &mut self,
        engine: &mut dyn PolicyEngine,
        runtime: &Runtime,
        changes: impl IntoIterator<Item = Change<PolicyItem>>,
    ) -> Result<(), AnyError> {
        let begin = Instant::now();
        for change in changes {
            engine.stage(change)?;
        }
        let staged = begin.elapsed();
        let begin = Instant::now();
        let planned = engine.plan().steps.len();
        self.plan.push(begin.elapsed());
        let begin = Instant::now();
        let report = runtime.block_on(engine.commit());
        self.commit.push(staged + begin.elapsed());
        complete(&report)?;
        if planned == report.written { Ok(()) } else { Err(format!("{planned} planned: {report:?}").into()) }
    }

    fn row(&self, named: &str, table: &mut Table) {
        let cells = [&self.plan, &self.commit].map(|times| [0.5, 0.99].map(|at| millis3(quantile(times, at))));
        table.row(&[[named.to_owned()].as_slice(), &cells.concat()].concat());
    }
}

fn millis3(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64() * 1000.0)
}

fn loads(runtime: &Runtime, most: u32) -> Result<Table, AnyError> {
    let mut table =
        Table::new(&["ms, median", "stage", "cold start: commit", "restart: commit", "one address more: commit"]);
    for &(pods, rules, addresses, rounds) in LOADS.iter().filter(|load| load.2 <= most) {
        let node = Node { pods, rules, addresses };
        let [mut staged, mut cold, mut restart, mut one] = [const { Vec::new() }; 4];
        for _ in 0..rounds {
            let times = apart(|| {
                let failed = |error: AnyError| error.to_string();
                node.make_interfaces().map_err(failed)?;
                let first = start(&node, runtime).map_err(failed)?;
                drop(first.engine);
                let mut again = start(&node, runtime).map_err(failed)?;
                let mut change = Times::default();
                let more = node.of(addresses).map(|(set, member)| Change::Put(PolicyItem::Member(set, member)));
                change.take(&mut *again.engine, runtime, more).map_err(failed)?;
                drop(again.engine);
                engine::clear()?;
                Ok([first.staged, first.committed, again.committed, change.commit[0]])
            });
            let all = times.map_err(|error| error.to_string())?;
            [&mut staged, &mut cold, &mut restart, &mut one]
                .into_iter()
                .zip(all)
                .for_each(|(all, time)| all.push(time));
        }
        let cells = [staged, cold, restart, one].map(|times| millis(quantile(&times, 0.5)));
        table.row(&[[format!("{rules} rules, {addresses} addresses")].as_slice(), &cells].concat());
    }
    Ok(table)
}

fn changes(runtime: &Runtime, most: u32) -> Result<Table, AnyError> {
    let mut table = Table::new(&["ms", "plan p50", "p99", "stage and commit p50", "p99"]);
    for &(pods, rules, addresses, rounds) in CHANGES.iter().filter(|load| load.2 <= most) {
        let node = Node { pods, rules, addresses };
        let measured = apart(|| {
            let failed = |error: AnyError| error.to_string();
            node.make_interfaces().map_err(failed)?;
            let mut engine = start(&node, runtime).map_err(failed)?.engine;
            let [mut elsewhere, mut label, mut policy, mut here, mut nothing] =
                [const { Times { plan: Vec::new(), commit: Vec::new() } }; 5];
            let member = |set, number| PolicyItem::Member(set, Member::Address(address(number).into()));
            for round in 0..rounds as u32 {
                let number = addresses + round;
                let put = node.of(number).map(|(set, member)| Change::Put(PolicyItem::Member(set, member)));
                elsewhere.take(&mut *engine, runtime, put).map_err(failed)?;
                let [(old, member_of), _] = node.of(round);
                let new = set((round * 7 + 3) % node.sets());
                let moves = [Change::Remove(PolicyKey::Member(old.id, member_of)), Change::Put(member(new, round))];
                label.take(&mut *engine, runtime, moves).map_err(failed)?;
                let pod = round % pods;
                let chain = node.chain(pod, Direction::Ingress, 2000 + round as u16);
                policy.take(&mut *engine, runtime, [Change::Put(PolicyItem::Chain(chain))]).map_err(failed)?;
                // What the last change left goes with this one.
                let endpoint = node.endpoint(pod).map_err(failed)?;
                let PolicyItem::Endpoint(program) = &endpoint else { return Err("no endpoint".into()) };
                let gone = Change::Remove(PolicyKey::Endpoint(program.endpoint.clone()));
                Times::default().take(&mut *engine, runtime, [gone]).map_err(failed)?;
                here.take(&mut *engine, runtime, [Change::Put(endpoint)]).map_err(failed)?;
                nothing.take(&mut *engine, runtime, []).map_err(failed)?;
            }
            drop(engine);
            engine::clear()?;
            Ok([elsewhere, label, policy, here, nothing])
        });
        let all = measured.map_err(|error| error.to_string())?;
        let names = ["a pod elsewhere", "a label of one", "a policy of ten rules", "a pod here", "nothing"];
        for (times, name) in all.iter().zip(names) {
            times.row(&format!("{name}, {addresses} addresses"), &mut table);
        }
    }
    Ok(table)
}

/// Prints both tables, of at most so many addresses.
pub(super) fn print(most: u32) -> Result<(), AnyError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    println!("{}\n{}", loads(&runtime, most)?, changes(&runtime, most)?);
    Ok(())
}
