//! TUN devices: IP packets to and from a process. Never looks into a packet.
//!
//! A device is made in the network namespace of the thread that opens it. Addresses, MTU and state are set as for any
//! link, see [`crate::link`].

use crate::sys;
use cni_core::backend::{Error as BackendError, ErrorKind};
use cni_core::model::InterfaceName;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Where the kernel offers TUN devices.
const DEVICE: &str = "/dev/net/tun";
/// `include/uapi/linux/if_tun.h`.
const IFF_TUN: i32 = 0x0001;
const IFF_MULTI_QUEUE: i32 = 0x0100;
const IFF_NO_PI: i32 = 0x1000;
const IFF_TUN_EXCL: i32 = 0x8000;

/// A TUN device that can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TunError {
    /// There is no way to make one here.
    #[error("TUN device {name}: {DEVICE}: {source}; the kernel module tun and its device node are needed")]
    Unavailable {
        /// The device wanted.
        name: InterfaceName,
        /// What the kernel said.
        source: io::Error,
    },
    /// An interface of this name is something else, or was made with other options (`EINVAL`).
    #[error("TUN device {name}: an interface of this name is there and is none, or has other options")]
    Foreign {
        /// The device wanted.
        name: InterfaceName,
    },
    /// Another process has the device (`EBUSY`), or it exists and a new one was wanted.
    #[error("TUN device {name}: in use by another process, or there already")]
    Busy {
        /// The device wanted.
        name: InterfaceName,
    },
    /// The kernel refused: making one needs `CAP_NET_ADMIN`.
    #[error("{operation} TUN device {name}: {source}")]
    Kernel {
        /// What was being done.
        operation: &'static str,
        /// The device wanted.
        name: InterfaceName,
        /// What the kernel said.
        source: io::Error,
    },
}

impl From<TunError> for BackendError {
    fn from(error: TunError) -> Self {
        let (kind, name) = match &error {
            TunError::Unavailable { name, .. } => (ErrorKind::Unsupported, name),
            TunError::Foreign { name } => (ErrorKind::Foreign, name),
            TunError::Busy { name } => (ErrorKind::Busy, name),
            TunError::Kernel { name, source, .. } => {
                let errno = Errno::from_raw(source.raw_os_error().unwrap_or(0));
                (crate::netlink::kind_of(errno), name)
            }
        };
        Self::new(kind, "open", format_args!("device {name}"), &error).because(error)
    }
}

/// What kind of TUN device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunOptions {
    /// Its name.
    pub name: InterfaceName,
    /// It lives on without a process, with its addresses and routes: forwarding resumes when we are back.
    pub persistent: bool,
    /// Several queues: each [`open`](TunOptions::open) is one more, and flows are spread over them.
    pub multi_queue: bool,
    /// Refuses to join a device that is there already.
    pub exclusive: bool,
}

impl TunOptions {
    /// A device with one queue that dies with its process.
    #[must_use]
    pub const fn new(name: InterfaceName) -> Self {
        Self { name, persistent: false, multi_queue: false, exclusive: false }
    }

    /// Makes the device, or joins it (a persistent one of a former run), and gives one queue of it.
    ///
    /// The queue is not blocking and gives and takes whole IP packets without a header before them.
    ///
    /// # Errors
    /// [`TunError`].
    pub fn open(&self) -> Result<Tun, TunError> {
        let name = || self.name.clone();
        let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fd = open(DEVICE, flags, Mode::empty())
            .map_err(|errno| TunError::Unavailable { name: name(), source: errno.into() })?;
        let mut kind = IFF_TUN | IFF_NO_PI;
        for (flag, on) in [(IFF_MULTI_QUEUE, self.multi_queue), (IFF_TUN_EXCL, self.exclusive)] {
            if on {
                kind |= flag;
            }
        }
        sys::tun::set_interface(fd.as_fd(), self.name.as_str().as_bytes(), kind).map_err(|source| {
            match source.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EINVAL) => TunError::Foreign { name: name() },
                Some(Errno::EBUSY | Errno::EEXIST) => TunError::Busy { name: name() },
                _ => TunError::Kernel { operation: "open", name: name(), source },
            }
        })?;
        let tun = Tun { fd, name: name() };
        tun.set_persistent(self.persistent)?;
        Ok(tun)
    }
}

/// One queue of a TUN device. One read or write is one packet.
#[derive(Debug)]
pub struct Tun {
    fd: OwnedFd,
    name: InterfaceName,
}

impl Tun {
    /// The device's name.
    #[must_use]
    pub const fn name(&self) -> &InterfaceName {
        &self.name
    }

    /// Lets the device live on without a process, or die with its last queue.
    ///
    /// # Errors
    /// [`TunError::Kernel`].
    pub fn set_persistent(&self, persistent: bool) -> Result<(), TunError> {
        sys::tun::set_persistent(self.fd.as_fd(), persistent).map_err(|source| TunError::Kernel {
            operation: if persistent { "keep" } else { "release" },
            name: self.name.clone(),
            source,
        })
    }

    /// Takes one packet that the kernel sent out of the device; gives its length in bytes. What does not fit is cut off.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is none, as while the device is down; `EBADFD` when it is gone.
    pub fn read(&self, packet: &mut [u8]) -> io::Result<usize> {
        Ok(nix::unistd::read(&self.fd, packet)?)
    }

    /// Gives one packet to the kernel, as if it had come in through the device.
    ///
    /// # Errors
    /// `EINVAL` for what is no IP packet; `EIO` when the device is down; `EBADFD` when it is gone.
    pub fn write(&self, packet: &[u8]) -> io::Result<()> {
        nix::unistd::write(&self.fd, packet)?;
        Ok(())
    }

    /// Takes up to as many packets as there are buffers and are waiting, and gives their lengths in bytes. The kernel gives
    /// one packet a call: this saves wake-ups, not calls.
    ///
    /// # Errors
    /// As [`read`](Self::read), when it is the first packet that fails; else what was read is given.
    pub fn read_batch(&self, packets: &mut [Vec<u8>], lengths: &mut Vec<usize>) -> io::Result<()> {
        lengths.clear();
        for packet in packets {
            match self.read(packet) {
                Ok(length) => lengths.push(length),
                Err(error) if lengths.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(())
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Tun> for OwnedFd {
    fn from(tun: Tun) -> Self {
        tun.fd
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::NetNs;
    use std::net::UdpSocket;
    use std::process::Command;

    fn options() -> TunOptions {
        TunOptions::new(InterfaceName::new("tun-test").unwrap())
    }

    fn ip(arguments: &str) -> bool {
        Command::new("ip").args(arguments.split(' ')).output().expect("iproute2").status.success()
    }

    fn in_fresh_namespace(test: impl FnOnce() + Send) {
        NetNs::new().unwrap().run(test).unwrap();
    }

    #[test]
    fn packets_go_out_and_come_in_whole() {
        in_fresh_namespace(|| {
            let tun = options().open().unwrap();
            assert_eq!(tun.read(&mut [0; 100]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            assert_eq!(tun.write(&[0x45; 20]).unwrap_err().raw_os_error(), Some(Errno::EIO as i32), "it is down");
            assert!(ip("address add 10.9.0.1/24 dev tun-test") && ip("link set tun-test up"));
            let socket = UdpSocket::bind("10.9.0.1:7000").unwrap();
            for text in ["one", "two"] {
                socket.send_to(text.as_bytes(), "10.9.0.2:7001").unwrap();
            }
            let (mut packets, mut lengths) = (vec![vec![0; 2000]; 8], Vec::new());
            let mut bodies = Vec::new();
            while tun.read_batch(&mut packets, &mut lengths).is_ok() {
                let whole = packets.iter().zip(&lengths).map(|(packet, length)| &packet[..*length]);
                // The kernel may also have sent router solicitations: of version 6.
                bodies.extend(whole.filter(|packet| packet[0] >> 4 == 4).map(<[u8]>::to_vec));
            }
            assert_eq!(bodies.iter().map(|packet| &packet[28..]).collect::<Vec<_>>(), [b"one", b"two"]);
            // The first packet back, with addresses and ports exchanged: sums stay right.
            let mut reply = bodies[0].clone();
            for (a, b, length) in [(12, 16, 4), (20, 22, 2)] {
                (0..length).for_each(|at| reply.swap(a + at, b + at));
            }
            tun.write(&reply).unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
            let mut heard = [0; 16];
            let (length, from) = socket.recv_from(&mut heard).unwrap();
            assert_eq!((&heard[..length], from), (&b"one"[..], "10.9.0.2:7001".parse().unwrap()));
            assert!(tun.write(&[0; 20]).is_err(), "no IP packet");
        });
    }

    #[test]
    fn a_persistent_device_outlives_its_process_and_is_joined_again() {
        in_fresh_namespace(|| {
            let persistent = TunOptions { persistent: true, ..options() };
            drop(persistent.open().unwrap());
            assert!(ip("link show tun-test"));
            let again = persistent.open().unwrap();
            assert!(matches!(persistent.open(), Err(TunError::Busy { .. })), "one queue, one process");
            assert!(matches!(TunOptions { exclusive: true, ..options() }.open(), Err(TunError::Busy { .. })));
            again.set_persistent(false).unwrap();
            drop(again);
            assert!(!ip("link show tun-test"));
        });
    }

    #[test]
    fn several_queues_are_several_descriptors() {
        in_fresh_namespace(|| {
            let options = TunOptions { multi_queue: true, ..options() };
            let queues = [options.open().unwrap(), options.open().unwrap()];
            assert_eq!(queues[0].name(), queues[1].name());
            drop(queues);
            assert!(!ip("link show tun-test"));
        });
    }

    #[test]
    fn an_interface_that_is_no_tun_device_is_foreign() {
        in_fresh_namespace(|| {
            assert!(ip("link add tun-test type bridge"));
            assert!(matches!(options().open(), Err(TunError::Foreign { .. })));
            assert!(ip("link show tun-test"));
        });
    }
}
