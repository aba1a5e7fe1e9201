//! A driver on the fake kernel, with all that drivers can have: base objects, levels, gates, shared objects. Never fails
//! but as the kernel does.

use super::{Errno, FakeKernel, FakeKey, FakeObject, Mark};
use crate::backend::{Capabilities, Capability, Driver, Error, ErrorKind, Gate, Op, Rank, Result};
use crate::model::{Encapsulation, Endpoint, NetworkItem, NodeContext, Peer};
use async_trait::async_trait;
use ipnet::IpNet;

/// The pod network on a [`FakeKernel`].
pub struct FakeDriver {
    kernel: FakeKernel,
    node: NodeContext,
    capabilities: Capabilities,
}

type Objects = Vec<(FakeKey, FakeObject)>;

impl FakeDriver {
    /// A driver for this node. There is no tunnel here, so that something is missing.
    #[must_use]
    pub fn new(kernel: FakeKernel, node: NodeContext) -> Self {
        let capabilities = Capabilities::default()
            .with(Capability::Ipv4)
            .with(Capability::Ipv6)
            .with(Capability::DirectRouting)
            .with(Capability::Masquerade)
            .without(Capability::Tunnel, "a fake kernel has no packets to wrap")
            .without(Capability::ServiceAddresses, "a fake kernel has no routers around it");
        Self { kernel, node, capabilities }
    }

    fn peer(&self, peer: &Peer) -> Result<Objects> {
        let gateways = [peer.v4.map(Into::into), peer.v6.map(Into::into)];
        let gateways: Vec<std::net::IpAddr> = gateways.into_iter().flatten().collect();
        let first = gateways.first().ok_or_else(|| {
            Error::invalid(format!("peer {}", peer.node), "v4", "the peer has no address on the underlay: give it one")
        })?;
        let mut objects: Objects = Vec::new();
        for gateway in &gateways {
            let mac = peer.attributes.get("mac").map_or("unknown", |mac| mac);
            objects.push((FakeKey::Neighbour(*gateway), FakeObject(format!("mac {mac}"))));
        }
        let mtu = self.node.underlay.mtu_bytes;
        for prefix in &peer.prefixes {
            if prefix.encapsulation == Some(Encapsulation::Always) {
                self.capabilities.require(&[Capability::Tunnel])?;
            }
            objects.push((FakeKey::Route(prefix.prefix), FakeObject(format!("via {first} mtu {mtu}"))));
        }
        Ok(objects)
    }

    fn endpoint(endpoint: &Endpoint) -> Objects {
        let id = &endpoint.id;
        let routes = endpoint.addresses.iter().map(|address| {
            (FakeKey::Route(IpNet::from(*address)), FakeObject(format!("dev {}", endpoint.host_interface)))
        });
        let mut objects: Objects = routes.collect();
        objects.push((FakeKey::Policy(id.clone()), FakeObject(format!("allow {:?}", endpoint.addresses))));
        objects.push((FakeKey::Port(id.clone()), FakeObject(format!("open {}", endpoint.host_interface))));
        objects
    }

    fn put(&self, key: &FakeKey, object: &FakeObject) -> Result<()> {
        let refused = |errno: Errno| {
            let kind = if errno == Errno::ENODEV { ErrorKind::Missing } else { ErrorKind::Kernel };
            Error::new(kind, "put", key, errno).because(errno)
        };
        match self.kernel.get(key) {
            Some((_, Mark::Foreign)) => {
                let detail = "an object that is not ours stands there: remove it or give it another place";
                Err(Error::new(ErrorKind::Foreign, "put", key, detail))
            }
            Some((_, Mark::Ours)) => self.kernel.replace(key, object.clone()).map_err(refused),
            // Whatever we believed to be there: a put is idempotent.
            None => self.kernel.create(key.clone(), object.clone(), Mark::Ours).map_err(refused),
        }
    }

    fn delete(&self, key: &FakeKey) -> Result<()> {
        match self.kernel.get(key) {
            // Gone, or never ours: nothing of ours is there.
            None | Some((_, Mark::Foreign)) => Ok(()),
            Some((_, Mark::Ours)) => self
                .kernel
                .delete(key)
                .map_err(|errno| Error::new(ErrorKind::Kernel, "delete", key, errno).because(errno)),
        }
    }
}

#[async_trait]
impl Driver for FakeDriver {
    type Item = NetworkItem;
    type Key = FakeKey;
    type Object = FakeObject;

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn adopt(&mut self, node: &NodeContext) -> Result<()> {
        self.node = node.clone();
        Ok(())
    }

    fn configure(&mut self, _: &serde_json::Value) -> Result<()> {
        Ok(())
    }

    fn base(&self) -> Result<Objects> {
        let device = (FakeKey::Device, FakeObject(format!("mtu {}", self.node.underlay.mtu_bytes)));
        let nat = self.node.masquerade.as_ref().map(|nat| (FakeKey::Nat, FakeObject(format!("{nat:?}"))));
        Ok([Some(device), nat].into_iter().flatten().collect())
    }

    fn compile(&self, item: &NetworkItem) -> Result<Objects> {
        match item {
            NetworkItem::Block(block) => Ok(vec![(FakeKey::Route(block.prefix), FakeObject("unreachable".to_owned()))]),
            NetworkItem::Endpoint(endpoint) => Ok(Self::endpoint(endpoint)),
            NetworkItem::Peer(peer) => self.peer(peer),
            NetworkItem::ServiceAddress(_) => {
                self.capabilities.require(&[Capability::ServiceAddresses])?;
                Ok(Vec::new())
            }
        }
    }

    fn rank(&self, key: &FakeKey) -> Rank {
        match key {
            FakeKey::Device => Rank::level(0).gate(Gate::All),
            FakeKey::Nat | FakeKey::Neighbour(_) => Rank::level(1),
            FakeKey::Policy(_) => Rank::level(1).gate(Gate::Item),
            FakeKey::Route(_) => Rank::level(2),
            FakeKey::Port(_) => Rank::level(3),
        }
    }

    async fn observe(&mut self) -> Result<Objects> {
        Ok(self.kernel.dump(Mark::Ours))
    }

    async fn apply(&mut self, batch: &[Op<FakeKey, FakeObject>]) -> Vec<Result<()>> {
        let results = batch.iter().map(|op| match op {
            Op::Put { key, object, .. } => self.put(key, object),
            Op::Delete { key, .. } => self.delete(key),
        });
        results.collect()
    }
}
