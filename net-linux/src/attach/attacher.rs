//! The verbs of an attachment, from the host's side. Never decides who is attached.

use super::list::{self, endpoint_of, is_doomed, is_staged};
use super::{AttachError, AttachRequest, Attached, Attachment, Drifted, check, pod};
use crate::link::{Link, LinkChange, LinkFilter, LinkId, NewLink, NewLinkKind, VethPeer, delete_group};
use crate::marks;
use crate::netlink::{self, Batch, Socket};
use crate::netns::{NetNs, NetNsError};
use cni_core::cni;
use cni_core::model::EndpointId;
use nix::errno::Errno;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long the kernel gets to notice that a veth is up, and how often it is asked.
const NOTICED: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// What a DEL found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detached {
    /// The link is down and doomed; [`Attacher::reap`] deletes it.
    Doomed,
    /// There was nothing to detach.
    Gone,
}

/// Attaches pods to the network namespace that it was opened in. One operation at a time.
#[derive(Debug)]
pub struct Attacher {
    socket: Socket,
    host: NetNs,
}

impl Attacher {
    /// Opens it in the network namespace of the calling thread: the host's.
    ///
    /// # Errors
    /// No netlink socket, or `/proc` is not mounted.
    pub fn open() -> Result<Self, OpenError> {
        Ok(Self { socket: Socket::route()?, host: NetNs::current()? })
    }

    /// Attaches a pod. When it returns, the pod can send and receive as soon as the host has routes to it
    /// ([`crate::endpoint`]); no address waits for duplicate detection.
    ///
    /// # Errors
    /// The request is not acceptable, the interface is there already, or the kernel refused. Nothing is left behind.
    pub fn attach(&mut self, namespace: &NetNs, request: &AttachRequest) -> Result<Attachment, AttachError> {
        let attachment = self.attach_closed(namespace, request, || {})?;
        self.open_up(&request.id).inspect_err(|_| self.remove(attachment.host_index))?;
        Ok(attachment)
    }

    /// As [`attach`](Self::attach), but the host's end stays down, so nothing passes before [`open_up`](Self::open_up): for
    /// whoever has something to put there first. `made` is called as soon as the host's end is there. A link that stays
    /// down was never finished.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub fn attach_closed(
        &mut self,
        namespace: &NetNs,
        request: &AttachRequest,
        made: impl FnOnce(),
    ) -> Result<Attachment, AttachError> {
        request.check()?;
        if *namespace == self.host {
            return Err(AttachError::HostNamespace { id: request.id.clone() });
        }
        let host_index = match self.create(namespace, request) {
            Err(error) if error.is_exists() => {
                self.clear_the_way(namespace, request)?;
                self.create(namespace, request)
            }
            created => created,
        };
        let host_index = host_index.map_err(AttachError::netlink(&request.id))?;
        made();
        let pod_index = pod::set_up(namespace, request).inspect_err(|_| self.remove(host_index))?;
        Ok(Attachment {
            id: request.id.clone(),
            host_interface: request.host_interface(),
            host_index,
            host_mac: request.host_mac(),
            pod_index,
            pod_mac: request.pod_mac(),
            mtu_bytes: request.mtu_bytes,
            addresses: request.addresses.clone(),
        })
    }

    /// Brings the host's end up, and waits until both ends send: from here on packets pass.
    ///
    /// A veth has its carrier at once, yet drops what it is given to send until the kernel's link watch, which runs by itself, has
    /// taken note of it (`linkwatch_do_dev` of net/core/link_watch.c). On a busy machine that takes milliseconds.
    ///
    /// # Errors
    /// The kernel refused; the link may be gone.
    pub fn open_up(&mut self, id: &EndpointId) -> Result<(), AttachError> {
        let name = marks::host_interface(id);
        let mut batch = Batch::new();
        LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Name(name.as_str()));
        self.socket.run_all(&mut batch).map_err(AttachError::netlink(id))?;
        let end = Instant::now() + NOTICED;
        while !self.sends(name.as_str()).map_err(AttachError::netlink(id))? && Instant::now() < end {
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// Whether both ends of a veth send; also true of one that is gone, or whose other end somebody has taken down. Since Linux 6.8 the
    /// question itself makes the link watch look (`rtnl_getlink`).
    fn sends(&mut self, name: &str) -> netlink::Result<bool> {
        let Some(host_end) = Link::get(&mut self.socket, &LinkId::Name(name))? else { return Ok(true) };
        let Some(pod_end) = host_end.peer(&mut self.socket)? else { return Ok(true) };
        Ok(!(host_end.up && pod_end.up) || host_end.operational && pod_end.operational)
    }

    /// The veth and the host's end, which is down; gives its index. Nothing is left of it after an error.
    fn create(&mut self, namespace: &NetNs, request: &AttachRequest) -> netlink::Result<u32> {
        let name = request.host_interface();
        let alias = marks::alias(request.id.as_str());
        let peer =
            VethPeer { name: request.id.interface(), mac: Some(request.pod_mac()), namespace: Some(namespace.as_fd()) };
        let veth = NewLink {
            mtu_bytes: request.mtu_bytes,
            mac: Some(request.host_mac()),
            group: marks::STAGED_LINK_GROUP,
            then: LinkChange { alias: Some(&alias), group: Some(0), no_ipv6_autoconf: true, ..LinkChange::default() },
            ..NewLink::new(name.as_str(), NewLinkKind::Veth(peer))
        };
        veth.create(&mut self.socket)
    }

    /// Takes back what `create` made. Its errors can't help the caller: the first error is what matters, and a link that
    /// stays is found by its alias.
    fn remove(&mut self, host_index: u32) {
        let mut batch = Batch::new();
        LinkId::Index(host_index).delete(&mut batch);
        self.socket.run(&mut batch);
    }

    /// Finds out who is in the way, and deletes links of ours that are doomed or were never finished.
    fn clear_the_way(&mut self, namespace: &NetNs, request: &AttachRequest) -> Result<(), AttachError> {
        let failed = AttachError::netlink(&request.id);
        let host_interface = request.host_interface();
        let mut in_the_way = Vec::new();
        if let Some(link) = Link::get(&mut self.socket, &LinkId::Name(host_interface.as_str())).map_err(&failed)? {
            if endpoint_of(&link).as_ref() != Some(&request.id) && !is_staged(&link) {
                let alias = link.alias.unwrap_or_default();
                return Err(AttachError::ForeignInterface { id: request.id.clone(), host_interface, alias });
            }
            if !is_doomed(&link) && !is_staged(&link) {
                return Err(AttachError::AlreadyAttached { id: request.id.clone(), host_interface });
            }
            in_the_way.push(link.index);
        }
        let mut inside = pod::socket(namespace, request)?;
        let link = Link::get(&mut inside, &LinkId::Name(request.id.interface()));
        if let Some(link) = link.map_err(&failed)? {
            match self.abandoned_other_end(&link).map_err(&failed)? {
                Some(index) => in_the_way.push(index),
                None => return Err(AttachError::InterfaceExists { id: request.id.clone() }),
            }
        }
        in_the_way.dedup();
        let mut batch = Batch::new();
        for index in in_the_way {
            LinkId::Index(index).delete(&mut batch);
        }
        gone_is_ok(self.socket.run(&mut batch)).map(|_| ()).map_err(&failed)
    }

    /// The host's end of a pod's link, when it is one of ours that is doomed or was never finished.
    fn abandoned_other_end(&mut self, pod_end: &Link) -> netlink::Result<Option<u32>> {
        let Some(index) = pod_end.peer_index else { return Ok(None) };
        let host_end = Link::get(&mut self.socket, &LinkId::Index(index))?;
        let ours = |link: &Link| {
            let abandoned = is_staged(link) || is_doomed(link) && endpoint_of(link).is_some();
            abandoned && link.peer_index == Some(pod_end.index)
        };
        Ok(host_end.filter(ours).map(|link| link.index))
    }

    /// Detaches a pod from the host's side alone: the pod's namespace may be gone. The link goes down, with its routes
    /// and neighbours, and waits for [`reap`](Self::reap).
    ///
    /// # Errors
    /// The kernel refused. An unknown endpoint, or a link of its name without our mark, is [`Detached::Gone`].
    pub fn detach(&mut self, id: &EndpointId) -> Result<Detached, AttachError> {
        let failed = AttachError::netlink(id);
        let name = marks::host_interface(id);
        let link = Link::get(&mut self.socket, &LinkId::Name(name.as_str())).map_err(&failed)?;
        let Some(link) = link.filter(|link| endpoint_of(link).as_ref() == Some(id)) else {
            return Ok(Detached::Gone);
        };
        let mut batch = Batch::new();
        LinkChange { up: Some(false), group: Some(marks::DOOMED_LINK_GROUP), ..LinkChange::default() }
            .add(&mut batch, &LinkId::Index(link.index));
        let doomed = gone_is_ok(self.socket.run(&mut batch)).map_err(&failed)?;
        Ok(if doomed == 0 { Detached::Gone } else { Detached::Doomed })
    }

    /// Deletes all doomed links of ours and says how many. The kernel waits for grace periods, once for all (about 30 ms).
    ///
    /// # Errors
    /// The kernel refused, or could not be read.
    pub fn reap(&mut self) -> netlink::Result<usize> {
        let links = Link::dump(&mut self.socket, &LinkFilter::default())?;
        let (ours, foreign): (Vec<_>, Vec<_>) =
            links.iter().filter(|link| is_doomed(link)).partition(|link| endpoint_of(link).is_some());
        let mut batch = Batch::new();
        if foreign.is_empty() && !ours.is_empty() {
            delete_group(&mut batch, marks::DOOMED_LINK_GROUP);
        } else {
            // Somebody else's link is in our group: it stays.
            for link in &ours {
                LinkId::Index(link.index).delete(&mut batch);
            }
        }
        gone_is_ok(self.socket.run(&mut batch))?;
        Ok(ours.len())
    }

    /// Deletes veths of ours that a crash left half made, and says how many. To be called at start, while nobody attaches.
    ///
    /// # Errors
    /// The kernel refused, or could not be read.
    pub fn sweep(&mut self) -> netlink::Result<usize> {
        let links = Link::dump(&mut self.socket, &LinkFilter { kind: Some("veth"), ..LinkFilter::default() })?;
        let mut batch = Batch::new();
        for link in links.iter().filter(|link| is_staged(link)) {
            LinkId::Index(link.index).delete(&mut batch);
        }
        gone_is_ok(self.socket.run(&mut batch))
    }

    /// Our attachments, doomed ones too.
    ///
    /// # Errors
    /// The kernel could not be read.
    pub fn list(&mut self) -> netlink::Result<Vec<Attached>> {
        list::list(&mut self.socket)
    }

    /// Whether an endpoint is attached, and to a namespace that still lives. A doomed link attaches nothing.
    ///
    /// # Errors
    /// The kernel could not be read.
    pub fn is_alive(&mut self, id: &EndpointId) -> netlink::Result<bool> {
        let link = Link::get(&mut self.socket, &LinkId::Name(marks::host_interface(id).as_str()))?;
        match link.filter(|link| endpoint_of(link).as_ref() == Some(id) && !is_doomed(link)) {
            Some(link) => link.peer_lives(&mut self.socket),
            None => Ok(false),
        }
    }

    /// Compares both sides with what [`attach`](Self::attach) would make, and names each difference, also what leads the
    /// pod's traffic elsewhere. Routes in `listed` are known to be there: plugins of the same chain made them. The host's
    /// routes and neighbours are the datapath's to compare.
    ///
    /// # Errors
    /// A side could not be read.
    pub fn check(
        &mut self,
        namespace: &NetNs,
        request: &AttachRequest,
        listed: &[cni::Route],
    ) -> Result<Vec<Drifted>, AttachError> {
        let failed = AttachError::netlink(&request.id);
        let (mut found, host_index) = check::host(&mut self.socket, request).map_err(&failed)?;
        let inside = namespace.run(|| check::pod(request, host_index, listed));
        let inside = inside.map_err(AttachError::namespace(&request.id))?;
        found.extend(inside.map_err(&failed)?);
        Ok(found)
    }
}

/// Deletions of what is gone are successes; gives how many were really there.
fn gone_is_ok(results: Vec<netlink::Result<()>>) -> netlink::Result<usize> {
    let mut done = 0;
    for result in results {
        match result {
            Ok(()) => done += 1,
            Err(error) if error.errno() == Some(Errno::ENODEV) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// An attacher could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No netlink socket.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// The calling thread's namespace can't be opened.
    #[error(transparent)]
    Namespace(#[from] NetNsError),
}
