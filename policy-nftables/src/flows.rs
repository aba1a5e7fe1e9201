//! Decisions, as the rules log them to our NFLOG group. Never which are logged: the configuration of the rules says that.

use crate::compile::LOG_BYTES;
use crate::names::{self, Tag};
use async_trait::async_trait;
use cni_core::backend::{Error, ErrorKind, Result};
use cni_core::flow::{By, Event, FlowSource, Heard, Packet, Reason, Verdict};
use cni_core::policy::model::Direction;
use net_linux::link::LinkNames;
use net_linux::marks;
use net_linux::nflog::{LogError, LogEvent, LogReader, LogRecord};
use std::sync::Arc;

/// `NF_INET_LOCAL_IN` and `NF_INET_LOCAL_OUT` of `include/uapi/linux/netfilter.h`.
const LOCAL_IN: u8 = 1;
const LOCAL_OUT: u8 = 3;

/// The reader of our group, in one network namespace.
pub(crate) struct Flows {
    /// The group may have another reader: that is no reason not to enforce.
    reader: std::result::Result<LogReader, Error>,
    interfaces: LinkNames,
}

impl Flows {
    /// In the network namespace of the calling thread.
    pub(crate) fn open() -> Result<Self> {
        let reader = LogReader::open(marks::POLICY_FLOW_GROUP, LOG_BYTES).map_err(refused);
        Ok(Self { reader, interfaces: LinkNames::open()? })
    }
}

fn refused(error: LogError) -> Error {
    let kind = match &error {
        LogError::Denied { .. } => ErrorKind::Denied,
        _ => ErrorKind::Kernel,
    };
    Error::new(kind, "read", "flows", &error).because(error)
}

#[async_trait]
impl FlowSource for Flows {
    async fn next(&mut self) -> Result<Vec<Heard>> {
        let events = self.reader.as_mut().map_err(|error| error.clone())?.next().await.map_err(refused)?;
        let heard = events.into_iter().map(|event| match event {
            LogEvent::Packet(record) => Heard::Event(Box::new(event_of(&record, &mut self.interfaces))),
            LogEvent::Lost(records) => Heard::Lost(records.into()),
        });
        Ok(heard.collect())
    }
}

fn event_of(record: &LogRecord, interfaces: &mut LinkNames) -> Event {
    let (word, tag) = record.prefix.split_once(' ').unwrap_or((&record.prefix, ""));
    let verdict = match word {
        names::ALLOW => Verdict::Allowed,
        names::WOULD_ALLOW => Verdict::WouldAllow,
        names::WOULD_DENY => Verdict::WouldDeny,
        names::LOG => Verdict::Logged,
        _ => Verdict::Denied,
    };
    let tag = names::read_tag(tag);
    let denies = matches!(verdict, Verdict::Denied | Verdict::WouldDeny);
    let [input, output] = [record.input, record.output].map(|index| index.and_then(|index| interfaces.name(index)));
    let direction = match tag.direction {
        None if tag.rule == names::SPOOFED => Some(Direction::Egress),
        None => direction(record.hook, input.as_deref(), output.as_deref()),
        named => named,
    };
    let reason = denies.then(|| reason(tag.policy.is_some(), &tag.rule));
    let packet = Packet::read(&record.packet);
    let Tag { tier, policy, rule, .. } = tag;
    Event {
        time_unix_us: record.time.and_then(|time| u64::try_from(time.as_micros()).ok()),
        direction,
        verdict,
        reason,
        packet,
        input,
        output,
        identities: [None, None],
        by: By { tier: tier.map(Arc::from), policy: policy.map(Arc::from), rule: rule.into() },
        translated: None,
        ended: None,
        sampled: None,
        packets: 1,
        bytes: packet.map_or_else(|| u64::try_from(record.packet.len()).unwrap_or(u64::MAX), |packet| packet.bytes),
    }
}

/// Why a rule of this name drops, of a policy's or of ours.
pub(crate) fn reason(is_policys: bool, rule: &str) -> Reason {
    match rule {
        _ if is_policys => Reason::Rule,
        names::END_OF_TIER => Reason::EndOfTier,
        names::SPOOFED => Reason::SpoofedSource,
        names::FORGED => Reason::ForgedError,
        names::SINCE_OPENED => Reason::DeniedSinceOpened,
        names::UNKNOWN => Reason::UnknownEndpoint,
        _ => Reason::Other,
    }
}

/// Which end decided, where the rule's name does not say; `None` between two pods of this node.
fn direction(hook: u8, input: Option<&str>, output: Option<&str>) -> Option<Direction> {
    let is_pods = |interface: Option<&str>| interface.is_some_and(marks::is_host_interface);
    match (hook, is_pods(input), is_pods(output)) {
        (LOCAL_IN, true, _) | (_, true, false) => Some(Direction::Egress),
        (LOCAL_OUT, ..) | (_, false, true) => Some(Direction::Ingress),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cni_core::policy::model::PolicyId;
    use cni_core::policy::program::ChainId;
    use cni_core::store::{Kind, ObjectKey};

    fn read(prefix: &str, hook: u8) -> Event {
        let record = LogRecord { prefix: prefix.to_owned(), hook, ..LogRecord::default() };
        event_of(&record, &mut LinkNames::open().unwrap())
    }

    #[test]
    fn each_name_that_rules_have_is_read_with_its_reason() {
        let object = ObjectKey::namespaced(Kind::NETWORK_POLICY, "shop", "web");
        let chain = ChainId { policy: PolicyId { object, part: 0 }, direction: Direction::Ingress };
        let event = read(&format!("deny {}", names::tag(&chain, "spec.ingress[0]")), 2);
        assert_eq!((event.verdict, event.reason), (Verdict::Denied, Some(Reason::Rule)));
        assert_eq!((event.by.policy.as_deref(), &*event.by.rule), (Some("NetworkPolicy shop/web"), "spec.ingress[0]"));
        let end = read(&format!("would-deny {}", names::end_tag("default", Direction::Egress, "cni1")), 2);
        assert_eq!((end.verdict, end.reason), (Verdict::WouldDeny, Some(Reason::EndOfTier)));
        assert_eq!((end.by.tier.as_deref(), end.direction), (Some("default"), Some(Direction::Egress)));
        for (name, reason) in [
            (names::SPOOFED, Reason::SpoofedSource),
            (names::FORGED, Reason::ForgedError),
            (names::SINCE_OPENED, Reason::DeniedSinceOpened),
            (names::UNKNOWN, Reason::UnknownEndpoint),
        ] {
            let event = read(&format!("deny {name}"), 2);
            assert_eq!((event.reason, &*event.by.rule, event.packet), (Some(reason), name, None));
            let sent = (reason == Reason::SpoofedSource).then_some(Direction::Egress);
            assert_eq!(event.direction, sent, "only who sends is asked for its address");
        }
        let allowed = read(&format!("allow {}", names::undecided_tag(Direction::Ingress, "cni1")), 2);
        assert_eq!((allowed.verdict, allowed.reason), (Verdict::Allowed, None));
    }

    #[test]
    fn the_end_that_decided_is_the_pods_when_only_one_end_is_one() {
        let [pod, other, wire] = ["cni079c4f592070", "cni079c4f592071", "eth0"].map(Some);
        assert_eq!(direction(1, pod, None), Some(Direction::Egress));
        assert_eq!(direction(2, pod, wire), Some(Direction::Egress));
        assert_eq!(direction(2, wire, pod), Some(Direction::Ingress));
        assert_eq!(direction(2, pod, other), None);
    }
}
