//! Connected UDP sockets whose backend their service has no more. Nobody tells such a socket: it would send to an address that is
//! nobody's, or another pod's. So it is ended (`SOCK_DESTROY`), and its owner connects anew. Never a socket that a service did not
//! lead there, and never one of TCP, which learns it from its peer.
//!
//! The kernel lists sockets by network namespace. The node's own is at hand; those of pods are opened by number, which Linux 6.18
//! can. On older kernels sockets of pods stay as they are.

use super::compile::target;
use super::object::Programs;
use crate::kernel::raw::Raw;
use aya::maps::{HashMap, MapData};
use backend_ebpf_abi::{MemberKey, ReverseKey, Target};
use net_linux::netns::NetNs;
use net_linux::sock_diag::{ConnectedUdp, SockDiag};
use std::collections::BTreeSet;

/// `IPPROTO_UDP`, as a frontend's key has it.
pub(super) const UDP: u16 = 17;

impl Programs {
    /// Ends sockets that were led to these backends by these frontends, in our namespace and those of our clients. What cannot be
    /// reached stays as it is: this is a help to applications, and no state of ours.
    pub(super) fn end_udp(&self, own: &NetNs, gone: Vec<MemberKey>) {
        if gone.is_empty() {
            return;
        }
        let gone: BTreeSet<(Target, Target)> = gone
            .into_iter()
            .map(|MemberKey { frontend, backend }| {
                (backend, Target { address: frontend.address, port: frontend.port, unused: 0 })
            })
            .collect();
        let ports: BTreeSet<u16> = gone.iter().map(|(backend, _)| backend.port).collect();
        let others = self.client_namespaces(own.id().inode);
        for namespace in std::iter::once(own.clone()).chain(others) {
            let Ok(Ok(mut diag)) = namespace.open_inside(SockDiag::open) else { continue };
            for port in &ports {
                let connected = diag.connected_udp(*port).unwrap_or_default();
                let ended: Vec<ConnectedUdp> = connected.into_iter().filter(|one| self.was_led(one, &gone)).collect();
                // `EOPNOTSUPP` where the kernel cannot end sockets.
                drop(diag.destroy(&ended));
            }
        }
    }

    /// Whether a service led the socket where it is, and has that backend no more.
    fn was_led(&self, socket: &ConnectedUdp, gone: &BTreeSet<(Target, Target)>) -> bool {
        let backend = target(socket.peer);
        let key = ReverseKey { socket: socket.cookie, backend, protocol: UDP.into() };
        let reverse = self.bpf.map("REVERSE").map(HashMap::<&MapData, Raw<ReverseKey>, Raw<Target>>::try_from);
        let Some(Ok(reverse)) = reverse else { return false };
        reverse.get(&Raw(key), 0).is_ok_and(|Raw(service)| gone.contains(&(backend, service)))
    }

    /// Namespaces of clients that can be opened, but for one.
    fn client_namespaces(&self, but: u64) -> Vec<NetNs> {
        let clients = self.bpf.map("CLIENTS").map(HashMap::<&MapData, u64, u32>::try_from);
        let Some(Ok(clients)) = clients else { return Vec::new() };
        let others = clients.iter().flatten().filter(|(_, inode)| u64::from(*inode) != but);
        others.filter_map(|(cookie, inode)| NetNs::by_cookie(cookie, inode).ok()).collect()
    }
}
