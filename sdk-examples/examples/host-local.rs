//! A drop-in replacement for the reference IPAM plugin `host-local`: same configuration, same answers, same files.
//! Never touches the network.
//!
//! ```text
//! cargo build --release -p sdk-examples --example host-local
//! cp target/release/examples/host-local /opt/cni/bin/host-local.new && mv /opt/cni/bin/host-local{.new,}
//! ```
//! What the reference lacks is there, too: STATUS says when a range set has no address left (code 50), GC frees what
//! belongs to no valid attachment, and `coolDownSeconds` in `ipam` lets a released address rest.

use cni_core::cni::{AddResult, CniError, ErrorCode, SpecVersion};
use cni_core::ipam::host_local::{HostLocal, HostLocalConfig};
use cni_core::model::EndpointId;
use cni_core::plugin::{
    About, AddRequest, CheckRequest, DelRequest, GcRequest, Netns, Origin, Plugin, StatusRequest, main as plugin_main,
};
use std::process::ExitCode;
use std::time::SystemTime;

struct HostLocalPlugin;

/// The allocator for one call: configuration and `CNI_ARGS` as they came.
fn host_local(origin: &Origin) -> Result<HostLocal, CniError> {
    let args = origin.environment.get("CNI_ARGS").unwrap_or_default();
    Ok(HostLocal::new(HostLocalConfig::parse(&origin.stdin, &args.to_string_lossy())?))
}

impl Plugin for HostLocalPlugin {
    fn about(&self) -> About {
        About {
            name: "host-local",
            version: env!("CARGO_PKG_VERSION"),
            spec: SpecVersion::ALL,
            // Addresses need no namespace: CNI_NETNS may be anything.
            netns: Netns::NotUsed,
        }
    }

    fn add(&self, request: &AddRequest) -> Result<AddResult, CniError> {
        let (container, interface) = (request.container_id.as_str(), request.ifname.as_str());
        Ok(host_local(&request.origin)?.add(container, interface, SystemTime::now())?)
    }

    fn del(&self, request: &DelRequest) -> Result<(), CniError> {
        let (container, interface) = (request.container_id.as_str(), request.ifname.as_str());
        host_local(&request.origin)?.del(container, interface, SystemTime::now())?;
        Ok(())
    }

    fn check(&self, request: &CheckRequest) -> Result<(), CniError> {
        Ok(host_local(&request.origin)?.verify(request.container_id.as_str(), request.ifname.as_str())?)
    }

    fn status(&self, request: &StatusRequest) -> Result<(), CniError> {
        host_local(&request.origin)?.ready().map_err(|error| CniError::new(ErrorCode::NotAvailable, error))
    }

    fn gc(&self, request: &GcRequest) -> Result<(), CniError> {
        // Absent is not empty: without the list nothing may be freed.
        let Some(valid) = request.valid_attachments() else { return Ok(()) };
        let keep = |container: &str, interface: &str| {
            EndpointId::of(container, interface).is_ok_and(|attachment| valid.contains(&attachment))
        };
        host_local(&request.origin)?.collect(keep, SystemTime::now())?;
        Ok(())
    }
}

fn main() -> ExitCode {
    plugin_main(&HostLocalPlugin)
}
