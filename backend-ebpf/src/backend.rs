//! The backend as agents and embedders open it. Never writes to the kernel: the first commit does.

use crate::config::{Config, Mode, refused};
use crate::driver::EbpfDriver;
use crate::kernel::forward::Forward;
use crate::kernel::{Hook, KernelError, Side, masquerade};
use crate::ports;
use crate::probe::{needed, probe};
use crate::watch::EbpfWatch;
use async_trait::async_trait;
use cni_core::backend::{Backend, Error, ErrorKind, OpenRequest, Parts, Reconciler, Result};
use cni_core::policy::failsafe::ProtocolPort;
use cni_core::policy::model::Protocol;
use net_linux::link::{Link, LinkFilter};
use net_linux::netlink::Socket;
use std::sync::Arc;

/// The `ebpf` backend, at the hooks that [`Hook::probe`] finds, as the policy engine's. Opened within a tokio runtime, in the network
/// namespace of the calling thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ebpf;

/// The same at hooks of this kind, whatever this kernel has beside. A policy engine in eBPF on the same node has to be at the same.
#[derive(Debug, Clone, Copy)]
pub struct EbpfAt(pub Hook);

#[async_trait]
impl Backend for Ebpf {
    fn name(&self) -> &str {
        NAME
    }

    fn check(&self, config: &serde_json::Value) -> Result<()> {
        Config::from_json(config).map(|_| ()).map_err(refused)
    }

    /// The fast path and masquerading, at every hook: nobody else asks interfaces for programs. What is at the tunnel device goes
    /// with it.
    fn clear(&self) -> Result<()> {
        Hook::every().into_iter().try_for_each(clear)
    }

    async fn open(&self, request: OpenRequest) -> Result<Parts> {
        EbpfAt(Hook::probe()).open(request).await
    }
}

#[async_trait]
impl Backend for EbpfAt {
    fn name(&self) -> &str {
        NAME
    }

    fn check(&self, config: &serde_json::Value) -> Result<()> {
        Ebpf.check(config)
    }

    fn clear(&self) -> Result<()> {
        Ebpf.clear()
    }

    async fn open(&self, request: OpenRequest) -> Result<Parts> {
        let config = Config::from_json(&request.config).map_err(refused)?;
        refuse_fast_path(&config, &request.host_stack_for)?;
        ports::refuse_taken(&config)?;
        let capabilities = probe(&config, self.0);
        capabilities.require(&needed(&config, request.node.masquerade.is_some()))?;
        let driver = EbpfDriver::open_at(&config, &request.node, capabilities, self.0)?;
        let interface = request.node.underlay.interface.clone();
        let watch = EbpfWatch::open(driver.watched().clone(), interface, driver.ports(), self.0)?;
        let (pod_mtu_bytes, attributes) = (driver.compiler().pod_mtu_bytes(), driver.compiler().attributes());
        let meter = Arc::new(driver.metered().clone());
        let mut parts = Parts::new(Box::new(Reconciler::new(driver)?), pod_mtu_bytes);
        parts.attributes = attributes;
        parts.drift = Some(Box::new(watch));
        parts.meter = Some(meter);
        let tunnel = ProtocolPort { protocol: Protocol::UDP, port: config.port.get() };
        parts.node_ports = (config.mode == Mode::Vxlan).then_some(tunnel).into_iter().collect();
        Ok(parts)
    }
}

const NAME: &str = "ebpf";

/// Takes programs off hooks of one kind.
fn clear(hook: Hook) -> Result<()> {
    let failed = |at: &str, error: KernelError| {
        Error::new(ErrorKind::Kernel, "clear", format!("programs of {at}"), &error).because(error)
    };
    let mut hooks = hook.open().map_err(|error| failed("interfaces", error))?;
    for link in Link::dump(&mut Socket::route()?, &LinkFilter::default())? {
        let mut clear = || {
            for found in hooks.find::<Forward>(link.index, Side::Ingress)? {
                if found.program.is_of_fast_path() {
                    hooks.detach(&found)?;
                }
            }
            let masquerading = masquerade::find(&mut hooks, link.index)?;
            masquerading.iter().try_for_each(|found| hooks.detach(found))
        };
        clear().map_err(|error| failed(&link.name, error))?;
    }
    Ok(())
}

/// Who has to see packets in the host's stack would not see those that skip it.
fn refuse_fast_path(config: &Config, host_stack_for: &[String]) -> Result<()> {
    if !config.fast_path || host_stack_for.is_empty() {
        return Ok(());
    }
    let detail = format!(
        "{} sees packets of pods in the host's stack only, and these would skip it; leave `fastPath` out, or choose another",
        host_stack_for.join(" and ")
    );
    let error = Error::new(ErrorKind::Unsupported, "open", "backend ebpf", detail);
    Err(Error { field: Some("fastPath"), ..error })
}
