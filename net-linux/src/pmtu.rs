//! Path MTU of UDP tunnels in user space: whether datagrams may be cut, and what fits. Never sends anything.

use crate::sys::sockopt;
use nix::libc::{
    IP_MTU, IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_PMTUDISC_DONT, IPPROTO_IP, IPPROTO_IPV6, IPV6_MTU, IPV6_MTU_DISCOVER,
    IPV6_PMTUDISC_DO, IPV6_PMTUDISC_DONT,
};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

/// Whether a socket's datagrams may be cut on their way. With `whole`, one that does not fit the known path is refused
/// with `EMSGSIZE`, and IPv4 packets carry DF (ip(7), `IP_MTU_DISCOVER`).
///
/// # Errors
/// The socket is none of IP.
pub fn set_whole(socket: &UdpSocket, whole: bool) -> io::Result<()> {
    let fd = socket.as_fd();
    if socket.local_addr()?.is_ipv4() {
        let value = if whole { IP_PMTUDISC_DO } else { IP_PMTUDISC_DONT };
        sockopt::set(fd, IPPROTO_IP, IP_MTU_DISCOVER, value)
    } else {
        let value = if whole { IPV6_PMTUDISC_DO } else { IPV6_PMTUDISC_DONT };
        sockopt::set(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, value)
    }
}

/// The bytes of an IP packet, with its IP header, that fit on the way to a peer as far as the kernel knows.
///
/// # Errors
/// There is no route to the peer.
pub fn path_mtu_bytes(peer: SocketAddr) -> io::Result<u32> {
    let any: SocketAddr = if peer.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(peer)?;
    let (level, name) = if peer.is_ipv4() { (IPPROTO_IP, IP_MTU) } else { (IPPROTO_IPV6, IPV6_MTU) };
    let mtu = sockopt::get(socket.as_fd(), level, name)?;
    u32::try_from(mtu).map_err(|_| io::Error::other("the kernel gave a negative MTU"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_to_loopback_is_as_wide_as_loopback() {
        let mtu = std::fs::read_to_string("/sys/class/net/lo/mtu").unwrap().trim().parse::<u32>().unwrap();
        assert_eq!(path_mtu_bytes("127.0.0.1:9".parse().unwrap()).unwrap(), mtu.clamp(68, 65_535));
    }

    #[test]
    fn sockets_of_both_families_take_the_setting() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            if let Ok(socket) = UdpSocket::bind(address) {
                set_whole(&socket, true).unwrap();
                set_whole(&socket, false).unwrap();
            }
        }
    }
}
