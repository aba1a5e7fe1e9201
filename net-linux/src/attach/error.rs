//! Why an attachment failed. Never leaves anything behind: what was made before the error is removed.

use crate::netlink;
use crate::netns::NetNsError;
use cni_core::backend::{self, ErrorKind};
use cni_core::model::{EndpointId, InterfaceName};

/// A failed attachment, detachment or check.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The request is not acceptable.
    #[error("endpoint {id}: {field}: {detail}")]
    Invalid {
        /// Which attachment.
        id: EndpointId,
        /// The field at fault.
        field: &'static str,
        /// What is wrong and what would be right.
        detail: String,
    },
    /// The pod has an interface of this name already.
    #[error("endpoint {id}: the pod has an interface {} already; CNI wants ADD to fail then", id.interface())]
    InterfaceExists {
        /// Which attachment.
        id: EndpointId,
    },
    /// This endpoint is attached already, maybe to another namespace; DEL comes first.
    #[error("endpoint {id}: attached already by {host_interface}; DEL it first")]
    AlreadyAttached {
        /// Which attachment.
        id: EndpointId,
        /// The host's end.
        host_interface: InterfaceName,
    },
    /// The host's interface name is taken by a device without our mark.
    #[error("endpoint {id}: the host has an interface {host_interface} that is not ours (alias {alias:?}); remove it")]
    ForeignInterface {
        /// Which attachment.
        id: EndpointId,
        /// The host's end.
        host_interface: InterfaceName,
        /// The alias found.
        alias: String,
    },
    /// The namespace is the host's own.
    #[error("endpoint {id}: the namespace is the host's own; a pod without a namespace of its own needs no network")]
    HostNamespace {
        /// Which attachment.
        id: EndpointId,
    },
    /// IPv6 is switched off in the pod and can't be switched on.
    #[error("endpoint {id}: switch IPv6 on in the pod ({path}): {source}")]
    EnableIpv6 {
        /// Which attachment.
        id: EndpointId,
        /// The sysctl's path.
        path: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The namespace can't be entered.
    #[error("endpoint {id}: {source}")]
    Namespace {
        /// Which attachment.
        id: EndpointId,
        /// Why.
        source: NetNsError,
    },
    /// The kernel refused.
    #[error("endpoint {id}: {source}")]
    Netlink {
        /// Which attachment.
        id: EndpointId,
        /// Why.
        source: netlink::Error,
    },
}

impl AttachError {
    pub(super) fn netlink(id: &EndpointId) -> impl Fn(netlink::Error) -> Self + '_ {
        move |source| Self::Netlink { id: id.clone(), source }
    }

    pub(super) fn namespace(id: &EndpointId) -> impl Fn(NetNsError) -> Self + '_ {
        move |source| Self::Namespace { id: id.clone(), source }
    }

    /// The kind that it has at a backend's border.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } | Self::HostNamespace { .. } => ErrorKind::Invalid,
            Self::InterfaceExists { .. } | Self::AlreadyAttached { .. } => ErrorKind::Conflict,
            Self::ForeignInterface { .. } => ErrorKind::Foreign,
            Self::EnableIpv6 { .. } => ErrorKind::Denied,
            Self::Namespace { .. } => ErrorKind::Missing,
            Self::Netlink { source, .. } => source.kind(),
        }
    }

    fn id(&self) -> &EndpointId {
        match self {
            Self::Invalid { id, .. }
            | Self::InterfaceExists { id }
            | Self::AlreadyAttached { id, .. }
            | Self::ForeignInterface { id, .. }
            | Self::HostNamespace { id }
            | Self::EnableIpv6 { id, .. }
            | Self::Namespace { id, .. }
            | Self::Netlink { id, .. } => id,
        }
    }
}

impl From<AttachError> for backend::Error {
    fn from(error: AttachError) -> Self {
        let object = format!("endpoint {}", error.id());
        let text = error.to_string();
        let detail = text.strip_prefix(&format!("{object}: ")).unwrap_or(&text);
        backend::Error::new(error.kind(), "attach", &object, detail).because(error)
    }
}
