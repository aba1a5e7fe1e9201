//! What a node is opened with. Never read from a file here: the agent does that, and a program that embeds a node
//! fills it in itself.

mod policy;
mod preset;
mod raw;
mod read;
mod services;

pub use read::{ConfigError, ReadConfig, read_config};
pub use services::ServicesConfig;

use cni_core::model::{Encapsulation, InterfaceName, NodeName};
use cni_core::policy::failsafe::Failsafe;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::path::PathBuf;
use std::time::Duration;

/// The network below the pods. What is not given is found out: the interface of the default route, its addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnderlayConfig {
    /// The interface that carries traffic to other nodes.
    pub interface: Option<InterfaceName>,
    /// Our IPv4 address with the length of the segment's prefix.
    pub v4: Option<Ipv4Net>,
    /// Our IPv6 address with the length of the segment's prefix.
    pub v6: Option<Ipv6Net>,
}

/// Where pod addresses come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IpamMode {
    /// Blocks of cluster pools, claimed from the store.
    #[default]
    Pools,
    /// The `spec.podCIDRs` of this node's object in the store.
    PodCidr,
}

/// A pool that the configuration itself brings: it is written to the store when the store has none of this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// The pool's name.
    pub name: String,
    /// Its addresses, without host bits.
    pub cidr: IpNet,
    /// The prefix length of its blocks; `None`: 26 for IPv4, 122 for IPv6, or the pool's own where that is longer.
    pub block_size: Option<u8>,
    /// When traffic to it is encapsulated; `None` leaves it to the backend.
    pub encapsulation: Option<Encapsulation>,
}

/// Address management.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpamConfig {
    /// Where addresses come from.
    pub mode: IpamMode,
    /// Pools to write to the store.
    pub pools: Vec<PoolConfig>,
    /// How long a released address rests before it is used again.
    pub cool_down: Duration,
    /// Whether a node takes addresses only from its own blocks.
    pub strict_affinity: bool,
    /// The most blocks per node and pool; `None`: no limit.
    pub max_blocks_per_node: Option<u32>,
    /// How long a lease without an interface must be seen before it is freed as leaked.
    pub leak_grace: Duration,
}

impl Default for IpamConfig {
    fn default() -> Self {
        Self {
            mode: IpamMode::default(),
            pools: Vec::new(),
            cool_down: Duration::from_secs(30),
            strict_affinity: false,
            max_blocks_per_node: None,
            leak_grace: Duration::from_secs(60),
        }
    }
}

/// Source NAT to the outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasqueradeConfig {
    /// Whether pod traffic that leaves the cluster is masqueraded.
    pub enabled: bool,
    /// Destinations besides the pools that see the pod's own address.
    pub keep: Vec<IpNet>,
}

impl Default for MasqueradeConfig {
    fn default() -> Self {
        Self { enabled: true, keep: Vec::new() }
    }
}

/// Enforcement of network policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyConfig {
    /// The engine's name in the registry, or [`Self::NONE`].
    pub engine: String,
    /// The engine's own part; `Null` when there is none.
    pub config: serde_json::Value,
    /// Ports of this node that no policy about hosts closes.
    pub failsafe: Failsafe,
}

impl PolicyConfig {
    /// The name for no engine: policies have no effect, and what an engine left is removed.
    pub const NONE: &'static str = "none";
    /// The engine where none is named.
    pub const DEFAULT: &'static str = "nftables";

    /// No enforcement.
    #[must_use]
    pub fn none() -> Self {
        Self { engine: Self::NONE.to_owned(), ..Self::default() }
    }
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self { engine: Self::DEFAULT.to_owned(), config: serde_json::Value::Null, failsafe: Failsafe::default() }
    }
}

/// Where desired state comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum StoreConfig {
    /// This process alone; gone with it.
    #[default]
    Memory,
    /// A watched directory of manifests, which several agents may share.
    Files {
        /// The directory.
        directory: PathBuf,
    },
}

/// Where state that outlives the process is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum StateConfig {
    /// A directory of this node's own.
    Directory(PathBuf),
    /// A temporary directory, removed when the node is closed.
    #[default]
    Ephemeral,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its name.
    pub name: NodeName,
    /// The backend's name in the registry.
    pub backend: String,
    /// The backend's own section; `Null` when there is none.
    pub backend_config: serde_json::Value,
    /// Enforcement of network policies.
    pub policy: PolicyConfig,
    /// The network below.
    pub underlay: UnderlayConfig,
    /// Address management.
    pub ipam: IpamConfig,
    /// Source NAT.
    pub masquerade: MasqueradeConfig,
    /// Services of the cluster; `None`: nobody looks at them.
    pub services: Option<ServicesConfig>,
    /// The MTU of pod interfaces in bytes; `None`: what the backend finds out.
    pub mtu_bytes: Option<u32>,
    /// Where desired state comes from.
    pub store: StoreConfig,
    /// Where our own state is.
    pub state: StateConfig,
    /// How often the kernel is read back though no event asked for it.
    pub resync_interval: Duration,
}

impl NodeConfig {
    /// A node with the `vxlan` backend, policy on nftables, a store in memory, and no file that outlives it.
    #[must_use]
    pub fn new(name: NodeName) -> Self {
        Self {
            name,
            backend: "vxlan".to_owned(),
            backend_config: serde_json::Value::Null,
            policy: PolicyConfig::default(),
            underlay: UnderlayConfig::default(),
            ipam: IpamConfig::default(),
            masquerade: MasqueradeConfig::default(),
            services: None,
            mtu_bytes: None,
            store: StoreConfig::default(),
            state: StateConfig::default(),
            resync_interval: Duration::from_secs(60),
        }
    }
}
