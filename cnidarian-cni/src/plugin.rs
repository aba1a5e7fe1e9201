//! The verbs. Each checks everything that can be checked here before it asks the agent.

use crate::agent::{self, AgentError};
use crate::conf::{self, Own};
use crate::{result, tombstone};
use cni_core::cni::{AddResult, CniError, ErrorCode, SpecVersion};
use cni_core::plugin::{
    About, AddRequest, CheckRequest, DelRequest, Delegate, GcRequest, Netns, Plugin, StatusRequest,
};
use cni_core::rpc::{AddCall, Attachment, Call, CheckCall, EndpointCall, GcCall};
use std::fs::File;
use std::path::Path;

/// The plugin.
///
/// With `ipam.type` absent or `cnidarian-ipam` the agent gives addresses. Any other IPAM plugin is run from here, as
/// the specification says of interface plugins, and the agent takes its addresses as they are: so `host-local`, `static`
/// and the like work, in the runtime's mount namespace and with its `CNI_PATH`.
pub(crate) struct Cnidarian;

impl Plugin for Cnidarian {
    fn about(&self) -> About {
        About {
            name: "cnidarian-cni",
            version: env!("CARGO_PKG_VERSION"),
            spec: SpecVersion::ALL,
            netns: Netns::Entered,
        }
    }

    fn add(&self, request: &AddRequest) -> Result<AddResult, CniError> {
        let own = Own::of(&request.conf)?;
        let mut call = AddCall {
            endpoint: conf::endpoint(request.id())?,
            network: request.conf.name.clone(),
            netns: request.netns.display().to_string(),
            pod: conf::pod(&request.args)?,
            requested: conf::requested(&request.conf, &request.args)?,
            assigned: Vec::new(),
            mac: conf::mac(&request.conf, &request.args)?,
            mtu_bytes: own.mtu_bytes,
        };
        let netns = open(&request.netns)?;
        let attachment = match delegate(request.ipam(), conf::delegates_ipam(&request.conf)) {
            None => attach(&own, call, &netns),
            Some(ipam) => ipam.add(|given| {
                call.requested = Vec::new();
                call.assigned = given.ips.iter().map(|ip| ip.address.addr()).collect();
                if call.assigned.is_empty() {
                    return Err(CniError::new(ErrorCode::InvalidConfig, "ipam: the plugin gave no address")
                        .details("an interface of this network needs at least one"));
                }
                attach(&own, call, &netns)
            }),
        }?;
        let before = request.conf.prev_result.as_ref();
        let sandbox = request.netns.display().to_string();
        Ok(result::of(before, &attachment, &request.ifname, &sandbox, request.conf.dns.as_ref()))
    }

    fn del(&self, request: &DelRequest) -> Result<(), CniError> {
        let own = Own::of(&request.conf)?;
        let endpoint = request.id();
        let detach =
            || agent::call(&own.socket, own.timeout, Call::Del(EndpointCall { endpoint: endpoint.clone() }), None);
        match detach() {
            Ok(_) => {}
            Err(AgentError::Refused(error)) => return Err(error),
            Err(AgentError::Away(_)) => {
                let written = tombstone::write(&own.state_dir, &endpoint)?;
                // An agent that came up meanwhile may have looked for tombstones before ours was there. It looks after
                // it has begun to listen, so either it has ours, or it answers now.
                match detach() {
                    Ok(_) => tombstone::remove(&written),
                    Err(AgentError::Refused(error)) => return Err(error),
                    Err(AgentError::Away(_)) => {}
                }
            }
        }
        forward(delegate(request.ipam(), conf::delegates_ipam(&request.conf)))
    }

    fn check(&self, request: &CheckRequest) -> Result<(), CniError> {
        let own = Own::of(&request.conf)?;
        let call = CheckCall {
            endpoint: request.id(),
            netns: request.netns.display().to_string(),
            addresses: result::addresses_of(request.added()?, &request.ifname)?,
            routes: request.added()?.routes.clone(),
        };
        let netns = open(&request.netns)?;
        agent::call(&own.socket, own.timeout, Call::Check(call), Some(&netns))?;
        forward(delegate(request.ipam(), conf::delegates_ipam(&request.conf)))
    }

    fn status(&self, request: &StatusRequest) -> Result<(), CniError> {
        let own = Own::of(&request.conf)?;
        agent::call(&own.socket, own.timeout, Call::Status, None).map_err(|error| match error {
            AgentError::Away(error) => CniError { code: ErrorCode::NotAvailable, ..error },
            AgentError::Refused(error) => error,
        })?;
        forward(delegate(request.ipam(), conf::delegates_ipam(&request.conf)))
    }

    fn gc(&self, request: &GcRequest) -> Result<(), CniError> {
        let own = Own::of(&request.conf)?;
        let ours = match request.valid_attachments() {
            None => Ok(()),
            Some(valid) => {
                let call = GcCall { network: request.conf.name.clone(), valid: valid.iter().cloned().collect() };
                agent::call(&own.socket, own.timeout, Call::Gc(call), None).map(drop).map_err(CniError::from)
            }
        };
        // GC goes on over errors and tells of all of them.
        match (ours, forward(delegate(request.ipam(), conf::delegates_ipam(&request.conf)))) {
            (Ok(()), other) => other,
            (Err(error), Ok(())) => Err(error),
            (Err(mut error), Err(other)) => {
                error.details = format!("{}; and the IPAM plugin: {other}", error.details);
                Err(error)
            }
        }
    }
}

fn delegate(ipam: Option<Delegate<'_>>, wanted: bool) -> Option<Delegate<'_>> {
    ipam.filter(|_| wanted)
}

fn forward(ipam: Option<Delegate<'_>>) -> Result<(), CniError> {
    ipam.map_or(Ok(()), |ipam| ipam.forward())
}

fn open(netns: &Path) -> Result<File, CniError> {
    File::open(netns).map_err(|error| {
        CniError::new(ErrorCode::InvalidEnvironment, format!("CNI_NETNS: {}: {error}", netns.display()))
            .details("pass the path of the container's network namespace, as in /run/netns/blue")
    })
}

fn attach(own: &Own, call: AddCall, netns: &File) -> Result<Attachment, CniError> {
    let answer = agent::call(&own.socket, own.timeout, Call::Add(call), Some(netns))?;
    serde_json::from_value(answer).map_err(|error| {
        CniError::new(ErrorCode::Decode, format!("the agent's answer cannot be read: {error}"))
            .details("install plugin and agent of one release")
    })
}
