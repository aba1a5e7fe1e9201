//! Plain data that every part of the system speaks of. Never does I/O and never knows a backend.

mod attributes;
mod context;
mod endpoint;
mod health;
mod item;
mod mac;
mod names;
mod peer;
mod selector;
mod service;
mod special;

pub use attributes::Attributes;
pub use context::{Masquerade, NodeContext, Underlay};
pub use endpoint::{Endpoint, PodRef};
pub use health::{HealthChange, HealthCheck};
pub use item::{LocalBlock, NetworkItem, NetworkKey, ServiceAddress};
pub use mac::{MacAddr, ParseMacError};
pub use names::{
    ContainerId, EndpointId, InterfaceName, InvalidName, NamespaceName, NetworkName, NodeName, PluginType, PodName,
};
pub use peer::{Encapsulation, Peer, PeerPrefix};
pub use selector::{LabelSelector, SelectorExpression, SelectorOperator};
pub use service::{
    BackendUse, Conditions, FrontendKind, Scheduler, ServiceBackend, ServiceClient, ServiceItem, ServiceKey,
    ServiceName, TrafficScope, UnknownScheduler,
};
pub use special::{never_of_pods, overlap, special_prefixes};
