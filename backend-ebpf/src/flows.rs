//! What the programs tell of packets, with the names of rules and interfaces: the source of flows. Never a program or a map.

mod ended;

use crate::engine::{Ending, OwnEpoch};
use crate::kernel::{FlowReader, KernelError, Over, Told as Read};
use crate::policy::{Named, RuleName, RuleNames};
use async_trait::async_trait;
use backend_ebpf_abi::{FlowEvent, Reason as Told, Verdict as Decided};
use cni_core::backend::{Error, ErrorKind, Result};
use cni_core::flow::{By, Event, FlowSource, Heard, Icmp, Packet, Reason, TcpFlags, Verdict};
use cni_core::policy::model::{Direction, Protocol};
use net_linux::link::LinkNames;
use net_linux::ready;
use rustix::time::{ClockId, clock_gettime};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::sync::oneshot::Receiver;

/// How many events are read at once.
const MOST_EVENTS: usize = 1024;

/// The source of flows of a policy's programs, also of those that take their place.
pub struct Flows {
    reader: Reader,
    rules: RuleNames,
    interfaces: LinkNames,
    /// Connections that are over, by whoever looks through them; `None`: nobody does.
    endings: Option<mpsc::Receiver<Ending>>,
    own_epoch: OwnEpoch,
    /// Registered with the runtime when first waited on.
    ready: Option<AsyncFd<OwnedFd>>,
}

/// Programs are there when policy is committed for the first time.
enum Reader {
    Expected(Receiver<FlowReader>),
    There(Box<FlowReader>),
}

impl Reader {
    /// `None`: whoever was to commit is gone.
    async fn get(&mut self) -> Option<&mut FlowReader> {
        loop {
            match self {
                Self::There(reader) => return Some(reader),
                Self::Expected(expected) => *self = Self::There(Box::new(expected.await.ok()?)),
            }
        }
    }
}

impl Flows {
    /// A source in the network namespace of the calling thread, which is that of the interfaces.
    ///
    /// # Errors
    /// No netlink socket can be had.
    pub fn new(reader: FlowReader, rules: RuleNames) -> Result<Self> {
        let (reader, interfaces) = (Reader::There(Box::new(reader)), LinkNames::open()?);
        Ok(Self { reader, rules, interfaces, endings: None, own_epoch: OwnEpoch::all(), ready: None })
    }

    /// The same, of programs that are not there yet, with connections that are over.
    pub(crate) fn expecting(
        reader: Receiver<FlowReader>,
        rules: RuleNames,
        endings: mpsc::Receiver<Ending>,
        own_epoch: OwnEpoch,
    ) -> Result<Self> {
        let (reader, endings) = (Reader::Expected(reader), Some(endings));
        Ok(Self { reader, rules, interfaces: LinkNames::open()?, endings, own_epoch, ready: None })
    }

    /// What was read, with names.
    fn named(&mut self, lost: u64, events: &[Read]) -> Vec<Heard> {
        let mut heard = Vec::with_capacity(events.len() + 1);
        heard.extend((lost > 0).then_some(Heard::Lost(lost)));
        let offset_ns = offset_ns();
        for told in events {
            match told {
                Read::Packet(told) => {
                    let interface = self.interfaces.name(told.interface);
                    let events = events_of(told, &self.rules, &self.own_epoch, interface.as_ref(), offset_ns);
                    heard.extend(events.into_iter().map(|event| Heard::Event(Box::new(event))));
                }
                Read::Ended(told) => heard.extend(self.ended(&ended::taken_place_of(told), offset_ns)),
            }
        }
        heard
    }

    /// That a connection is over, where it was told that it began.
    fn ended(&mut self, over: &ended::Ended, offset_ns: i128) -> Option<Heard> {
        let interface = ended::interface(&over.key).and_then(|index| self.interfaces.name(index));
        let event = ended::event_of(over, &self.rules, &self.own_epoch, interface, offset_ns)?;
        Some(Heard::Event(Box::new(event)))
    }

    fn heard(&mut self, ending: Ending) -> Option<Heard> {
        match ending {
            Ending::Over(Over { key, tracked, endpoint_gone }) => {
                self.ended(&ended::swept(key, tracked, endpoint_gone), offset_ns())
            }
            Ending::Lost(connections) => Some(Heard::Lost(connections)),
        }
    }

    /// Connections that are over, those that are told of already.
    fn endings(&mut self) -> Vec<Heard> {
        let told: Vec<Ending> = (0..MOST_EVENTS).map_while(|_| self.endings.as_mut()?.try_recv().ok()).collect();
        told.into_iter().filter_map(|ending| self.heard(ending)).collect()
    }
}

/// Waits for one; for ever where nobody tells of any.
async fn next_of(endings: &mut Option<mpsc::Receiver<Ending>>) -> Ending {
    if let Some(receiver) = endings {
        match receiver.recv().await {
            Some(ending) => return ending,
            None => *endings = None,
        }
    }
    std::future::pending().await
}

fn refused(error: KernelError) -> Error {
    error.told("read", "flows", "policy.maps")
}

fn broken(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Kernel, "read", "flows", &error).because(error)
}

#[async_trait]
impl FlowSource for Flows {
    async fn next(&mut self) -> Result<Vec<Heard>> {
        loop {
            let Some(reader) = self.reader.get().await else {
                return Err(Error::new(ErrorKind::Missing, "read", "flows", "the engine has ended"));
            };
            let (lost, events) = reader.read(MOST_EVENTS).map_err(refused)?;
            let is_quiet = lost == 0 && events.is_empty();
            let mut heard = self.named(lost, &events);
            heard.extend(self.endings());
            if !heard.is_empty() {
                return Ok(heard);
            }
            // An event may be of nothing that anybody wants to know.
            if !is_quiet {
                continue;
            }
            let Some(reader) = self.reader.get().await else { continue };
            let ready = match &mut self.ready {
                Some(ready) => ready,
                none => {
                    let fd = reader.as_fd().try_clone_to_owned().map_err(broken)?;
                    none.insert(ready::register(fd).map_err(broken)?)
                }
            };
            let ending = tokio::select! {
                readable = ready.readable() => {
                    readable.map_err(broken)?.clear_ready();
                    None
                }
                ending = next_of(&mut self.endings) => Some(ending),
            };
            if let Some(heard) = ending.and_then(|ending| self.heard(ending)) {
                return Ok(vec![heard]);
            }
        }
    }
}

/// What has to be added to the kernel's monotonic clock for the time since the Unix epoch.
fn offset_ns() -> i128 {
    let ns = |clock| {
        let time = clock_gettime(clock);
        i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
    };
    ns(ClockId::Realtime) - ns(ClockId::Monotonic)
}

/// What rules ask to log, what staged policies would do where somebody wants to know, and what was done.
fn events_of(
    told: &FlowEvent,
    rules: &RuleNames,
    own_epoch: &OwnEpoch,
    interface: Option<&Arc<str>>,
    offset_ns: i128,
) -> Vec<Event> {
    let from_pod = told.marks & FlowEvent::FROM_POD != 0;
    let own = if from_pod { Direction::Egress } else { Direction::Ingress };
    let reason = Told::of(told.reason);
    let passes = reason.is_some_and(Told::passes);
    let all = told.marks & FlowEvent::ALL != 0;
    // A pod sends into the host's end of its veth; the node sends out at an interface.
    let comes_in = from_pod != (told.marks & FlowEvent::OF_NODE != 0);
    let (input, output) = if comes_in { (interface.cloned(), None) } else { (None, interface.cloned()) };
    let packet = packet(told);
    let time = u64::try_from((i128::from(told.time_ns) + offset_ns) / 1000).ok();
    let event = move |verdict, reason, by| Event {
        time_unix_us: time,
        direction: Some(own),
        verdict,
        reason,
        packet,
        input: input.clone(),
        output: output.clone(),
        identities: if from_pod { [None, Some(told.identity)] } else { [Some(told.identity), None] },
        by,
        translated: None,
        ended: None,
        sampled: (told.one_of != 0).then_some(told.one_of),
        packets: 1,
        bytes: told.bytes.into(),
    };
    if told.marks & FlowEvent::CHOSEN != 0 {
        let by = match told.enforced & Decided::ALLOW {
            0 => By { rule: "an open connection".into(), ..By::default() },
            // Its verdict is from its connection's entry, which may be a predecessor's.
            _ => decided_in(rules, own_epoch, told.epoch, told.enforced, own),
        };
        return vec![event(Verdict::Allowed, None, by)];
    }
    let by_policy = matches!(reason, Some(Told::Allowed | Told::Denied));
    let named = (by_policy && told.enforced & Decided::LOGGED != 0).then(|| rules.get(told.enforced & Decided::RULE));
    let logs = named.flatten().map(|Named { logs, .. }| logs).unwrap_or_default();
    let logged = logs.iter().map(|log| event(Verdict::Logged, None, by_name(log.clone())));
    let would = (by_policy && told.staged & Decided::STAGED != 0).then(|| {
        let (allows, (by, why)) = (told.staged & Decided::ALLOW != 0, decided(rules, told.staged, own));
        let verdict = if allows { Verdict::WouldAllow } else { Verdict::WouldDeny };
        (!allows || all).then(|| event(verdict, (!allows).then_some(why), by))
    });
    let did = if passes {
        all.then(|| event(Verdict::Allowed, None, decided(rules, told.enforced, own).0))
    } else {
        let (by, why) = match reason {
            Some(Told::Denied) => decided(rules, told.enforced, own),
            other => unasked(other),
        };
        Some(event(Verdict::Denied, Some(why), by))
    };
    logged.chain(would.flatten()).chain(did).collect()
}

/// By what policy decided, and why that is a denial if it is one.
fn decided(rules: &RuleNames, verdict: u32, own: Direction) -> (By, Reason) {
    let number = verdict & Decided::RULE;
    let nobody = || (By { rule: "no tier decides".into(), ..By::default() }, Reason::Other);
    match rules.get(number) {
        Some(Named { by: Some(name), .. }) => {
            // An answer is asked for as the packet that it answers.
            let why = match &name {
                RuleName::Rule { chain, .. } if chain.direction == own => Reason::Rule,
                RuleName::End { direction, .. } if *direction == own => Reason::EndOfTier,
                _ => Reason::DeniedSinceOpened,
            };
            (by_name(name), why)
        }
        Some(Named { by: None, .. }) => nobody(),
        None if number == 0 => nobody(),
        None => (By { rule: "a rule that is gone".into(), ..By::default() }, Reason::Rule),
    }
}

/// The same of a verdict that was noted in this epoch, perhaps before this process was there.
fn decided_in(rules: &RuleNames, own_epoch: &OwnEpoch, epoch: u32, verdict: u32, own: Direction) -> By {
    if own_epoch.has(epoch) {
        decided(rules, verdict, own).0
    } else {
        By { rule: "decided before this agent was started".into(), ..By::default() }
    }
}

fn by_name(name: RuleName) -> By {
    match name {
        RuleName::Rule { chain, path } => By { tier: None, policy: Some(chain.policy.to_string().into()), rule: path },
        RuleName::End { tier, .. } => By { tier: Some(tier), policy: None, rule: "end of tier".into() },
    }
}

/// What dropped a packet before policy was asked.
fn unasked(reason: Option<Told>) -> (By, Reason) {
    let rule = match reason {
        Some(Told::UnknownEndpoint) => "unknown endpoint",
        Some(Told::NotIp) => "not IP",
        Some(Told::Vlan) => "VLAN",
        Some(Told::Malformed) => "malformed",
        Some(Told::TooManyHeaders) => "too many headers",
        Some(Told::UnknownFragment) => "unknown fragment",
        Some(Told::Incomplete) => "incomplete",
        _ => "another reason",
    };
    (By { rule: rule.into(), ..By::default() }, reason.map_or(Reason::Other, self::reason))
}

/// Why a packet is dropped, as the core names it; of what policy denies the rule says more.
pub(crate) fn reason(told: Told) -> Reason {
    match told {
        Told::Denied => Reason::Rule,
        Told::UnknownEndpoint => Reason::UnknownEndpoint,
        Told::NotIp => Reason::NotIp,
        Told::Vlan => Reason::Vlan,
        Told::Malformed | Told::TooManyHeaders => Reason::Malformed,
        Told::UnknownFragment => Reason::UnknownFragment,
        Told::Incomplete => Reason::Incomplete,
        _ => Reason::Other,
    }
}

fn address(bytes: [u8; 16], v4: bool) -> IpAddr {
    let v6 = Ipv6Addr::from(bytes);
    v6.to_ipv4_mapped().filter(|_| v4).map_or(IpAddr::V6(v6), IpAddr::V4)
}

fn packet(told: &FlowEvent) -> Option<Packet> {
    if told.v4 == 0 && told.source == [0; 16] && told.destination == [0; 16] {
        return None;
    }
    let address = |bytes| address(bytes, told.v4 != 0);
    let protocol = Protocol(told.protocol);
    let [kind, code] = told.detail.to_be_bytes();
    let is_icmp = [Protocol::ICMP, Protocol::ICMPV6].contains(&protocol);
    Some(Packet {
        source: address(told.source),
        destination: address(told.destination),
        protocol,
        ports: protocol.has_ports().then_some((told.source_port, told.detail)),
        icmp: is_icmp.then_some(Icmp { kind, code }),
        tcp_flags: (protocol == Protocol::TCP).then_some(TcpFlags(told.flags)),
        bytes: told.bytes.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Programs of ours go on with what those of a predecessor noted, until all of ours are in force.
    #[test]
    fn a_chosen_packets_rule_is_named_by_our_numbers_alone() {
        let by = |marks, epoch| {
            let told = FlowEvent {
                time_ns: 0,
                source: [1; 16],
                destination: [2; 16],
                interface: 7,
                reason: Told::Allowed as u32,
                enforced: Decided::ALLOW,
                staged: 0,
                identity: 0,
                bytes: 60,
                source_port: 40_000,
                detail: 80,
                protocol: 6,
                flags: 16,
                v4: 0,
                marks,
                one_of: 1,
                epoch,
            };
            let own_epoch = OwnEpoch::all();
            own_epoch.set(5);
            events_of(&told, &RuleNames::default(), &own_epoch, None, 0).remove(0).by.rule.to_string()
        };
        let (chosen, begun) = (FlowEvent::CHOSEN, FlowEvent::ALL);
        assert_eq!([by(chosen, 5), by(chosen, 4)], ["no tier decides", "decided before this agent was started"]);
        assert_eq!(by(begun, 4), "no tier decides", "what begins was asked of our own programs");
    }
}
