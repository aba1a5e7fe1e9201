//! IPVS: virtual services, their destinations and what passes them, over generic netlink. Never decides which there should be.
//!
//! The kernel keeps no owner for a service. Ours carry a mark in bits of their flags that have no meaning ([`marks`]).
//!
//! [`marks`]: crate::marks::IPVS_SERVICE
//! `include/uapi/linux/ip_vs.h`, `net/netfilter/ipvs/ip_vs_ctl.c`.

mod destination;
mod service;
mod stats;
#[cfg(test)]
mod tests;

pub use destination::{Connections, Destination, Forward};
pub use service::{Flags, Service, ServiceId};
pub use stats::Stats;

use crate::netlink::{Batch, Family, Protocol, Result, Socket, wire};
use nix::errno::Errno;
use std::process::{Command, Stdio};

const FAMILY: &str = "IPVS";
const VERSION: u8 = 1;

const CMD_NEW_SERVICE: u8 = 1;
const CMD_SET_SERVICE: u8 = 2;
const CMD_DEL_SERVICE: u8 = 3;
const CMD_GET_SERVICE: u8 = 4;
const CMD_NEW_DEST: u8 = 5;
const CMD_SET_DEST: u8 = 6;
const CMD_DEL_DEST: u8 = 7;
const CMD_GET_DEST: u8 = 8;

const CMD_ATTR_SERVICE: u16 = 1;
const CMD_ATTR_DEST: u16 = 2;

/// A connection to IPVS of the network namespace of the thread that opened it.
///
/// ```no_run
/// use net_linux::ipvs::{Destination, Ipvs, Service, ServiceId};
/// let mut ipvs = Ipvs::open()?;
/// let id = ServiceId::address(6, "10.96.0.10:80".parse().unwrap());
/// let mut batch = ipvs.batch();
/// batch.create(&Service::new(id, "rr"));
/// batch.create_destination(&id, &Destination::new("10.244.1.2:8080".parse().unwrap()));
/// for result in ipvs.run(batch) {
///     result?;
/// }
/// # Ok::<(), net_linux::netlink::Error>(())
/// ```
#[derive(Debug)]
pub struct Ipvs {
    socket: Socket,
    family: Family,
}

impl Ipvs {
    /// Opens a connection.
    ///
    /// # Errors
    /// [`Error::Kernel`](crate::netlink::Error::Kernel) with `ENOENT`: this kernel has no IPVS, or its module `ip_vs` is not
    /// loaded.
    pub fn open() -> Result<Self> {
        let mut socket = Socket::open(Protocol::Generic)?;
        let family = Family::find(&mut socket, FAMILY, VERSION)?;
        Ok(Self { socket, family })
    }

    /// The same, with its module loaded where that was not done yet and this process may do it (`modprobe`).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_loading() -> Result<Self> {
        Self::open().or_else(|error| {
            if error.errno() != Some(Errno::ENOENT) {
                return Err(error);
            }
            // What it says is of no use: the second attempt tells.
            let _ = Command::new("modprobe").args(["-q", "ip_vs"]).stdin(Stdio::null()).status();
            Self::open()
        })
    }

    /// An empty batch of changes.
    #[must_use]
    pub fn batch(&self) -> Changes {
        Changes { family: self.family, batch: Batch::new() }
    }

    /// Makes changes, in order; one result each. One that fails does not stop the others.
    pub fn run(&mut self, changes: Changes) -> Vec<Result<()>> {
        let mut batch = changes.batch;
        self.socket.run(&mut batch)
    }

    /// All services of the namespace, whoever made them.
    ///
    /// # Errors
    /// The kernel refused, or the socket failed.
    pub fn services(&mut self) -> Result<Vec<(Service, Stats)>> {
        let family = self.family;
        self.socket.dump(
            "IPVS services",
            family.id,
            |message| family.command(message, CMD_GET_SERVICE),
            |_, payload| service::parse(Family::attributes(payload).get(CMD_ATTR_SERVICE)?.nested()),
        )
    }

    /// All destinations of a service; none when there is no such service.
    ///
    /// # Errors
    /// The kernel refused, or the socket failed.
    pub fn destinations(&mut self, service: &ServiceId) -> Result<Vec<(Destination, Connections, Stats)>> {
        let family = self.family;
        self.socket.dump(
            format_args!("destinations of {service}"),
            family.id,
            |message| {
                family.command(message, CMD_GET_DEST);
                message.nest(CMD_ATTR_SERVICE, |nest| service.write(nest));
            },
            |_, payload| {
                let nest = Family::attributes(payload).get(CMD_ATTR_DEST)?.nested();
                destination::parse(nest, service.is_ipv6())
            },
        )
    }
}

/// Changes that are made together.
#[derive(Debug)]
pub struct Changes {
    family: Family,
    batch: Batch,
}

impl Changes {
    /// Number of changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// A new service; `EEXIST` when there is one, `ENOENT` when the kernel has no such scheduler.
    pub fn create(&mut self, service: &Service) -> &mut Self {
        self.service("create", CMD_NEW_SERVICE, &service.id, |nest| service.write(nest))
    }

    /// Another scheduler, other flags or another persistence for a service that is there; connections stay.
    pub fn change(&mut self, service: &Service) -> &mut Self {
        self.service("change", CMD_SET_SERVICE, &service.id, |nest| service.write(nest))
    }

    /// Deletes a service with its destinations; `ESRCH` when it is gone.
    pub fn delete(&mut self, id: &ServiceId) -> &mut Self {
        self.service("delete", CMD_DEL_SERVICE, id, |nest| id.write(nest))
    }

    /// A new destination; `EEXIST` when the service has it, `ESRCH` when there is no such service.
    pub fn create_destination(&mut self, id: &ServiceId, destination: &Destination) -> &mut Self {
        self.destination("create", CMD_NEW_DEST, id, destination)
    }

    /// Another weight, way or limit for a destination that is there; connections stay.
    pub fn change_destination(&mut self, id: &ServiceId, destination: &Destination) -> &mut Self {
        self.destination("change", CMD_SET_DEST, id, destination)
    }

    /// Deletes a destination; `ENOENT` when it is gone. Its connections end only where `net.ipv4.vs.expire_nodest_conn` says
    /// so; their packets are dropped until then.
    pub fn delete_destination(&mut self, id: &ServiceId, destination: &Destination) -> &mut Self {
        self.destination("delete", CMD_DEL_DEST, id, destination)
    }

    fn service(
        &mut self,
        operation: &'static str,
        command: u8,
        id: &ServiceId,
        body: impl FnOnce(&mut crate::netlink::Message<'_>),
    ) -> &mut Self {
        let family = self.family;
        self.batch.add(operation, id, family.id, wire::NLM_F_REQUEST, |message| {
            family.command(message, command);
            message.nest(CMD_ATTR_SERVICE, body);
        });
        self
    }

    fn destination(
        &mut self,
        operation: &'static str,
        command: u8,
        id: &ServiceId,
        destination: &Destination,
    ) -> &mut Self {
        let family = self.family;
        let object = format_args!("destination {destination} of {id}");
        self.batch.add(operation, object, family.id, wire::NLM_F_REQUEST, |message| {
            family.command(message, command);
            message.nest(CMD_ATTR_SERVICE, |nest| id.write(nest));
            message.nest(CMD_ATTR_DEST, |nest| destination.write(nest));
        });
        self
    }
}
