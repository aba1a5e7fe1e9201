//! What the next [`drain`](Tables::drain) will have changed, as what it means: decided by what decides the writes, and with nothing
//! made. Never more work than what is staged asks for.

use super::PolicyError;
use super::compiled::Compiled;
use super::items::Parts;
use super::make::Make;
use super::meaning::{self, Digest};
use super::programs::Programs;
use super::rules::Rules;
use super::tables::{Concerned, Tables};
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::model::Direction;
use cni_core::policy::program::{DirectionProgram, PolicyKey};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What is enforced at one address: ingress, egress.
pub type AtAddress = [Digest; 2];

/// What is enforced at interfaces, by address.
pub type AtInterfaces = BTreeMap<InterfaceName, BTreeMap<IpAddr, AtAddress>>;

/// What will be there, of what is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outlook {
    /// What prefixes are said to be; `None`: nothing any more.
    pub identities: BTreeMap<IpNet, Option<Digest>>,
    /// What is enforced of pods, at their interfaces, there or not. Nothing: an endpoint is gone, or cannot be enforced.
    pub interfaces: AtInterfaces,
    /// What is enforced of the node itself, at all interfaces; `None`: as before.
    pub hosts: Option<AtInterfaces>,
}

impl Tables {
    /// What the next `drain` will have changed; and what these endpoints are to have, changed or not.
    #[must_use]
    pub fn outlook<'a>(&self, endpoints: impl IntoIterator<Item = &'a EndpointId>) -> Outlook {
        let mut concerned = self.concerned();
        concerned.endpoints.extend(endpoints.into_iter().cloned());
        self.look(concerned)
    }

    /// All that shall be there.
    #[must_use]
    pub fn whole(&self) -> Outlook {
        self.look(Concerned {
            prefixes: self.items.identities.named().collect(),
            endpoints: self.items.endpoints.keys().cloned().collect(),
            hosts: true,
        })
    }

    fn look(&self, concerned: Concerned) -> Outlook {
        let mut meanings = Meanings { programs: &self.programs, rules: Rules::default() };
        let identities = concerned.prefixes.into_iter();
        let identities = identities.map(|(prefix, atoms)| (prefix, atoms.map(|atoms| meaning::of_atoms(&atoms))));
        let mut names: BTreeSet<InterfaceName> = BTreeSet::new();
        for id in &concerned.endpoints {
            names.extend(self.items.host_interface(id).cloned());
            names.extend(self.told_of.get(id).map(|told| told.interface.clone()));
        }
        let mut interfaces = AtInterfaces::new();
        for name in names {
            let mut addresses = BTreeMap::new();
            for id in self.items.at(&name) {
                // What cannot be enforced is closed.
                addresses.extend(self.items.endpoint(id, &mut meanings).unwrap_or_default());
            }
            interfaces.insert(name, addresses);
        }
        let hosts = concerned.hosts.then(|| {
            let mut all = AtInterfaces::new();
            for host in self.items.hosts(&mut meanings).0 {
                all.entry(host.name.clone()).or_default().insert(host.address(), host.programs);
            }
            all
        });
        Outlook { identities: identities.collect(), interfaces, hosts }
    }
}

/// What programs would mean.
struct Meanings<'a> {
    programs: &'a Programs,
    /// Their numbers are in no verdict.
    rules: Rules,
}

impl Make for Meanings<'_> {
    type Program = Digest;

    fn program(
        &mut self,
        item: &PolicyKey,
        direction: Direction,
        address: IpAddr,
        program: &DirectionProgram,
        parts: &Parts<'_>,
    ) -> Result<Digest, PolicyError> {
        let source = parts.source(item, direction, address, program, &mut self.rules)?;
        let meant = meaning::of_source(&source, &self.rules);
        // One that is there was not too large.
        if !self.programs.mean(&meant) {
            Compiled::new(&source).map_err(|_| PolicyError::TooLarge { item: item.clone(), direction })?;
        }
        Ok(meant)
    }
}
