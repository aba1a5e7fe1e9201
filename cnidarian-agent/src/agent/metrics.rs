//! Metrics in the OpenMetrics text format. Never counts what nobody could act on.

use super::service_metrics::ServiceMetrics;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use cni_core::flow::Tally;
use cni_core::policy::counters::RuleCounter;
use cnidarian::{Event, Node, Observer, PartDropped, PartTable};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Verb {
    Add,
    Del,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByVerb {
    verb: Verb,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPool {
    pool: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Kind {
    Missing,
    Changed,
    Unexpected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: Kind,
}

/// The end of a text of OpenMetrics.
const END: &str = "# EOF\n";

/// Gauges of one name, by labels that only their backend knows.
type ByAnything = Family<Vec<(String, String)>, Gauge<f64, AtomicU64>>;

/// Connections by what decided, as far as series may be many: by policy, not by rule and not by pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPolicy {
    tier: String,
    policy: String,
    direction: String,
    action: String,
    staged: String,
}

/// Records of flows: not by pod, which would be too many series.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByVerdict {
    verdict: String,
    reason: String,
    direction: String,
}

/// Packets that a part of the node dropped.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    part: &'static str,
    reason: &'static str,
    direction: String,
}

/// A table of a part of the node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByTable {
    part: &'static str,
    table: &'static str,
}

/// 0.25 ms to about 4 s.
fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 15))
}

/// What a node tells, counted.
pub(super) struct Metrics {
    registry: Mutex<Registry>,
    turn: tokio::sync::Mutex<()>,
    operations: Family<ByVerb, Histogram, fn() -> Histogram>,
    errors: Family<ByVerb, Counter>,
    commits: Histogram,
    written: Counter,
    failed: Gauge,
    drift: Family<ByKind, Counter>,
    endpoints: Gauge,
    peers: Gauge,
    problems: Family<ByState, Gauge>,
    leases: Family<ByPool, Gauge>,
    cooling: Family<ByPool, Gauge>,
    free: Family<ByPool, Gauge>,
    policy_packets: Family<ByPolicy, Counter>,
    policy_bytes: Family<ByPolicy, Counter>,
    flows: Family<ByVerdict, Counter>,
    flows_lost: Counter,
    dropped: Family<ByReason, Counter>,
    table_entries: Family<ByTable, Gauge>,
    table_room: Family<ByTable, Gauge>,
    services: ServiceMetrics,
}

impl Metrics {
    /// All at zero.
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("cnidarian");
        let operations = Family::new_with_constructor(latency as fn() -> Histogram);
        let (errors, drift) = (Family::default(), Family::default());
        let (commits, written, failed) = (latency(), Counter::default(), Gauge::default());
        let (endpoints, peers) = (Gauge::default(), Gauge::default());
        let problems = Family::default();
        let (leases, cooling, free) = (Family::default(), Family::default(), Family::default());
        let (policy_packets, policy_bytes) = (Family::default(), Family::default());
        let (flows, flows_lost) = (Family::default(), Counter::default());
        let dropped = Family::default();
        let (table_entries, table_room) = (Family::default(), Family::default());
        let root = &mut registry;
        root.register_with_unit("operation", "Time of CNI ADD and DEL in the agent", Unit::Seconds, operations.clone());
        root.register("operation_errors", "CNI ADD and DEL that failed", errors.clone());
        root.register_with_unit(
            "commit",
            "Time of writing staged changes to the kernel",
            Unit::Seconds,
            commits.clone(),
        );
        root.register("objects_written", "Kernel objects written", written.clone());
        root.register("objects_failed", "Kernel objects that could not be written and are retried", failed.clone());
        root.register("drift", "Kernel objects that somebody else changed, by what was found", drift.clone());
        root.register("endpoints", "Attached pods", endpoints.clone());
        root.register("peers", "Other nodes", peers.clone());
        root.register("problems", "What status shows as wrong, by what is done about it", problems.clone());
        root.register("ipam_leases", "Leased addresses of this node", leases.clone());
        root.register("ipam_cooling", "Released addresses that still cool", cooling.clone());
        root.register("ipam_free", "Addresses that this node can give at once", free.clone());
        root.register("policy_packets", "Packets that open a connection, by who decided", policy_packets.clone());
        root.register("policy_bytes", "Bytes of these packets", policy_bytes.clone());
        root.register("flows", "Decisions that the engine told of, by what was decided and why", flows.clone());
        root.register("flows_lost", "Decisions that came faster than they were read", flows_lost.clone());
        root.register("packets_dropped", "Packets that a part of the node dropped, by reason", dropped.clone());
        let help = "Entries in use of tables that have room for so many and no more";
        root.register("table_entries", help, table_entries.clone());
        root.register("table_room", "Entries that such a table has room for", table_room.clone());
        let services = ServiceMetrics::default();
        services.register(root);
        Self {
            registry: Mutex::new(registry),
            turn: tokio::sync::Mutex::new(()),
            operations,
            errors,
            commits,
            written,
            failed,
            drift,
            endpoints,
            peers,
            problems,
            leases,
            cooling,
            free,
            policy_packets,
            policy_bytes,
            flows,
            flows_lost,
            dropped,
            table_entries,
            table_room,
            services,
        }
    }

    /// The kernel's counters take the place of what was read before: those of rules that are gone are gone.
    fn set_policies(&self, counters: &[RuleCounter]) {
        self.policy_packets.clear();
        self.policy_bytes.clear();
        for counter in counters.iter().filter(|counter| counter.packets > 0) {
            let label = ByPolicy {
                tier: counter.tier.clone().unwrap_or_default(),
                // What is no policy's has a place of its own: the end of a tier, a spoofed source.
                policy: counter.policy.clone().unwrap_or_else(|| counter.rule.clone()),
                direction: counter.direction.map(|direction| direction.to_string()).unwrap_or_default(),
                action: counter.action.to_string(),
                staged: counter.staged.to_string(),
            };
            self.policy_packets.get_or_create(&label).inc_by(counter.packets);
            self.policy_bytes.get_or_create(&label).inc_by(counter.bytes);
        }
    }

    fn set_flows(&self, tally: &Tally) {
        self.flows.clear();
        for (key, count) in &tally.flows {
            let label = ByVerdict {
                verdict: key.verdict.to_string(),
                reason: key.reason.map(|reason| reason.to_string()).unwrap_or_default(),
                direction: key.direction.map(|direction| direction.to_string()).unwrap_or_default(),
            };
            self.flows.get_or_create(&label).inc_by(*count);
        }
        self.flows_lost.inner().store(tally.lost, Ordering::Relaxed);
    }

    fn set_dropped(&self, all: &[PartDropped]) {
        self.dropped.clear();
        for PartDropped { part, dropped, .. } in all {
            let direction = dropped.direction.map(|direction| direction.to_string()).unwrap_or_default();
            let label = ByReason { part, reason: dropped.word(), direction };
            self.dropped.get_or_create(&label).inc_by(dropped.packets);
        }
    }

    fn set_tables(&self, all: &[PartTable]) {
        self.table_entries.clear();
        self.table_room.clear();
        for PartTable { part, table, .. } in all {
            let label = ByTable { part, table: table.table };
            let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            if let Some(entries) = table.entries {
                self.table_entries.get_or_create(&label).set(gauge(entries));
            }
            self.table_room.get_or_create(&label).set(gauge(table.room));
        }
    }

    fn operation(&self, verb: Verb, took: Duration, done: bool) {
        self.operations.get_or_create(&ByVerb { verb }).observe(took.as_secs_f64());
        if !done {
            self.errors.get_or_create(&ByVerb { verb }).inc();
        }
    }

    /// The text, with gauges and the kernel's counters read now. Two scrapes at once may mix them up, so they take turns.
    async fn text(&self, node: &Node) -> String {
        let _turn = self.turn.lock().await;
        // Without a policy engine there are none.
        let counters = node.policy_counters().await.unwrap_or_default();
        self.set_policies(&counters);
        self.set_dropped(&node.dropped().await);
        self.set_tables(&node.tables());
        self.services.set(&node.services().await);
        self.set_flows(&node.flow_tally().unwrap_or_default());
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let status = node.status();
        self.endpoints.set(i64::try_from(status.endpoints.len()).unwrap_or(i64::MAX));
        self.peers.set(i64::try_from(status.peers.len()).unwrap_or(i64::MAX));
        self.problems.clear();
        for problem in status.problems {
            self.problems.get_or_create(&ByState { state: problem.state }).inc();
        }
        for pool in status.pools {
            let label = ByPool { pool: pool.pool };
            self.leases.get_or_create(&label).set(gauge(pool.used));
            self.cooling.get_or_create(&label).set(gauge(pool.cooling));
            self.free.get_or_create(&label).set(gauge(pool.free_here));
        }
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        match encode(&mut text, &registry) {
            Ok(()) => text,
            Err(error) => format!("# metrics cannot be written: {error}\n"),
        }
    }
}

impl Observer for Metrics {
    fn observe(&self, event: Event<'_>) {
        match event {
            Event::Attached { took, done, .. } => self.operation(Verb::Add, took, done),
            Event::Detached { took, done, .. } => self.operation(Verb::Del, took, done),
            Event::Commit { took, report } => {
                self.commits.observe(took.as_secs_f64());
                self.written.inc_by(u64::try_from(report.written).unwrap_or(u64::MAX));
                self.failed.set(i64::try_from(report.failed.len()).unwrap_or(i64::MAX));
            }
            Event::Drift { drift } => {
                let found = [
                    (Kind::Missing, &drift.missing),
                    (Kind::Changed, &drift.changed),
                    (Kind::Unexpected, &drift.unexpected),
                ];
                for (kind, objects) in found {
                    self.drift.get_or_create(&ByKind { kind }).inc_by(u64::try_from(objects.len()).unwrap_or(u64::MAX));
                }
            }
            _ => {}
        }
    }
}

/// Puts what the backend has for monitors before the end of a text.
fn with_backend(text: String, gauges: Vec<cni_core::backend::Gauge>) -> String {
    if gauges.is_empty() {
        return text;
    }
    let mut registry = Registry::with_prefix("cnidarian");
    let mut families: BTreeMap<&'static str, ByAnything> = BTreeMap::new();
    for gauge in gauges {
        let family = families.entry(gauge.name).or_insert_with(|| {
            let family = Family::default();
            registry.register(gauge.name, gauge.help, family.clone());
            family
        });
        let labels = gauge.labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        family.get_or_create(&labels).set(gauge.value);
    }
    let mut more = String::new();
    match encode(&mut more, &registry) {
        Ok(()) => text.trim_end_matches(END).to_owned() + &more,
        Err(_) => text,
    }
}

/// `/metrics` and `/healthz`.
pub(super) fn router(metrics: Arc<Metrics>, node: Arc<Node>) -> Router {
    let scrape = move || {
        let (metrics, node) = (metrics.clone(), node.clone());
        async move {
            let text = with_backend(metrics.text(&node).await, node.gauges().await);
            ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        }
    };
    Router::new().route("/metrics", get(scrape)).route("/healthz", get(|| async { "ok\n" }))
}
