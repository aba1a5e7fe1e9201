//! What the engine decides about traffic, heard, named and kept. Never in the way of a packet or a commit.

use super::super::record::Record;
use super::super::{Inner, Node, NodeError, Problem};
use super::{Front, Policy, pod_key};
use cni_core::backend::{Error, ErrorKind};
use cni_core::flow::{Flow, FlowSource, Heard, Kind, Names, Page, Query, Ring, Tally, Who, name};
use cni_core::model::Endpoint;
use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How many records a node keeps: about 2 MiB.
const HELD: NonZeroUsize = NonZeroUsize::new(4096).expect("4096 is not zero");
/// What hearing one event may cost, so that a flood of denied packets takes a tenth of a core at most and not all: 10,000
/// events in a second. What comes above that the kernel's buffer loses, and counts.
const PER_EVENT: Duration = Duration::from_micros(100);
/// What may be heard at once after a time of silence.
const BURST: Duration = Duration::from_secs(1);

/// What is kept.
struct Kept {
    ring: Ring,
    tally: Tally,
    /// Why nothing is heard any more.
    broken: Option<Error>,
}

/// The records of a node.
pub(super) struct FlowLog {
    /// Until somebody hears it.
    source: Mutex<Option<Box<dyn FlowSource>>>,
    kept: Mutex<Kept>,
    grown: watch::Sender<()>,
}

fn unix_us(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

impl FlowLog {
    pub(super) fn new(source: Box<dyn FlowSource>) -> Self {
        // No two agents of a node begin in one microsecond.
        let ring = Ring::new(unix_us(SystemTime::now()), HELD);
        let kept = Kept { ring, tally: Tally::default(), broken: None };
        Self { source: Mutex::new(Some(source)), kept: Mutex::new(kept), grown: watch::Sender::new(()) }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn problem(&self) -> Option<Problem> {
        let error = self.kept().broken.as_ref()?.to_string();
        Some(Problem { object: "flows".to_owned(), error, state: "not heard".to_owned() })
    }

    fn keep(&self, named: Vec<Result<Flow, u64>>) {
        let mut kept = self.kept();
        let Kept { ring, tally, .. } = &mut *kept;
        for one in named {
            match one {
                Ok(flow) => {
                    tally.add(&flow);
                    ring.push(flow);
                }
                Err(events) => {
                    tally.lose(events);
                    ring.lose(events);
                }
            }
        }
        drop(kept);
        self.grown.send_replace(());
    }

    fn page(&self, query: &Query) -> Result<Page, NodeError> {
        let kept = self.kept();
        match &kept.broken {
            Some(error) => Err(error.clone().into()),
            None => Ok(kept.ring.page(query)),
        }
    }
}

impl Policy {
    /// What was heard, with names; an error is so many that were lost there.
    async fn named(&self, heard: Vec<Heard>, records: &[Arc<Record>]) -> Vec<Result<Flow, u64>> {
        let attached =
            records.iter().map(|record| (record.endpoint.host_interface.as_str(), &record.endpoint)).collect();
        let node: Arc<str> = self.node.as_str().into();
        let front = self.front.lock().await;
        let (names, time) = (Known { front: &front, attached }, unix_us(SystemTime::now()));
        let named = heard.into_iter().map(|heard| match heard {
            Heard::Event(event) => Ok(name(*event, &node, time, &names)),
            Heard::Lost(events) => Err(events),
        });
        named.collect()
    }
}

/// Names as a node knows them.
struct Known<'a> {
    front: &'a Front,
    /// What is attached here, by the host's end of its veth.
    attached: HashMap<&'a str, &'a Endpoint>,
}

impl Names for Known<'_> {
    fn behind(&self, interface: &str) -> Option<Who> {
        let endpoint = *self.attached.get(interface)?;
        let Some(pod) = &endpoint.pod else {
            let name = Some(endpoint.id.as_str().into());
            return Some(Who { kind: Kind::Container, namespace: None, name, labels: Arc::default() });
        };
        let known = self.front.intake.workload_of(&pod_key(pod)).map(|workload| Who::from(&**workload));
        Some(known.unwrap_or_else(|| Who {
            kind: Kind::Pod,
            namespace: Some(pod.namespace.as_str().into()),
            name: Some(pod.name.as_str().into()),
            labels: Arc::default(),
        }))
    }

    fn at(&self, address: IpAddr) -> Option<Who> {
        self.front.intake.workload_at(address).map(|workload| Who::from(&**workload))
    }

    fn had(&self, address: IpAddr) -> Option<Who> {
        // Whoever is attached with it now came later: else its interface would have told.
        let is_anothers = self.attached.values().any(|endpoint| endpoint.addresses.contains(&address));
        if is_anothers { None } else { self.at(address) }
    }

    fn tier_of(&self, policy: &str) -> Option<Arc<str>> {
        self.front.intake.tier_of(policy)
    }
}

/// Hears what the engine tells for as long as it tells something.
pub(in super::super) async fn hear(inner: Arc<Inner>) {
    let Some(policy) = &inner.policy else { return };
    let Some(log) = &policy.flows else { return };
    let Some(mut source) = log.source.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    let mut paid = Instant::now();
    loop {
        let heard = match source.next().await {
            Ok(heard) => heard,
            Err(error) => {
                tracing::warn!(%error, "flows are not heard; what is enforced stays in force");
                log.kept().broken = Some(error);
                log.grown.send_replace(());
                return;
            }
        };
        let now = Instant::now();
        let events = u32::try_from(heard.len()).unwrap_or(u32::MAX);
        log.keep(policy.named(heard, &inner.records.all()).await);
        paid = paid.max(now.checked_sub(BURST).unwrap_or(now)) + PER_EVENT * events;
        if paid > now {
            sleep_until(paid).await;
        }
    }
}

impl Node {
    fn flow_log(&self) -> Result<&FlowLog, NodeError> {
        let refused = |reason: &str| Error::new(ErrorKind::Unsupported, "read", "flows", reason);
        let policy = self.inner.policy.as_ref().ok_or_else(|| refused("no policy is enforced on this node"))?;
        Ok(policy.flows.as_ref().ok_or_else(|| refused("the policy engine tells of none"))?)
    }

    /// Records of what was decided about traffic on this node. When there is none yet that is wanted, it waits for one, but
    /// not longer than `patience`.
    ///
    /// # Errors
    /// No engine tells of flows here ([`ErrorKind::Unsupported`]), or it cannot be heard.
    pub async fn flows(&self, query: &Query, patience: Duration) -> Result<Page, NodeError> {
        let log = self.flow_log()?;
        let (mut query, mut grown, end) = (query.clone(), log.grown.subscribe(), Instant::now() + patience);
        loop {
            grown.borrow_and_update();
            let page = log.page(&query)?;
            // Whoever waits has seen all until now, so what is lost meanwhile is told at once.
            if !page.flows.is_empty() || page.lost > 0 || page.more {
                return Ok(page);
            }
            query.from = Some(page.next);
            if !matches!(timeout_at(end, grown.changed()).await, Ok(Ok(()))) {
                return Ok(page);
            }
        }
    }

    /// How many records there were by verdict and reason, for monitors; `None` where no engine tells of flows.
    #[must_use]
    pub fn flow_tally(&self) -> Option<Tally> {
        Some(self.flow_log().ok()?.kept().tally.clone())
    }
}
