//! Any [`Ipam`] as an IPAM plugin: the six verbs over the trait. Never an address of its own.

use super::{AssignRequest, Ipam, IpamError, Lease, wait};
use crate::cni::{AddResult, CniArgs, CniError, ErrorCode, IpConfig, NetConf, SpecVersion};
use crate::model::EndpointId;
use crate::plugin::{About, AddRequest, CheckRequest, DelRequest, GcRequest, Netns, Plugin, StatusRequest};
use crate::strict;
use ipnet::IpNet;
use serde::Deserialize;
use std::net::IpAddr;
use std::time::SystemTime;

/// A plugin that gives the addresses of an [`Ipam`]. `open` makes one from the network configuration, once per call.
///
/// Wanted addresses are taken from the capability `ips`, from `args.cni.ips` and from `IP=` in `CNI_ARGS`.
pub struct IpamPlugin<F> {
    name: &'static str,
    version: &'static str,
    open: F,
}

impl<I: Ipam, F: Fn(&NetConf) -> Result<I, CniError>> IpamPlugin<F> {
    /// A plugin of this name and version.
    pub fn new(name: &'static str, version: &'static str, open: F) -> Self {
        Self { name, version, open }
    }
}

#[derive(Deserialize, Default)]
struct RawArgs {
    #[serde(default)]
    cni: RawCni,
}

#[derive(Deserialize, Default)]
struct RawCni {
    #[serde(default)]
    ips: Vec<String>,
}

/// The addresses that a call wants, without repetition and without the prefix lengths that runtimes may add.
fn wanted(conf: &NetConf, args: &CniArgs) -> Result<Vec<IpAddr>, CniError> {
    let mut texts: Vec<(&str, String)> =
        args.get("IP").map(|text| ("CNI_ARGS IP", text.to_owned())).into_iter().collect();
    if let Some(args) = &conf.args {
        let args: RawArgs =
            strict::from_value(args.clone(), "args").map_err(|error| CniError::new(ErrorCode::InvalidConfig, error))?;
        texts.extend(args.cni.ips.into_iter().map(|text| ("args.cni.ips", text)));
    }
    let capability: Vec<String> = conf.capability("ips")?.unwrap_or_default();
    texts.extend(capability.into_iter().map(|text| ("runtimeConfig.ips", text)));
    let mut wanted: Vec<IpAddr> = Vec::new();
    for (field, text) in texts {
        let parsed = text.parse::<IpNet>().map(|net| net.addr()).ok().or_else(|| text.parse().ok());
        let address = parsed.ok_or_else(|| {
            let msg = format!("{field}: {text:?} is no IP address; write it as in 10.1.0.7");
            CniError::new(ErrorCode::InvalidConfig, msg)
        })?;
        if !wanted.contains(&address) {
            wanted.push(address);
        }
    }
    Ok(wanted)
}

fn ip_config(lease: &Lease) -> IpConfig {
    let address = IpNet::new(lease.address, lease.subnet.prefix_len()).unwrap_or_else(|_| lease.address.into());
    IpConfig { gateway: lease.gateway, ..IpConfig::new(address) }
}

impl<I: Ipam, F: Fn(&NetConf) -> Result<I, CniError>> Plugin for IpamPlugin<F> {
    fn about(&self) -> About {
        About { name: self.name, version: self.version, spec: SpecVersion::ALL, netns: Netns::NotUsed }
    }

    fn add(&self, request: &AddRequest) -> Result<AddResult, CniError> {
        let (owner, addresses) = (request.id(), wanted(&request.conf, &request.args)?);
        let ipam = (self.open)(&request.conf)?;
        let leases = wait(ipam.assign(&AssignRequest::new(&owner).addresses(&addresses), SystemTime::now()))?;
        Ok(AddResult { ips: leases.iter().map(ip_config).collect(), ..AddResult::default() })
    }

    fn del(&self, request: &DelRequest) -> Result<(), CniError> {
        wait((self.open)(&request.conf)?.release(&request.id(), SystemTime::now()))?;
        Ok(())
    }

    fn check(&self, request: &CheckRequest) -> Result<(), CniError> {
        let ipam = (self.open)(&request.conf)?;
        let owner: EndpointId = request.id();
        ipam.check(&owner, &[])?;
        // The previous result is the whole chain's, so it may have addresses of others beside ours; ours must be in it.
        let Some(result) = &request.conf.prev_result else { return Ok(()) };
        let told: Vec<IpAddr> = result.ips.iter().map(|ip| ip.address.addr()).collect();
        let held: Vec<IpAddr> =
            ipam.leases()?.iter().filter(|lease| lease.owner == owner).map(|lease| lease.address).collect();
        if told.is_empty() || held.iter().all(|address| told.contains(address)) {
            return Ok(());
        }
        Err(IpamError::Drifted { owner, held, expected: told }.into())
    }

    fn status(&self, request: &StatusRequest) -> Result<(), CniError> {
        let ipam = (self.open)(&request.conf)?;
        ipam.status(SystemTime::now()).map_err(|error| CniError::new(ErrorCode::NotAvailable, error))
    }

    fn gc(&self, request: &GcRequest) -> Result<(), CniError> {
        // Absent is not empty: without the list nothing may be freed.
        let Some(valid) = request.valid_attachments() else { return Ok(()) };
        wait((self.open)(&request.conf)?.gc(valid, SystemTime::now()))?;
        Ok(())
    }
}

impl From<IpamError> for CniError {
    /// | error | code |
    /// |---|---|
    /// | what may be gone a little later: exhausted, busy, contended, a store that does not answer | 11 |
    /// | a setting, a pool or a wanted address that is not acceptable | 7 |
    /// | something that this allocator does not do | 2 |
    /// | CHECK found something else, `host-local`'s own | 999 |
    fn from(error: IpamError) -> Self {
        if error.is_transient() {
            return Self::new(ErrorCode::TryAgainLater, error);
        }
        let code = match &error {
            IpamError::HostLocal(own) => return Self::from(own.clone()),
            IpamError::Invalid { .. }
            | IpamError::Overlap { .. }
            | IpamError::NoPool { .. }
            | IpamError::Unusable { .. }
            | IpamError::Taken { .. }
            | IpamError::OtherHeld { .. } => ErrorCode::InvalidConfig,
            IpamError::Unsupported { .. } => ErrorCode::UnsupportedField,
            _ => ErrorCode::INTERNAL,
        };
        Self::new(code, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipam::{LeaseStoreError, Usage};

    #[test]
    fn every_kind_of_error_has_its_code() {
        let owner = || EndpointId::of("c", "eth0").unwrap();
        let address: IpAddr = [10, 0, 0, 1].into();
        let usage: Vec<Usage> = Vec::new();
        for (error, code) in [
            (IpamError::Exhausted { family: crate::ipam::Family::V4, usage }, 11),
            (IpamError::Busy { owner: owner() }, 11),
            (IpamError::Contended { pool: "p".to_owned(), attempts: 64 }, 11),
            (IpamError::NoPool { reason: String::new() }, 7),
            (IpamError::Taken { address, holder: owner() }, 7),
            (IpamError::Unusable { address, reason: String::new() }, 7),
            (IpamError::invalid("pool p", "spec.cidr", ""), 7),
            (IpamError::Unsupported { allocator: "a", what: "b", reason: "c" }, 2),
            (IpamError::NotAssigned { owner: owner() }, 999),
            (LeaseStoreError::Conflict { address, holder: owner(), wanted_by: owner() }.into(), 999),
        ] {
            let text = error.to_string();
            assert_eq!(CniError::from(error).code.get(), code, "{text}");
        }
    }
}
