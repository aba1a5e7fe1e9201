//! Requests and answers. Never names a type of one backend.

use crate::cni::{CniError, ErrorCode, Route};
use crate::flow::Query;
use crate::model::{EndpointId, InterfaceName, MacAddr, NetworkName, PodRef};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The version of this protocol. An agent refuses any other, with a message that says to upgrade.
pub const PROTOCOL: u32 = 1;

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// [`PROTOCOL`] of the sender.
    pub protocol: u32,
    /// What is wanted.
    pub call: Call,
}

impl Request {
    /// A request of this version.
    #[must_use]
    pub fn new(call: Call) -> Self {
        Self { protocol: PROTOCOL, call }
    }
}

/// What is wanted of the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Call {
    /// Attach a namespace; answers an [`Attachment`]. Needs the namespace's file descriptor.
    Add(AddCall),
    /// Detach; answers `null`. What is not there is a success.
    Del(EndpointCall),
    /// Compare an attachment with what was made; answers `null`. Needs the namespace's file descriptor.
    Check(CheckCall),
    /// Whether an ADD would succeed now; answers `null`, else code 50 or 51 with the reason.
    Status,
    /// Detach all that is not listed; answers the endpoints that went.
    Gc(GcCall),
    /// The whole state of the node, for people and monitors.
    Show,
    /// The state of address management.
    IpamShow,
    /// Leases without an interface and interfaces without a lease.
    IpamCheck,
    /// Frees one address that no interface has.
    IpamRelease {
        /// The address.
        address: IpAddr,
    },
    /// What the next commit would write.
    Plan,
    /// What another configuration of the agent would write.
    PlanFor {
        /// The whole document.
        document: serde_json::Value,
    },
    /// Read the agent's configuration file again and put it in force, as far as that needs no new start.
    Reload,
    /// Read the kernel back and repair it.
    Resync,
    /// Something that only the backend of the datapath can answer.
    Inspect {
        /// The question, such as `bgp peers`.
        question: String,
        /// What it asks about.
        #[serde(default)]
        arguments: Vec<String>,
    },
    /// How often rules of policies were met.
    PolicyCounters,
    /// Frontends and backends of services.
    Services,
    /// What was decided about traffic; answers a [`crate::flow::Page`].
    Flows(FlowsCall),
}

/// Attach a namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddCall {
    /// Container and interface.
    pub endpoint: EndpointId,
    /// The network, as in the configuration: a GC frees only what belongs to its network.
    pub network: NetworkName,
    /// The namespace's path, for messages: the agent uses the descriptor that came with the request.
    pub netns: String,
    /// The pod, where the runtime told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodRef>,
    /// Addresses that the runtime asks for (`ips` capability, `args.cni.ips`, `IP=` in `CNI_ARGS`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requested: Vec<IpAddr>,
    /// Addresses that another IPAM plugin has given already: the agent takes them as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assigned: Vec<IpAddr>,
    /// The MAC address that the pod's end shall have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// The MTU that the pod's interface shall have, in bytes; absent: what the agent found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu_bytes: Option<u32>,
}

/// What an ADD made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The host's end.
    pub host_interface: InterfaceName,
    /// The MAC address of the host's end.
    pub host_mac: MacAddr,
    /// The MAC address of the pod's end.
    pub pod_mac: MacAddr,
    /// The MTU of both ends in bytes.
    pub mtu_bytes: u32,
    /// The pod's addresses, each alone on its link (`/32`, `/128`).
    pub addresses: Vec<IpAddr>,
    /// Link-local gateways of the default routes in the pod, one per family.
    pub gateways: Vec<IpAddr>,
    /// Its network policy was in force before this was answered; `false`: this node enforces none.
    #[serde(default)]
    pub policy_enforced: bool,
}

/// One endpoint, by its id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointCall {
    /// Container and interface.
    pub endpoint: EndpointId,
}

/// Compare an attachment with what was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckCall {
    /// Container and interface.
    pub endpoint: EndpointId,
    /// The namespace's path, for messages.
    pub netns: String,
    /// The addresses of this interface in `prevResult`.
    pub addresses: Vec<IpAddr>,
    /// All routes in `prevResult`: what other plugins of the chain made is not drift.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
}

/// What was decided about traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlowsCall {
    /// Which records.
    #[serde(default)]
    pub query: Query,
    /// How long to wait for the first when there is none, in milliseconds. The agent may answer earlier.
    #[serde(default)]
    pub wait_ms: u32,
}

/// Detach all that is not listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GcCall {
    /// The network whose attachments these are. Attachments of other networks stay.
    pub network: NetworkName,
    /// The attachments that are still valid. An empty list says that none is.
    pub valid: Vec<EndpointId>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Response {
    /// It was done; what the call says it answers.
    Done(serde_json::Value),
    /// It was not done.
    Failed(Failure),
}

/// Why something was not done, in the terms of the CNI specification, section 5, "Error".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{msg}{separator}{details} (code {code})", separator = if details.is_empty() { "" } else { ": " })]
pub struct Failure {
    /// The CNI error code.
    pub code: ErrorCode,
    /// What failed, short.
    pub msg: String,
    /// Object, field, and what would be right.
    #[serde(default)]
    pub details: String,
}

impl Failure {
    /// A failure with a CNI error code.
    pub fn new(code: ErrorCode, msg: impl Into<String>, details: impl ToString) -> Self {
        Self { code, msg: msg.into(), details: details.to_string() }
    }
}

impl From<Failure> for CniError {
    fn from(failure: Failure) -> Self {
        Self::new(failure.code, failure.msg).details(failure.details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back_as_it_was_written() {
        let call = AddCall {
            endpoint: EndpointId::of("c0ffee", "eth0").unwrap(),
            network: NetworkName::new("pods").unwrap(),
            netns: "/run/netns/a".to_owned(),
            pod: Some(PodRef { namespace: "default".to_owned(), name: "web-0".to_owned(), uid: None }),
            requested: vec!["10.1.2.3".parse().unwrap()],
            assigned: Vec::new(),
            mac: None,
            mtu_bytes: None,
        };
        let request = Request::new(Call::Add(call));
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
    }

    #[test]
    fn an_unknown_field_or_a_hostile_endpoint_is_refused() {
        for text in [
            r#"{"protocol":1,"call":{"del":{"endpoint":"a/eth0","force":true}}}"#,
            r#"{"protocol":1,"call":{"del":{"endpoint":"../a/eth0"}}}"#,
            r#"{"protocol":1,"call":{"del":{"endpoint":"a/eth0/../.."}}}"#,
            r#"{"protocol":1,"call":"explode"}"#,
            r#"{"protocol":-1,"call":"status"}"#,
        ] {
            assert!(serde_json::from_str::<Request>(text).is_err(), "{text}");
        }
    }

    /// Yesterday's bytes: these requests were sent by version 0.1.0.
    #[test]
    fn requests_of_protocol_1_are_still_read() {
        for text in [
            r#"{"protocol":1,"call":"status"}"#,
            r#"{"protocol":1,"call":{"gc":{"network":"pods","valid":["a/eth0"]}}}"#,
            r#"{"protocol":1,"call":{"add":{"endpoint":"a/eth0","network":"pods","netns":"/run/netns/a"}}}"#,
            r#"{"protocol":1,"call":{"ipamRelease":{"address":"10.0.0.1"}}}"#,
        ] {
            assert!(serde_json::from_str::<Request>(text).is_ok(), "{text}");
        }
    }
}
