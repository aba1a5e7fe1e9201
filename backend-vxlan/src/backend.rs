//! The backend as agents and embedders open it. Never writes to the kernel: the first commit does.

use crate::checksum::{Decision, Task, Tester, VerdictFile};
use crate::config::{ChecksumOffload, Config, Family, Tunnel, refused};
use crate::driver::VxlanDriver;
use crate::probe::{needed, probe};
use crate::watch::VxlanWatch;
use async_trait::async_trait;
use cni_core::backend::{Backend, OpenRequest, Parts, Reconciler, Result};
use cni_core::policy::failsafe::ProtocolPort;
use cni_core::policy::model::Protocol;
use net_linux::sysctl;
use std::sync::Arc;
use tokio::sync::Notify;

/// The `vxlan` backend. Opened within a tokio runtime, in the network namespace of the calling thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct Vxlan;

#[async_trait]
impl Backend for Vxlan {
    fn name(&self) -> &str {
        "vxlan"
    }

    fn check(&self, config: &serde_json::Value) -> Result<()> {
        Config::from_json(config).map(|_| ()).map_err(refused)
    }

    async fn open(&self, request: OpenRequest) -> Result<Parts> {
        let config = Config::from_json(&request.config).map_err(refused)?;
        let capabilities = probe(&config);
        capabilities.require(&needed(&config, request.node.masquerade.is_some()))?;
        let interface = request.node.underlay.interface.clone();
        let mut notices: Vec<String> = router_advertisements(&config, interface.as_str()).into_iter().collect();
        let file = VerdictFile::new(&request.state_dir, interface.as_str());
        let decision = Decision::new(config.checksum);
        if config.checksum == ChecksumOffload::Auto && file.is_broken() {
            decision.decide(false);
            notices.push(format!(
                "checksum offload of the tunnel device stays off: the path over {interface} was found to break it; delete {} to test again",
                file.path().display()
            ));
        }
        let driver = VxlanDriver::open(&config, &request.node, capabilities, decision.clone())?;
        let decided = Arc::new(Notify::new());
        let watch = VxlanWatch::open(driver.watched().clone(), interface, driver.ports(), decided.clone())?;
        let task = Task {
            mac: driver.compiler().mac(),
            watched: driver.watched().clone(),
            decision,
            decided,
            file,
            tests: config.checksum == ChecksumOffload::Auto,
            interval: config.checksum_interval,
        };
        let tester = (config.mode.tunnel() == Tunnel::Vxlan).then(|| Tester::start(task)).transpose();
        let tester = tester.unwrap_or_else(|error| {
            notices.push(format!("checksums of the path are not tested: UDP port 8473 of the node: {error}"));
            None
        });
        let driver = driver.with_tester(tester);
        let (pod_mtu_bytes, attributes) = (driver.compiler().pod_mtu_bytes(), driver.compiler().attributes());
        let mut parts = Parts::new(Box::new(Reconciler::new(driver)?), pod_mtu_bytes);
        parts.attributes = attributes;
        parts.drift = Some(Box::new(watch));
        parts.notices = notices;
        parts.node_ports = node_ports(&config);
        Ok(parts)
    }
}

/// The tunnel's port, and that of the test of its path.
fn node_ports(config: &Config) -> Vec<ProtocolPort> {
    let udp = |port| ProtocolPort { protocol: Protocol::UDP, port };
    match config.mode.tunnel() {
        Tunnel::None => Vec::new(),
        Tunnel::Vxlan => vec![udp(config.port.get()), udp(Tester::PORT)],
        Tunnel::Udp => vec![udp(config.port.get())],
    }
}

/// A router takes no router advertisements unless it is told so twice (`accept_ra` 2): a node that has its default route
/// from them would lose it once we turn forwarding on.
fn router_advertisements(config: &Config, interface: &str) -> Option<String> {
    let setting = format!("net/ipv6/conf/{interface}/accept_ra");
    let taken = config.families.contains(&Family::Ipv6) && sysctl::read(&setting).is_ok_and(|value| value == "1");
    let forwards = sysctl::read("net/ipv6/conf/all/forwarding").is_ok_and(|value| value == "1");
    (taken && !forwards).then(|| {
        format!(
            "IPv6 forwarding is turned on, so {interface} takes no more router advertisements; if its default route comes \
             from them, set {} to 2",
            setting.replace('/', ".")
        )
    })
}
