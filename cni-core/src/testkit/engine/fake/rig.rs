//! The fake kernel as the suite's testbed: it can do all that a testbed can do.

use super::states::{node, tunnelled_peer};
use super::{FakeDriver, FakeKernel, FakeKey, FakeObject, Mark};
use crate::backend::{Error, ErrorKind, Result};
use crate::model::{EndpointId, Masquerade, NetworkItem, NodeContext};
use crate::testkit::engine::{DriverRig, Snapshot, Strangers, Tamper, Testbed};
use async_trait::async_trait;

/// The suite's testbed on a [`FakeKernel`].
pub struct FakeTestbed {
    kernel: FakeKernel,
}

/// A rig for the suite.
#[must_use]
pub fn rig(kernel: FakeKernel) -> DriverRig<FakeTestbed> {
    DriverRig::new(FakeTestbed { kernel })
}

impl FakeTestbed {
    fn find(&self, mark: Mark, name: &str) -> Option<FakeKey> {
        self.kernel.dump(mark).into_iter().map(|(key, _)| key).find(|key| key.to_string() == name)
    }
}

fn refused(operation: &'static str) -> impl Fn(super::Errno) -> Error {
    move |errno| Error::new(ErrorKind::Kernel, operation, "fake kernel", errno)
}

#[async_trait]
impl Testbed for FakeTestbed {
    type Driver = FakeDriver;

    fn open(&mut self) -> Result<FakeDriver> {
        Ok(FakeDriver::new(self.kernel.clone(), node()))
    }

    async fn observe(&mut self) -> Result<Vec<(FakeKey, FakeObject)>> {
        Ok(self.kernel.dump(Mark::Ours))
    }

    async fn reset(&mut self) -> Result<()> {
        self.kernel.reset();
        Ok(())
    }

    fn contexts(&self) -> Vec<NodeContext> {
        let mut other = node();
        other.underlay.mtu_bytes = 9000;
        other.masquerade = Some(Masquerade::default());
        vec![node(), other]
    }

    fn unsupported(&self) -> Vec<NetworkItem> {
        vec![tunnelled_peer()]
    }

    fn tamper(&mut self) -> Option<&mut dyn Tamper> {
        Some(self)
    }

    fn strangers(&mut self) -> Option<&mut dyn Strangers> {
        Some(self)
    }
}

#[async_trait]
impl Tamper for FakeTestbed {
    async fn remove(&mut self, object: &str) -> Result<bool> {
        let Some(key) = self.find(Mark::Ours, object) else { return Ok(false) };
        self.kernel.delete(&key).map_err(refused("tamper"))?;
        Ok(true)
    }

    async fn alter(&mut self, object: &str) -> Result<bool> {
        let Some(key) = self.find(Mark::Ours, object) else { return Ok(false) };
        self.kernel.replace(&key, FakeObject("altered".to_owned())).map_err(refused("tamper"))?;
        Ok(true)
    }

    async fn add(&mut self) -> Result<bool> {
        let id =
            EndpointId::of("nobody", "eth0").map_err(|error| Error::new(ErrorKind::Invalid, "tamper", "id", error))?;
        self.kernel.create(FakeKey::Port(id), FakeObject("added".to_owned()), Mark::Ours).map_err(refused("tamper"))?;
        Ok(true)
    }
}

#[async_trait]
impl Strangers for FakeTestbed {
    async fn add(&mut self) -> Result<()> {
        for last in 1..4 {
            let address = std::net::Ipv4Addr::new(203, 0, 113, last);
            let keys = [FakeKey::Neighbour(address.into()), FakeKey::Route(std::net::IpAddr::from(address).into())];
            for key in keys {
                self.kernel.create(key, FakeObject("dev eth0".to_owned()), Mark::Foreign).map_err(refused("add"))?;
            }
        }
        Ok(())
    }

    async fn occupy(&mut self, object: &str) -> Result<bool> {
        // The state that wants it is not there yet, so its key is looked for among all that states make.
        let mut driver = FakeDriver::new(FakeKernel::default(), node());
        let Some(key) = super::states::key_of(&mut driver, object) else { return Ok(false) };
        self.kernel.create(key, FakeObject("foreign".to_owned()), Mark::Foreign).map_err(refused("occupy"))?;
        Ok(true)
    }

    async fn leave(&mut self, object: &str) -> Result<()> {
        match self.find(Mark::Foreign, object) {
            Some(key) => self.kernel.delete(&key).map_err(refused("leave")),
            None => Ok(()),
        }
    }

    async fn list(&mut self) -> Result<Snapshot> {
        let foreign = self.kernel.dump(Mark::Foreign);
        Ok(foreign.into_iter().map(|(key, object)| (key.to_string(), object.0)).collect())
    }
}
