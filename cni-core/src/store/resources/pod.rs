//! `v1` Pod: where it runs and what selects it. Never its containers.

use super::expect_kind;
use crate::store::{InvalidObject, Kind, Object};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, where the store gave one.
    pub uid: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// `spec.nodeName`: the node it was placed on.
    pub node_name: Option<String>,
    /// `spec.hostNetwork`: it uses the node's own network, so it is none of ours.
    pub host_network: bool,
    /// `spec.serviceAccountName`, or `spec.serviceAccount` as it was called before; `default` where none is written.
    pub service_account: String,
    /// `status.phase` is `Succeeded` or `Failed`: it runs no more, and its addresses may be another pod's.
    pub finished: bool,
    /// `status.podIPs`, or `status.podIP` alone.
    pub addresses: Vec<IpAddr>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawSpec {
    node_name: Option<String>,
    host_network: Option<bool>,
    service_account_name: Option<String>,
    service_account: Option<String>,
}

#[derive(Deserialize, Default)]
struct RawStatus {
    #[serde(default)]
    phase: Option<String>,
    #[serde(default, rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(default, rename = "podIPs")]
    pod_ips: Option<Vec<RawPodIp>>,
}

#[derive(Deserialize)]
struct RawPodIp {
    ip: String,
}

impl TryFrom<&Object> for Pod {
    type Error = InvalidObject;

    fn try_from(object: &Object) -> Result<Self, InvalidObject> {
        expect_kind(object, &Kind::POD)?;
        let spec = object.read::<Option<RawSpec>>("spec")?.unwrap_or_default();
        let status = object.read::<Option<RawStatus>>("status")?.unwrap_or_default();
        let listed: Vec<_> = status.pod_ips.unwrap_or_default().into_iter().map(|raw| raw.ip).collect();
        let single = || status.pod_ip.into_iter().filter(|text| !text.is_empty()).collect();
        let (field, texts) = if listed.is_empty() { ("status.podIP", single()) } else { ("status.podIPs", listed) };
        let parse = |(index, text): (usize, &String)| {
            let wrong = |_| {
                let detail = format!("{text:?} is no IP address; write one as in 10.1.2.3 or fd00::1");
                InvalidObject::new(&object.key, format!("{field}[{index}]"), detail)
            };
            text.parse().map_err(wrong)
        };
        let accounts = [spec.service_account_name, spec.service_account];
        let service_account = accounts.into_iter().flatten().find(|name| !name.is_empty());
        Ok(Self {
            service_account: service_account.unwrap_or_else(|| "default".to_owned()),
            finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            namespace: object.key.namespace.as_deref().unwrap_or("default").to_owned(),
            name: (*object.key.name).to_owned(),
            uid: object.metadata.uid.clone(),
            labels: object.metadata.labels.clone(),
            annotations: object.metadata.annotations.clone(),
            node_name: spec.node_name.filter(|name| !name.is_empty()),
            host_network: spec.host_network.unwrap_or(false),
            addresses: texts.iter().enumerate().map(parse).collect::<Result<_, _>>()?,
        })
    }
}
