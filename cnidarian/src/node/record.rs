//! What is remembered of an attachment, in the same transaction as its leases. Never more than a restart needs.
//!
//! The format is JSON with a version, so that the next release can read what this one wrote.

use cni_core::ipam::Lease;
use cni_core::model::{Endpoint, NetworkName, ServiceClient};
use cni_core::rpc::Attachment;
use net_linux::attach::{AttachRequest, gateway};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// One attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// The version of this format: 1.
    pub(crate) version: u32,
    /// What the datapath knows of it.
    pub(crate) endpoint: Endpoint,
    /// The network it belongs to, for GC.
    pub(crate) network: NetworkName,
    /// The MTU of both ends in bytes.
    pub(crate) mtu_bytes: u32,
    /// The inode of the container's network namespace.
    pub(crate) netns_inode: u64,
    /// The number of that namespace, for who serves its sockets; `None`: an older release wrote the record, or the kernel (before
    /// Linux 5.14) does not tell.
    #[serde(default)]
    pub(crate) netns_cookie: Option<u64>,
    /// Whether another IPAM plugin gave the addresses.
    #[serde(default)]
    pub(crate) delegated: bool,
    /// Whether the store knew the pod: then it is closed while the store does not.
    #[serde(default)]
    pub(crate) pod_known: bool,
    /// When it was made, in milliseconds since the Unix epoch.
    pub(crate) attached_unix_ms: u64,
}

impl Record {
    /// The bytes for the database.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record holds only texts, numbers and lists, which JSON can always carry")
    }

    /// Reads a record; `None` for one that a newer release wrote, or that is damaged.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(bytes).ok().filter(|record| record.version == 1)
    }

    /// The same with the addresses of leases.
    pub(crate) fn with(mut self, leases: &[Lease]) -> Self {
        self.endpoint.addresses = leases.iter().map(|lease| lease.address).collect();
        self
    }

    /// What the kernel is asked for.
    pub(crate) fn link(&self) -> AttachRequest {
        let endpoint = &self.endpoint;
        let request = AttachRequest::new(endpoint.id.clone(), endpoint.addresses.clone(), self.mtu_bytes);
        AttachRequest { pod_mac: Some(endpoint.pod_mac), ..request }
    }

    /// The pod as a user of services, where its namespace is known.
    pub(crate) fn client(&self) -> Option<ServiceClient> {
        let (endpoint, netns_inode) = (self.endpoint.id.clone(), self.netns_inode);
        let addresses = self.endpoint.addresses.clone();
        self.netns_cookie.map(|netns_cookie| ServiceClient { endpoint, netns_cookie, netns_inode, addresses })
    }

    /// What ADD answers.
    pub(crate) fn attachment(&self, policy_enforced: bool) -> Attachment {
        let endpoint = &self.endpoint;
        Attachment {
            host_interface: endpoint.host_interface.clone(),
            host_mac: endpoint.host_mac,
            pod_mac: endpoint.pod_mac,
            mtu_bytes: self.mtu_bytes,
            addresses: endpoint.addresses.clone(),
            gateways: gateways(&endpoint.addresses),
            policy_enforced,
        }
    }
}

/// One gateway for each family that is there, IPv4 first.
pub(crate) fn gateways(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let v4 = addresses.iter().find(|address| address.is_ipv4());
    let v6 = addresses.iter().find(|address| address.is_ipv6());
    v4.into_iter().chain(v6).map(|address| gateway(*address)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Yesterday's bytes: this record was written by version 0.1.0.
    #[test]
    fn a_record_of_version_1_is_still_read() {
        let bytes = br#"{"version":1,"endpoint":{"id":"c0ffee/eth0","hostInterface":"cni079c4f592070",
            "hostMac":"02:00:00:00:00:01","podMac":"02:00:00:00:00:02","addresses":["10.42.0.7"]},
            "network":"pods","mtuBytes":1450,"netnsInode":4026532001,"attachedUnixMs":1790000000000}"#;
        let record = Record::parse(bytes).unwrap();
        assert_eq!(record.attachment(false).gateways, ["169.254.1.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(record.client(), None, "whose namespace that release did not write down");
        assert_eq!(Record::parse(&record.to_bytes()).unwrap(), record);
        assert_eq!(Record::parse(br#"{"version":2}"#), None);
        assert_eq!(Record::parse(b"\xff"), None);
    }
}
