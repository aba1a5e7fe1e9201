//! One echo request and its reply (RFC 792, RFC 4443 section 4). Never more than that of ICMP.

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage, recvfrom,
    sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REPLY_V4: u8 = 0;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;
/// ICMP without IP's header.
const HEADER_BYTES: usize = 8;

/// Tells our requests apart, across threads.
static IDENTIFIER: AtomicU16 = AtomicU16::new(1);

pub(super) fn echo(to: IpAddr, timeout: Duration) -> io::Result<()> {
    let identifier = IDENTIFIER.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let deadline = Instant::now() + timeout;
    let (socket, request_type, reply_type) = match to {
        IpAddr::V4(_) => (raw(AddressFamily::Inet, SockProtocol::Icmp)?, ECHO_REQUEST_V4, ECHO_REPLY_V4),
        IpAddr::V6(_) => (raw(AddressFamily::Inet6, SockProtocol::IcmpV6)?, ECHO_REQUEST_V6, ECHO_REPLY_V6),
    };
    let mut request = [request_type, 0, 0, 0, identifier[0], identifier[1], 0, 1];
    if to.is_ipv4() {
        // The kernel fills in the checksum of ICMPv6 only.
        let sum = checksum(&request).to_be_bytes();
        request[2..4].copy_from_slice(&sum);
    }
    match SocketAddr::new(to, 0) {
        SocketAddr::V4(address) => {
            sendto(socket.as_raw_fd(), &request, &SockaddrIn::from(address), MsgFlags::empty())?;
        }
        SocketAddr::V6(address) => {
            sendto(socket.as_raw_fd(), &request, &SockaddrIn6::from(address), MsgFlags::empty())?;
        }
    }
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let wait = i64::try_from(left.as_micros()).unwrap_or(i64::MAX).max(1);
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::microseconds(wait))?;
        let mut buffer = [0; 256];
        let length = match recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut buffer) {
            Ok((length, _)) => length,
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        // A raw IPv4 socket gives the IP header too: its length in words is the low half of the first byte.
        let skip = if to.is_ipv4() { usize::from(buffer[0] & 0x0f) * 4 } else { 0 };
        let Some(message) = buffer[..length].get(skip..).filter(|message| message.len() >= HEADER_BYTES) else {
            continue;
        };
        if message[0] == reply_type && message[4..6] == identifier {
            return Ok(());
        }
    }
}

fn raw(family: AddressFamily, protocol: SockProtocol) -> io::Result<OwnedFd> {
    Ok(socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?)
}

/// The internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).expect("a folded sum has 16 bits")
}

#[cfg(test)]
mod tests {
    use super::checksum;

    /// The example of RFC 1071, section 3: the sum of these bytes is ddf2 after folding.
    #[test]
    fn the_checksum_is_that_of_rfc_1071() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }
}
