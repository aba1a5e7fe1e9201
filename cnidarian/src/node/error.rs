//! Why a node did not do what was asked, and the one table from that to CNI error codes.

use cni_core::cni::{CniError, ErrorCode};
use cni_core::ipam::{IpamError, LeaseStoreError};
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::rpc::Failure;
use cni_core::store::LocalDatabaseError;
use cni_core::{backend, store};
use net_linux::attach::AttachError;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// A failure of a node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// No address could be given, taken back or found.
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// The local database failed.
    #[error(transparent)]
    Leases(#[from] LeaseStoreError),
    /// The local database could not be opened.
    #[error(transparent)]
    Database(#[from] LocalDatabaseError),
    /// The store of desired state failed.
    #[error("store: {0}")]
    Store(#[from] store::Error),
    /// A manifest cannot be read at the start, so which policies are in force is not known.
    #[error(
        "{problem}; policies that may stand there are not known, so the agent does not start: repair or remove the file"
    )]
    BrokenManifest {
        /// Which, and what is wrong.
        problem: store::Problem,
    },
    /// The policy engine could not put all in force at the start, and the kernel has what another one enforces.
    #[error(
        "policy {wanted} is not all in force ({why}), and policy {other} is there; that one stays as it is: mend this, \
         or start with policy: {other}"
    )]
    NotInForce {
        /// The engine of the configuration.
        wanted: String,
        /// The one before it.
        other: String,
        /// What could not be written, and why.
        why: backend::Error,
    },
    /// The policy engine could not put all in force at its first start, and pods are there, open.
    #[error(
        "policy {wanted} is not all in force ({why}), and pods of this node, which nothing closed so far, would stay open: \
         mend this, or start with policy: none"
    )]
    PodsOpen {
        /// The engine of the configuration.
        wanted: String,
        /// What could not be written, and why.
        why: backend::Error,
    },
    /// The backend refused, or could not be opened.
    #[error("{0}")]
    Backend(Box<backend::Error>),
    /// A configuration that differs in something that is read only when a node is opened.
    #[error("{key}: takes effect when the agent is started again; the configuration in force stays as it was")]
    NeedsStart {
        /// The key of the configuration.
        key: &'static str,
    },
    /// An address that another IPAM plugin gave belongs to another endpoint here.
    #[error("address {address} of {endpoint} is that of {holder} already; the IPAM plugin gave it twice")]
    AddressInUse {
        /// The endpoint that was to be attached.
        endpoint: EndpointId,
        /// The address.
        address: IpAddr,
        /// Who has it.
        holder: EndpointId,
    },
    /// The endpoint is attached in another network namespace, and that one lives: it would lose its network.
    #[error("{endpoint} is attached by {host_interface} in another network namespace that lives (inode {inode})")]
    AttachedElsewhere {
        /// The endpoint that was to be attached.
        endpoint: EndpointId,
        /// The host's end of what is there.
        host_interface: InterfaceName,
        /// The inode of the other namespace, as `lsns -t net` shows it.
        inode: u64,
    },
    /// The interface could not be made, changed or compared.
    #[error(transparent)]
    Attach(Box<AttachError>),
    /// The kernel could not be talked to.
    #[error("{operation}: {problem}")]
    Kernel {
        /// What was being done.
        operation: &'static str,
        /// What the kernel said.
        problem: String,
    },
    /// The underlay cannot be found.
    #[error("underlay: {field}: {problem}")]
    Underlay {
        /// The key of the configuration that would settle it.
        field: &'static str,
        /// What was looked for, what was found, and what to write.
        problem: String,
    },
    /// Nothing is attached under this id.
    #[error("{endpoint} is not attached")]
    NotAttached {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// What is there differs from what ADD made.
    #[error("{endpoint} has drifted: {}", findings.join("; "))]
    Drifted {
        /// The endpoint.
        endpoint: EndpointId,
        /// Each difference.
        findings: Vec<String>,
    },
    /// An address is in use, so it is not released by hand.
    #[error("address {address} is in use by {holder}; run DEL for it, or `ipam check` to see whether it leaked")]
    InUse {
        /// The address.
        address: IpAddr,
        /// Who uses it.
        holder: EndpointId,
    },
    /// No lease has this address.
    #[error("address {address} is not leased on this node")]
    NotLeased {
        /// The address.
        address: IpAddr,
    },
    /// The datapath does not hold what it should, so pods may be cut off.
    #[error("datapath: {problem}")]
    DatapathLost {
        /// What is missing.
        problem: String,
    },
    /// The network below the pods is gone, or is not what the backend needs: other nodes do not reach the pods of this one.
    #[error("the underlay cannot be used: {problem}")]
    UnderlayUnusable {
        /// What is missing.
        problem: String,
    },
    /// A file of the node's own state.
    #[error("{operation} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Several things of a GC failed; the others were done.
    #[error("{} of the endpoints could not be freed: {}", problems.len(), problems.join("; "))]
    Several {
        /// Each failure.
        problems: Vec<String>,
    },
    /// The node is being closed.
    #[error("the node is being closed")]
    Closing,
}

impl From<backend::Error> for NodeError {
    fn from(error: backend::Error) -> Self {
        Self::Backend(Box::new(error))
    }
}

impl NodeError {
    /// The CNI error code (CNI 1.1.0, section 5, "Error").
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Ipam(error) if error.is_transient() => ErrorCode::TryAgainLater,
            Self::Ipam(IpamError::NotAssigned { .. } | IpamError::Drifted { .. }) => ErrorCode::INTERNAL,
            Self::Ipam(_) => ErrorCode::InvalidConfig,
            Self::Store(error) if error.is_transient() => ErrorCode::TryAgainLater,
            Self::Store(_)
            | Self::BrokenManifest { .. }
            | Self::NotInForce { .. }
            | Self::PodsOpen { .. }
            | Self::Underlay { .. }
            | Self::NeedsStart { .. }
            | Self::AddressInUse { .. } => ErrorCode::InvalidConfig,
            Self::Backend(error) => match (error.retry, error.kind) {
                (_, backend::ErrorKind::Invalid | backend::ErrorKind::Unsupported) => ErrorCode::InvalidConfig,
                (backend::Retry::Soon, _) => ErrorCode::TryAgainLater,
                _ => ErrorCode::INTERNAL,
            },
            Self::Attach(error) => match &**error {
                AttachError::InterfaceExists { .. }
                | AttachError::AlreadyAttached { .. }
                | AttachError::HostNamespace { .. }
                | AttachError::Namespace { .. } => ErrorCode::InvalidEnvironment,
                AttachError::Invalid { .. } => ErrorCode::InvalidConfig,
                error if error.kind() == backend::ErrorKind::Busy => ErrorCode::TryAgainLater,
                _ => ErrorCode::INTERNAL,
            },
            // The network's configuration is right; it is CNI_CONTAINERID and CNI_IFNAME that are taken.
            Self::AttachedElsewhere { .. } => ErrorCode::InvalidEnvironment,
            Self::NotAttached { .. } => ErrorCode::UnknownContainer,
            Self::Closing => ErrorCode::TryAgainLater,
            Self::Leases(_) | Self::Database(_) | Self::Io { .. } => ErrorCode::Io,
            Self::DatapathLost { .. } => ErrorCode::LimitedConnectivity,
            Self::UnderlayUnusable { .. } => ErrorCode::NotAvailable,
            Self::Kernel { .. }
            | Self::Drifted { .. }
            | Self::InUse { .. }
            | Self::NotLeased { .. }
            | Self::Several { .. } => ErrorCode::INTERNAL,
        }
    }

    /// What to do about it.
    fn advice(&self) -> &'static str {
        match self {
            Self::Ipam(IpamError::Exhausted { .. }) => {
                "enlarge the pool, add one, or delete pods; `cnidarian ipam show` has the numbers"
            }
            Self::Leases(_) | Self::Ipam(IpamError::Leases(_)) => {
                "make room on the disk of stateDir, or make it writable, and try again; nothing was changed"
            }
            Self::Ipam(_) => "see `cnidarian ipam show`",
            Self::Attach(error) => match **error {
                AttachError::InterfaceExists { .. } | AttachError::AlreadyAttached { .. } => {
                    "run DEL for this container and interface first, or choose another name"
                }
                AttachError::HostNamespace { .. } | AttachError::Namespace { .. } => {
                    "pass the path of the container's network namespace, as in /run/netns/blue"
                }
                _ => "see the agent's log",
            },
            Self::Drifted { .. } => {
                "the agent repairs the host's side by itself; what is wrong inside the container needs DEL and ADD"
            }
            Self::NotAttached { .. } => "run ADD",
            Self::AttachedElsewhere { .. } => {
                "run DEL for this container and interface first, or end whatever keeps the other namespace alive"
            }
            Self::DatapathLost { .. } => "see `cnidarian status`",
            Self::UnderlayUnusable { .. } => {
                "give the underlay interface its address back, or name another in `underlay`"
            }
            Self::AddressInUse { .. } => {
                "correct the IPAM plugin's configuration: its range must belong to this network alone"
            }
            _ => "see `cnidarian status` and the agent's log",
        }
    }
}

impl From<&NodeError> for Failure {
    fn from(error: &NodeError) -> Self {
        Self::new(error.code(), error.to_string(), error.advice())
    }
}

impl From<&NodeError> for CniError {
    fn from(error: &NodeError) -> Self {
        Failure::from(error).into()
    }
}
