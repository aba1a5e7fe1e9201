//! The file as a testbed of the conformance suite: how to read it, empty it, tamper with it. Never asks the driver.

use super::*;
use cni_core::testkit::engine::{
    Conformance, DriverRig, Settings, Snapshot, Strangers, Tamper, Testbed, Violation, conformance,
};

/// Leaves out what this backend cannot do, so that the states can be reached.
pub(super) fn ipv4_only(mut item: NetworkItem) -> Option<NetworkItem> {
    if let NetworkItem::Peer(peer) = &mut item {
        peer.prefixes.retain(|prefix| prefix.prefix.addr().is_ipv4());
    }
    Some(item)
}

/// Runs the suite over this backend.
pub(super) async fn judge() -> Result<Conformance, Violation> {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let mut rig = DriverRig::new(FileTestbed(RouteFile(dir.path().join("routes"))));
    conformance(&mut rig, &fake::network_states(ipv4_only), Settings { fault_points: 8, ..Settings::default() }).await
}

struct FileTestbed(RouteFile);

#[async_trait]
impl Testbed for FileTestbed {
    type Driver = FileDriver;

    fn open(&mut self) -> Result<FileDriver> {
        Ok(open(self.0.clone()))
    }
    async fn observe(&mut self) -> Result<Routes> {
        self.0.routes(true)
    }
    async fn reset(&mut self) -> Result<()> {
        self.0.edit(Vec::clear)
    }
    fn contexts(&self) -> Vec<NodeContext> {
        vec![fake::node()]
    }
    fn unsupported(&self) -> Vec<NetworkItem> {
        fake::network_states(Some).swap_remove(1)
    }
    fn tamper(&mut self) -> Option<&mut dyn Tamper> {
        Some(self)
    }
    fn strangers(&mut self) -> Option<&mut dyn Strangers> {
        Some(self)
    }
}

#[async_trait]
impl Tamper for FileTestbed {
    async fn remove(&mut self, object: &str) -> Result<bool> {
        self.0.edit(|lines| lines.retain(|line| !line.starts_with(object))).map(|()| true)
    }
    async fn alter(&mut self, object: &str) -> Result<bool> {
        self.remove(object).await?;
        self.0.edit(|lines| lines.push(format!("{object} via 203.0.113.9 {MARK}"))).map(|()| true)
    }
    async fn add(&mut self) -> Result<bool> {
        self.0.edit(|lines| lines.push(format!("198.51.100.0/24 via 203.0.113.9 {MARK}"))).map(|()| true)
    }
}

#[async_trait]
impl Strangers for FileTestbed {
    async fn add(&mut self) -> Result<()> {
        self.0.edit(|lines| lines.extend(["# by hand", "203.0.113.0/24 via 192.0.2.254"].map(str::to_owned)))
    }
    async fn occupy(&mut self, object: &str) -> Result<bool> {
        self.0.edit(|lines| lines.push(format!("{object} via 203.0.113.9"))).map(|()| true)
    }
    async fn leave(&mut self, object: &str) -> Result<()> {
        self.0.edit(|lines| lines.retain(|line| *line != format!("{object} via 203.0.113.9")))
    }
    async fn list(&mut self) -> Result<Snapshot> {
        let foreign = self.0.lines()?.into_iter().filter(|line| !line.ends_with(MARK));
        Ok(foreign.map(|line| (line, String::new())).collect())
    }
}

#[tokio::test]
async fn the_backend_keeps_every_law_that_the_testbed_can_test() {
    let report = judge().await.unwrap_or_else(|violation| panic!("{violation}"));
    let skipped: Vec<_> = report.skipped().map(|(law, _)| law.to_string()).collect();
    assert_eq!(skipped, ["node change", "gates hold"], "{report}");
}
