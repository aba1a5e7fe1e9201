//! What a verb gets to know: checked values only. Never does anything itself, except through [`Delegate`].

use super::Delegate;
use crate::cni::{AddResult, CniArgs, CniError, Environment, ErrorCode, NetConf, Parameters, Verb};
use crate::model::{ContainerId, EndpointId, InterfaceName, PluginType};
use crate::runtime::Exec;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a request came from: what a delegated plugin has to get unchanged.
#[derive(Clone)]
pub struct Origin {
    /// The verb.
    pub verb: Verb,
    /// Where to look for plugins: `CNI_PATH`.
    pub path: Vec<PathBuf>,
    /// The environment of the call.
    pub environment: Environment,
    /// The configuration as it came.
    pub stdin: Vec<u8>,
    /// How to run plugins.
    pub exec: Arc<dyn Exec>,
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origin").field("verb", &self.verb).field("path", &self.path).finish_non_exhaustive()
    }
}

/// ADD.
#[derive(Debug, Clone)]
pub struct AddRequest {
    /// The container.
    pub container_id: ContainerId,
    /// The interface to make inside it.
    pub ifname: InterfaceName,
    /// The container's network namespace.
    pub netns: PathBuf,
    /// Extra arguments of the runtime's user.
    pub args: CniArgs,
    /// The configuration.
    pub conf: NetConf,
    /// For delegation.
    pub origin: Origin,
}

/// CHECK: the same as the ADD it checks, with that ADD's final result in `conf.prev_result`.
#[derive(Debug, Clone)]
pub struct CheckRequest {
    /// The container.
    pub container_id: ContainerId,
    /// The interface inside it.
    pub ifname: InterfaceName,
    /// The container's network namespace.
    pub netns: PathBuf,
    /// Extra arguments of the runtime's user.
    pub args: CniArgs,
    /// The configuration.
    pub conf: NetConf,
    /// For delegation.
    pub origin: Origin,
}

/// DEL. The final result of the ADD is in `conf.prev_result`, if there was one and the runtime still has it.
#[derive(Debug, Clone)]
pub struct DelRequest {
    /// The container.
    pub container_id: ContainerId,
    /// The interface inside it.
    pub ifname: InterfaceName,
    /// The container's network namespace, when there still is one.
    pub netns: Option<PathBuf>,
    /// Extra arguments of the runtime's user.
    pub args: CniArgs,
    /// The configuration.
    pub conf: NetConf,
    /// For delegation.
    pub origin: Origin,
}

/// STATUS.
#[derive(Debug, Clone)]
pub struct StatusRequest {
    /// The configuration.
    pub conf: NetConf,
    /// For delegation.
    pub origin: Origin,
}

/// GC.
#[derive(Debug, Clone)]
pub struct GcRequest {
    /// The configuration.
    pub conf: NetConf,
    /// For delegation.
    pub origin: Origin,
}

impl GcRequest {
    /// Which attachments are valid. `None`: the runtime did not say, so nothing may be freed. Empty: none is valid.
    #[must_use]
    pub fn valid_attachments(&self) -> Option<&BTreeSet<EndpointId>> {
        self.conf.valid_attachments.as_ref()
    }
}

impl CheckRequest {
    /// The final result of the ADD.
    ///
    /// # Errors
    /// Code 7 when the runtime left it out.
    pub fn added(&self) -> Result<&AddResult, CniError> {
        self.conf.prev_result.as_ref().ok_or_else(|| {
            CniError::new(ErrorCode::InvalidConfig, "network configuration: prevResult is missing")
                .details("CHECK compares with the result of ADD: the runtime has to pass it")
        })
    }
}

macro_rules! attachment_request {
    ($($request:ty),*) => {$(
        impl $request {
            /// The attachment: container and interface.
            #[must_use]
            pub fn id(&self) -> EndpointId {
                EndpointId::of(self.container_id.as_str(), self.ifname.as_str())
                    .expect("a checked container id and a checked interface name make an endpoint id")
            }
        }
    )*};
}
attachment_request!(AddRequest, CheckRequest, DelRequest);

macro_rules! delegating_request {
    ($($request:ty),*) => {$(
        impl $request {
            /// A plugin to delegate to, with this request.
            #[must_use]
            pub fn delegate(&self, plugin: &PluginType) -> Delegate<'_> {
                Delegate::new(&self.origin, &self.conf, plugin.clone())
            }

            /// The IPAM plugin that the configuration names, if it names one.
            #[must_use]
            pub fn ipam(&self) -> Option<Delegate<'_>> {
                Some(self.delegate(self.conf.ipam.as_ref()?.plugin.as_ref()?))
            }

            /// The IPAM plugin, for a plugin that cannot do without.
            ///
            /// # Errors
            /// Code 7 when the configuration names none.
            pub fn require_ipam(&self) -> Result<Delegate<'_>, CniError> {
                self.ipam().ok_or_else(|| {
                    CniError::new(ErrorCode::InvalidConfig, "network configuration: ipam.type is missing")
                        .details("name the IPAM plugin that gives the addresses, as in \"host-local\"")
                })
            }
        }
    )*};
}
delegating_request!(AddRequest, CheckRequest, DelRequest, StatusRequest, GcRequest);

/// One request of any verb but VERSION.
pub(super) enum Request {
    Add(AddRequest),
    Del(DelRequest),
    Check(CheckRequest),
    Status(StatusRequest),
    Gc(GcRequest),
}

impl Request {
    pub(super) fn new(parameters: Parameters, conf: NetConf, origin: Origin) -> Result<Self, CniError> {
        let Parameters { verb, container_id, ifname, netns, args, .. } = parameters;
        let lost = |name| CniError::new(ErrorCode::InvalidEnvironment, format!("{name}: not set"));
        let container_id = || container_id.ok_or_else(|| lost("CNI_CONTAINERID"));
        let ifname = || ifname.ok_or_else(|| lost("CNI_IFNAME"));
        Ok(match verb {
            Verb::Add => Self::Add(AddRequest {
                container_id: container_id()?,
                ifname: ifname()?,
                netns: netns.ok_or_else(|| lost("CNI_NETNS"))?,
                args,
                conf,
                origin,
            }),
            Verb::Check => Self::Check(CheckRequest {
                container_id: container_id()?,
                ifname: ifname()?,
                netns: netns.ok_or_else(|| lost("CNI_NETNS"))?,
                args,
                conf,
                origin,
            }),
            Verb::Del => {
                Self::Del(DelRequest { container_id: container_id()?, ifname: ifname()?, netns, args, conf, origin })
            }
            Verb::Status => Self::Status(StatusRequest { conf, origin }),
            Verb::Gc => Self::Gc(GcRequest { conf, origin }),
            Verb::Version => unreachable!("VERSION is answered before a request is made"),
        })
    }
}
