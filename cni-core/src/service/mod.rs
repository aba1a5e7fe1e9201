//! Services of the cluster without a kernel: Service, EndpointSlice and Node objects in, frontends with backends out. Never a
//! packet, a clock or a socket.
//!
//! ```text
//! Service ------- read --> claims of address, port, protocol ---+
//! Node ---------- read --> node ports, zone, what is taken -----+--> frontends --+
//! EndpointSlice - read --> endpoints -- select --> backends ---------------------+--> ServiceItem, one for each frontend
//! ```
//!
//! ```
//! use cni_core::service::{ServiceSettings, ServiceTable};
//! use cni_core::store::Object;
//! use serde_json::json;
//!
//! let mut table = ServiceTable::new("node-1", ServiceSettings::default());
//! table.put(&Object::from_value(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
//!     "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}}))?);
//! table.put(&Object::from_value(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
//!     "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
//!     "ports": [{"port": 8080}], "endpoints": [{"addresses": ["10.1.0.5"]}]}))?);
//! assert_eq!(table.drain().len(), 1);
//! # Ok::<(), cni_core::store::InvalidObject>(())
//! ```

pub mod balancer;
mod pools;
mod read;
mod select;
mod settings;
mod table;
#[cfg(test)]
mod tests;

pub use pools::{BalancerRecord, RawAddressPool};
pub use settings::ServiceSettings;
pub use table::{Balance, ServiceTable};
