//! What people and monitors see of services: frontends, backends, and what passes them. Never changes one.

use super::Node;
use super::counted::Counts;
use cni_core::backend::Traffic;
use cni_core::model::{BackendUse, ServiceBackend, ServiceItem};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::num::NonZeroU32;

/// One frontend of a service as this node translates it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// The service, as `namespace/name`.
    pub service: String,
    /// The name of its port; empty for the only one.
    pub port_name: String,
    /// `ClusterIP`, `LoadBalancer`, `ExternalIP` or `NodePort`.
    pub kind: String,
    /// Address and port.
    pub frontend: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// How a backend is chosen.
    pub scheduler: String,
    /// For how long a client goes to the same backend, in seconds; `null`: each connection for itself.
    pub affinity_seconds: Option<u32>,
    /// What passed it; `null`: the proxy does not count that.
    #[serde(default)]
    pub traffic: Option<Traffic>,
    /// Where connections end.
    pub backends: Vec<ServiceBackendStatus>,
}

/// One backend of a frontend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceBackendStatus {
    /// Address and port.
    pub address: String,
    /// The node that it is on, where that is known.
    pub node: Option<String>,
    /// `active`, `draining`, or `gone` while connections of it go on though no object has it any more.
    pub state: String,
    /// Its share of new connections; `null`: the proxy has no weights.
    #[serde(default)]
    pub weight: Option<u32>,
    /// Its established connections; `null`: the proxy does not count them.
    #[serde(default)]
    pub active: Option<u32>,
    /// Others of it that are remembered: closing, or without a state (UDP).
    #[serde(default)]
    pub inactive: Option<u32>,
    /// What passed it; `null`: the proxy does not count that.
    #[serde(default)]
    pub traffic: Option<Traffic>,
}

impl ServiceBackendStatus {
    fn new(place: SocketAddr, backend: Option<&ServiceBackend>) -> Self {
        let state = match backend.map(|backend| backend.usage) {
            Some(BackendUse::Active) => "active",
            Some(BackendUse::Draining) => "draining",
            None => "gone",
        };
        Self {
            address: place.to_string(),
            node: backend.and_then(|backend| backend.node.as_deref()).map(str::to_owned),
            state: state.to_owned(),
            weight: None,
            active: None,
            inactive: None,
            traffic: None,
        }
    }
}

impl ServiceStatus {
    /// With what is counted of it.
    fn new(item: &ServiceItem, counts: &Counts) -> Self {
        let counted = counts.get(&item.key);
        let mut places: Vec<(SocketAddr, Option<&ServiceBackend>)> = item
            .backends
            .iter()
            .map(|backend| (SocketAddr::new(backend.address, backend.port), Some(backend)))
            .collect();
        for place in counted.iter().flat_map(|counted| counted.backends.keys()) {
            if !places.iter().any(|(known, _)| known == place) {
                places.push((*place, None));
            }
        }
        let backends = places.into_iter().map(|(place, backend)| {
            let status = ServiceBackendStatus::new(place, backend);
            match counted.and_then(|counted| counted.backends.get(&place)) {
                None => status,
                Some(counts) => ServiceBackendStatus {
                    weight: counts.weight,
                    active: counts.active,
                    inactive: counts.inactive,
                    traffic: counts.traffic,
                    ..status
                },
            }
        });
        Self {
            service: item.service.to_string(),
            port_name: item.port_name.to_string(),
            kind: item.kind.to_string(),
            frontend: SocketAddr::new(item.key.address, item.key.port).to_string(),
            protocol: item.key.protocol.to_string(),
            scheduler: item.scheduler.to_string(),
            affinity_seconds: item.affinity_seconds.map(NonZeroU32::get),
            traffic: counted.and_then(|counted| counted.traffic),
            backends: backends.collect(),
        }
    }
}

impl Node {
    /// Services as this node sees them, sorted by name, with what the proxy counts of them where it does. Empty without a section
    /// `services`. Where the counters cannot be read they are left out: status says why.
    pub async fn services(&self) -> Vec<ServiceStatus> {
        let counts = match self.inner.counted.read().await {
            Ok(counts) => {
                self.inner.meters.counted(None);
                counts
            }
            Err(error) => {
                self.inner.meters.counted(Some(error.to_string()));
                std::sync::Arc::default()
            }
        };
        self.inner.cluster.services().iter().map(|item| ServiceStatus::new(item, &counts)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cni_core::backend::{BackendCounts, FrontendCounts};
    use cni_core::model::{Conditions, FrontendKind, Scheduler, ServiceKey, ServiceName, TrafficScope};
    use cni_core::policy::model::Protocol;

    fn item() -> ServiceItem {
        let backend = |address: &str, usage| ServiceBackend {
            address: address.parse().unwrap(),
            port: 8080,
            usage,
            weight: 1,
            conditions: Conditions { ready: true, serving: true, terminating: false },
            local: false,
            node: Some("node-1".into()),
            zone: None,
        };
        ServiceItem {
            key: ServiceKey { address: "10.96.0.7".parse().unwrap(), port: 80, protocol: Protocol::TCP },
            service: ServiceName { namespace: "shop".into(), name: "web".into() },
            port_name: "".into(),
            kind: FrontendKind::ClusterIp,
            scope: TrafficScope::Cluster,
            scheduler: Scheduler::default(),
            affinity_seconds: None,
            sources: None,
            direct_return: false,
            health_check_port: None,
            backends: vec![backend("10.1.0.1", BackendUse::Active), backend("10.1.0.2", BackendUse::Draining)].into(),
        }
    }

    #[test]
    fn what_is_counted_stands_beside_what_the_objects_say_and_a_backend_that_only_the_kernel_has_is_gone() {
        let counts = |active| BackendCounts { weight: Some(1), active: Some(active), ..BackendCounts::default() };
        let backends = [("10.1.0.1:8080".parse().unwrap(), counts(3)), ("10.1.0.9:8080".parse().unwrap(), counts(1))];
        let traffic = Some(Traffic { connections: 7, ..Traffic::default() });
        let counted = FrontendCounts { traffic, backends: backends.into() };
        let all = Counts::from([(item().key, counted)]);
        let status = ServiceStatus::new(&item(), &all);
        assert_eq!(status.traffic, traffic);
        let shown: Vec<_> = status.backends.iter().map(|one| (&*one.address, &*one.state, one.active)).collect();
        let wanted = [
            ("10.1.0.1:8080", "active", Some(3)),
            ("10.1.0.2:8080", "draining", None),
            ("10.1.0.9:8080", "gone", Some(1)),
        ];
        assert_eq!(shown, wanted);
        let uncounted = ServiceStatus::new(&item(), &Counts::new());
        assert!(uncounted.traffic.is_none() && uncounted.backends.iter().all(|one| one.weight.is_none()));
        let text = serde_json::to_value(&status).unwrap();
        assert_eq!(serde_json::from_value::<ServiceStatus>(text).unwrap(), status);
    }
}
