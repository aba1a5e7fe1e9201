//! Sockets of a network namespace, as the kernel lists them: those of UDP that are connected, and their end. Never a socket that
//! the caller did not name.
//!
//! `include/uapi/linux/inet_diag.h`, `include/uapi/linux/sock_diag.h`.

use crate::netlink::{Batch, Error, Protocol, Result, Socket};
use nix::errno::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const UDP: u8 = 17;
/// `1 << TCP_ESTABLISHED`, which is the state of a connected UDP socket too.
const CONNECTED: u32 = 1 << 1;
/// `sizeof(struct inet_diag_sockid)`, and where it begins in a `struct inet_diag_msg`.
const ID_BYTES: usize = 48;
const ID_AT: usize = 4;

/// A connected UDP socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectedUdp {
    /// Its number (`SO_COOKIE`), which no other socket has.
    pub cookie: u64,
    /// Whom it talks to; an IPv4-mapped address for an IPv6 socket that talks IPv4.
    pub peer: SocketAddr,
    family: u8,
    /// As the kernel wrote it, `struct inet_diag_sockid`.
    id: [u8; ID_BYTES],
}

/// Both families of a namespace's sockets; of the thread's that opened it.
#[derive(Debug)]
pub struct SockDiag(Socket);

impl SockDiag {
    /// A connection in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel has no such netlink family (`CONFIG_INET_DIAG`).
    pub fn open() -> Result<Self> {
        Socket::open(Protocol::SockDiag).map(Self)
    }

    /// UDP sockets that are connected to this port of anybody.
    ///
    /// # Errors
    /// The kernel does not tell (`CONFIG_INET_UDP_DIAG`).
    pub fn connected_udp(&mut self, port: u16) -> Result<Vec<ConnectedUdp>> {
        let mut found = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let mut id = [0; ID_BYTES];
            id[2..4].copy_from_slice(&port.to_be_bytes());
            let body = request(family, &id);
            let dumped = self.0.dump(
                format_args!("UDP sockets to port {port}"),
                SOCK_DIAG_BY_FAMILY,
                |message| {
                    message.raw(&body);
                },
                |_, payload| parse(family, payload),
            )?;
            found.extend(dumped.into_iter().filter(|socket| socket.peer.port() == port));
        }
        Ok(found)
    }

    /// Ends sockets: who reads gets `ECONNABORTED`, who sends `EDESTADDRREQ`. One that is gone is a success.
    ///
    /// # Errors
    /// One for each, in order. `EOPNOTSUPP`: not in this kernel (`CONFIG_INET_DIAG_DESTROY`).
    pub fn destroy(&mut self, sockets: &[ConnectedUdp]) -> Vec<Result<()>> {
        let mut batch = Batch::new();
        for socket in sockets {
            let body = request(socket.family, &socket.id);
            batch.add("end", format_args!("UDP socket to {}", socket.peer), SOCK_DESTROY, 0, |message| {
                message.raw(&body);
            });
        }
        let gone = |result| match result {
            Err(Error::Kernel { errno: Errno::ENOENT, .. }) => Ok(()),
            result => result,
        };
        self.0.run(&mut batch).into_iter().map(gone).collect()
    }
}

/// `struct inet_diag_req_v2`.
fn request(family: u8, id: &[u8; ID_BYTES]) -> Vec<u8> {
    let mut bytes = vec![family, UDP, 0, 0];
    bytes.extend_from_slice(&CONNECTED.to_ne_bytes());
    bytes.extend_from_slice(id);
    bytes
}

fn parse(family: u8, payload: &[u8]) -> Option<ConnectedUdp> {
    let id: [u8; ID_BYTES] = *payload.get(ID_AT..)?.first_chunk()?;
    // Ports, then 16 bytes for each address, the interface, the cookie.
    let port = u16::from_be_bytes([id[2], id[3]]);
    let address: IpAddr = match family {
        AF_INET => Ipv4Addr::from(*id[20..].first_chunk::<4>()?).into(),
        _ => Ipv6Addr::from(*id[20..].first_chunk::<16>()?).into(),
    };
    let cookie = u64::from_ne_bytes(*id[40..].first_chunk()?);
    Some(ConnectedUdp { cookie, peer: SocketAddr::new(address, port), family, id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::NetNs;
    use crate::sys::sockopt;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::process::Command;

    #[test]
    fn a_connected_socket_is_listed_and_ended_and_others_are_left_alone() {
        let inside = || {
            assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
            let connected = |bind: &str, to: &str| {
                let socket = UdpSocket::bind(bind).unwrap();
                socket.connect(to).unwrap();
                socket
            };
            let gone = connected("127.0.0.1:0", "127.0.0.1:7");
            let mapped = connected("[::]:0", "[::ffff:127.0.0.1]:7");
            let other = connected("[::1]:0", "[::1]:7");
            let _another_port = connected("127.0.0.1:0", "127.0.0.1:8");
            let mut diag = SockDiag::open().unwrap();
            let found = diag.connected_udp(7).unwrap();
            assert_eq!(found.len(), 3, "{found:?}");
            let of = |socket: &UdpSocket| {
                let cookie = sockopt::cookie(socket.as_fd()).unwrap();
                found.iter().find(|one| one.cookie == cookie).unwrap().clone()
            };
            assert_eq!(of(&mapped).peer, "[::ffff:127.0.0.1]:7".parse().unwrap());
            let ended = diag.destroy(&[of(&gone), of(&mapped)]);
            assert!(ended.iter().all(Result::is_ok), "{ended:?}");
            for socket in [&gone, &mapped] {
                let error = socket.take_error().unwrap().map(|error| error.kind());
                assert_eq!(error, Some(std::io::ErrorKind::ConnectionAborted));
            }
            assert!(other.take_error().unwrap().is_none() && other.send(b"?").is_ok());
            assert!(diag.destroy(&[of(&gone)])[0].is_ok(), "again");
        };
        NetNs::new().unwrap().run(inside).unwrap();
    }
}
