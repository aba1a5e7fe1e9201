//! Services for monitors: by service, never by frontend or by backend, and of a bounded number of services.

use cni_core::backend::Traffic;
use cnidarian::ServiceStatus;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::collections::{BTreeMap, BTreeSet};

/// Services with series of their own: the first by name. The others are added up under an empty name.
const MOST_SERVICES: usize = 1000;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByService {
    namespace: String,
    service: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByDirection {
    namespace: String,
    service: String,
    direction: &'static str,
}

/// What all frontends of a service have together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    backends: BTreeSet<String>,
    /// `None`: nobody counts.
    connections: Option<(u64, u64)>,
    traffic: Option<Traffic>,
}

impl Sum {
    fn add(&mut self, service: &ServiceStatus) {
        for backend in &service.backends {
            if backend.state == "active" {
                self.backends.insert(backend.address.clone());
            }
            if let (Some(active), Some(inactive)) = (backend.active, backend.inactive) {
                let (all_active, all_inactive) = self.connections.get_or_insert_default();
                *all_active += u64::from(active);
                *all_inactive += u64::from(inactive);
            }
        }
        if let Some(more) = service.traffic {
            let all = self.traffic.get_or_insert_default();
            all.connections += more.connections;
            all.packets_in += more.packets_in;
            all.packets_out += more.packets_out;
            all.bytes_in += more.bytes_in;
            all.bytes_out += more.bytes_out;
        }
    }
}

/// By namespace and name; beyond the bound under empty ones.
fn sums(services: &[ServiceStatus]) -> BTreeMap<(&str, &str), Sum> {
    let names: BTreeSet<&str> = services.iter().map(|service| &*service.service).collect();
    let own: BTreeSet<&str> = names.into_iter().take(MOST_SERVICES).collect();
    let mut sums = BTreeMap::<_, Sum>::new();
    for service in services {
        let name = &*service.service;
        let name = if own.contains(name) { name.split_once('/').unwrap_or(("", name)) } else { ("", "") };
        sums.entry(name).or_default().add(service);
    }
    sums
}

/// The families.
#[derive(Default)]
pub(super) struct ServiceMetrics {
    backends: Family<ByService, Gauge>,
    active: Family<ByService, Gauge>,
    inactive: Family<ByService, Gauge>,
    connections: Family<ByService, Counter>,
    packets: Family<ByDirection, Counter>,
    bytes: Family<ByDirection, Counter>,
}

impl ServiceMetrics {
    pub(super) fn register(&self, root: &mut Registry) {
        root.register(
            "service_backends",
            "Endpoints that get new connections of a service here",
            self.backends.clone(),
        );
        root.register("service_active_connections", "Established connections", self.active.clone());
        let help = "Other connections that are remembered: closing, or without a state";
        root.register("service_inactive_connections", help, self.inactive.clone());
        root.register("service_connections", "Connections that were led to a backend", self.connections.clone());
        root.register("service_packets", "Packets of services, in from clients and out to them", self.packets.clone());
        root.register("service_bytes", "Bytes of these packets", self.bytes.clone());
    }

    /// What is there now takes the place of what was.
    pub(super) fn set(&self, services: &[ServiceStatus]) {
        self.backends.clear();
        self.active.clear();
        self.inactive.clear();
        self.connections.clear();
        self.packets.clear();
        self.bytes.clear();
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        for ((namespace, service), sum) in sums(services) {
            let (namespace, service) = (namespace.to_owned(), service.to_owned());
            let label = ByService { namespace: namespace.clone(), service: service.clone() };
            self.backends.get_or_create(&label).set(i64::try_from(sum.backends.len()).unwrap_or(i64::MAX));
            if let Some((active, inactive)) = sum.connections {
                self.active.get_or_create(&label).set(gauge(active));
                self.inactive.get_or_create(&label).set(gauge(inactive));
            }
            let Some(traffic) = sum.traffic else { continue };
            self.connections.get_or_create(&label).inc_by(traffic.connections);
            for (direction, packets, bytes) in
                [("in", traffic.packets_in, traffic.bytes_in), ("out", traffic.packets_out, traffic.bytes_out)]
            {
                let label = ByDirection { namespace: namespace.clone(), service: service.clone(), direction };
                self.packets.get_or_create(&label).inc_by(packets);
                self.bytes.get_or_create(&label).inc_by(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(name: &str, connections: Option<u64>, active: Option<u32>) -> ServiceStatus {
        let traffic = connections.map(|connections| Traffic { connections, packets_in: 2, ..Traffic::default() });
        let backend = |address: &str, state: &str| json!({"address": address, "node": null, "state": state, "active": active, "inactive": active});
        let backends = [backend("10.1.0.1:80", "active"), backend("10.1.0.2:80", "draining")];
        serde_json::from_value(json!({"service": name, "portName": "", "kind": "ClusterIP", "frontend": "10.96.0.1:80",
            "protocol": "TCP", "scheduler": "rr", "affinitySeconds": null, "traffic": traffic, "backends": backends}))
        .unwrap()
    }

    fn text(services: &[ServiceStatus]) -> String {
        let (metrics, mut registry) = (ServiceMetrics::default(), Registry::with_prefix("cnidarian"));
        metrics.register(&mut registry);
        metrics.set(services);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn frontends_of_a_service_are_added_up_and_what_is_not_counted_has_no_series() {
        let all = [
            service("shop/web", Some(3), Some(1)),
            service("shop/web", Some(4), Some(1)),
            service("shop/dark", None, None),
        ];
        let text = text(&all);
        let web = "{namespace=\"shop\",service=\"web\"}";
        for line in [
            format!("cnidarian_service_backends{web} 1\n"),
            format!("cnidarian_service_active_connections{web} 4\n"),
            format!("cnidarian_service_connections_total{web} 7\n"),
            "cnidarian_service_packets_total{namespace=\"shop\",service=\"web\",direction=\"in\"} 4\n".to_owned(),
        ] {
            assert!(text.contains(&line), "{line:?} is not in {text}");
        }
        let dark: Vec<&str> = text.lines().filter(|line| line.contains("\"dark\"")).collect();
        assert_eq!(dark, ["cnidarian_service_backends{namespace=\"shop\",service=\"dark\"} 1"]);
    }

    #[test]
    fn series_are_of_a_bounded_number_of_services_and_nothing_is_left_out_of_the_sum() {
        let names = (0..MOST_SERVICES + 10).map(|number| format!("shop/s{number:05}"));
        let all: Vec<ServiceStatus> = names.map(|name| service(&name, Some(1), Some(0))).collect();
        let sums = sums(&all);
        assert_eq!(sums.len(), MOST_SERVICES + 1);
        assert_eq!(sums[&("", "")].traffic.unwrap().connections, 10);
    }
}
