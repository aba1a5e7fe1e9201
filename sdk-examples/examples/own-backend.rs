//! An own backend: routes to other nodes in a text file, as for a routing daemon that reads one. Never touches the kernel.
//!
//! `cargo run -p sdk-examples --example own-backend` registers it, stages two peers, shows the plan, writes the file,
//! and lets the conformance suite judge it. A line without our mark is not ours to touch.

use async_trait::async_trait;
use cni_core::backend::{
    Backend, Capabilities, Capability, Change, Driver, Error, ErrorKind, Op, OpenRequest, Parts, Rank, Reconciler,
    Registry, Result,
};
use cni_core::model::{NetworkItem, NodeContext};
use cni_core::testkit::engine::fake;
use ipnet::IpNet;
use std::path::PathBuf;

#[path = "own-backend/testbed.rs"]
mod testbed;

const MARK: &str = "# cnidarian";
type Routes = Vec<(IpNet, String)>;

/// The "kernel": a file with one route per line, `10.1.1.0/26 via 192.0.2.11 # cnidarian`.
#[derive(Clone)]
struct RouteFile(PathBuf);

impl RouteFile {
    fn lines(&self) -> Result<Vec<String>> {
        match std::fs::read_to_string(&self.0) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Error::new(ErrorKind::Kernel, "read", self.0.display(), &error).because(error)),
        }
    }
    fn edit(&self, edit: impl FnOnce(&mut Vec<String>)) -> Result<()> {
        let mut lines = self.lines()?;
        edit(&mut lines);
        let text: String = lines.into_iter().map(|line| line + "\n").collect();
        let failed = |error| Error::new(ErrorKind::Kernel, "write", self.0.display(), &error).because(error);
        // A reader sees the old file or the new one, never half of it.
        let draft = self.0.with_extension("new");
        std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, &self.0)).map_err(failed)
    }
    /// Routes with (`true`) or without our mark.
    fn routes(&self, ours: bool) -> Result<Routes> {
        let lines = self.lines()?.into_iter().filter(|line| line.ends_with(MARK) == ours);
        let parse = |line: String| {
            let (prefix, rest) = line.split_once(" via ")?;
            Some((prefix.parse().ok()?, rest.trim_end_matches(MARK).trim().to_owned()))
        };
        Ok(lines.filter_map(parse).collect())
    }
}

/// The translator and driver: all that a backend author must write.
struct FileDriver(RouteFile, Capabilities);

#[async_trait]
impl Driver for FileDriver {
    type Item = NetworkItem;
    type Key = IpNet;
    type Object = String;

    fn capabilities(&self) -> &Capabilities {
        &self.1
    }
    fn adopt(&mut self, _: &NodeContext) -> Result<()> {
        Ok(())
    }
    fn configure(&mut self, section: &serde_json::Value) -> Result<()> {
        // This backend has nothing to configure but its file, which is chosen when it is opened.
        let detail = "takes effect when the agent is started again";
        if section.is_null() {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Unsupported, "configure", "backend file", detail))
        }
    }
    fn base(&self) -> Result<Routes> {
        Ok(Vec::new())
    }
    fn compile(&self, item: &NetworkItem) -> Result<Routes> {
        let NetworkItem::Peer(peer) = item else { return Ok(Vec::new()) };
        let nowhere =
            || Error::invalid(format!("peer {}", peer.node), "v4", "routes here go via IPv4: give it an address");
        let gateway = peer.v4.ok_or_else(nowhere)?;
        if peer.prefixes.iter().any(|prefix| prefix.prefix.addr().is_ipv6()) {
            self.1.require(&[Capability::Ipv6])?;
        }
        Ok(peer.prefixes.iter().map(|prefix| (prefix.prefix, gateway.to_string())).collect())
    }
    fn rank(&self, _: &IpNet) -> Rank {
        Rank::level(0)
    }
    async fn observe(&mut self) -> Result<Routes> {
        self.0.routes(true)
    }
    async fn apply(&mut self, batch: &[Op<IpNet, String>]) -> Vec<Result<()>> {
        let apply = |op: &Op<IpNet, String>| {
            let (Op::Put { key, .. } | Op::Delete { key, .. }) = op;
            let (foreign, prefix) = (self.0.routes(false)?, format!("{key} via "));
            match op {
                Op::Put { .. } if foreign.iter().any(|(prefix, _)| prefix == key) => {
                    Err(Error::new(ErrorKind::Foreign, "put", key, "a line without our mark has this route: remove it"))
                }
                Op::Put { object, .. } => self.0.edit(|lines| {
                    lines.retain(|line| !(line.starts_with(&prefix) && line.ends_with(MARK)));
                    lines.push(format!("{prefix}{object} {MARK}"));
                }),
                Op::Delete { .. } => {
                    self.0.edit(|lines| lines.retain(|line| !(line.starts_with(&prefix) && line.ends_with(MARK))))
                }
            }
        };
        batch.iter().map(apply).collect()
    }
}

/// What a registry holds.
struct FileBackend;

#[async_trait]
impl Backend for FileBackend {
    fn name(&self) -> &str {
        "file"
    }
    fn check(&self, config: &serde_json::Value) -> Result<()> {
        let bad =
            || Error::invalid("backend file", "config", format!("{config}: there is nothing to set, leave it out"));
        if config.is_null() { Ok(()) } else { Err(bad()) }
    }
    async fn open(&self, request: OpenRequest) -> Result<Parts> {
        self.check(&request.config)?;
        let driver = open(RouteFile(request.state_dir.join("routes")));
        Ok(Parts::new(Box::new(Reconciler::new(driver)?), request.node.underlay.mtu_bytes))
    }
}

fn open(file: RouteFile) -> FileDriver {
    FileDriver(
        file,
        Capabilities::default().with(Capability::Ipv4).without(Capability::Ipv6, "the file has no such routes"),
    )
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (dir, registry) = (tempfile::tempdir()?, Registry::default().with(FileBackend));
    let request = OpenRequest {
        node: fake::node(),
        config: serde_json::Value::Null,
        state_dir: dir.path().to_owned(),
        host_stack_for: Vec::new(),
    };
    let mut datapath = registry.get("file")?.open(request).await?.datapath;
    for item in fake::network_states(testbed::ipv4_only).swap_remove(2) {
        datapath.stage(Change::Put(item))?;
    }
    datapath.stage(Change::InSync)?;
    println!("plan:\n{}", datapath.plan());
    println!("written: {}\n{}", datapath.commit().await.written, std::fs::read_to_string(dir.path().join("routes"))?);
    println!("{}", testbed::judge().await?);
    Ok(())
}
