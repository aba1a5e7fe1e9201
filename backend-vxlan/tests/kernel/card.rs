//! A network card that is broken the way real ones are: it fills in the outer UDP checksum of VXLAN packets and leaves the
//! inner one as it got it. Never drops or reorders.
//!
//! It is a thread that copies frames between the two ports of its namespace through packet sockets, which hand out frames
//! as the driver would get them: with checksums still to be filled in.

use backend_vxlan::udp::packet::checksum;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvfrom, sendto, socket};
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use testlab::bed::Underlays;

/// `PACKET_OUTGOING` of `include/uapi/linux/if_packet.h`: an echo of what was sent.
const PACKET_OUTGOING: u8 = 4;
const LOOPBACK: usize = 1;

/// One segment between two nodes, over a card that breaks inner checksums.
pub(crate) fn broken() -> Underlays {
    Underlays::carried_by(Card::start)
}

struct Card {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Card {
    fn start() -> Self {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let packets = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            // Addresses of ports are learned from what comes in by them.
            let mut ports: BTreeMap<usize, LinkAddr> = BTreeMap::new();
            let mut frame = vec![0; 65_536];
            while !stopped.load(Ordering::Acquire) {
                let Ok((length, Some(from))) = recvfrom::<LinkAddr>(packets.as_raw_fd(), &mut frame) else {
                    std::thread::sleep(Duration::from_micros(200));
                    continue;
                };
                // The segments' bridges of the namespace have no ports, and loopback is not ours.
                if from.ifindex() == LOOPBACK {
                    continue;
                }
                if from.pkttype() == PACKET_OUTGOING {
                    ports.entry(from.ifindex()).or_insert(from);
                    continue;
                }
                ports.insert(from.ifindex(), from);
                let frame = &mut frame[..length];
                finish_outer(frame);
                for (_, to) in ports.iter().filter(|(port, _)| **port != from.ifindex()) {
                    let _ = sendto(packets.as_raw_fd(), frame, to, MsgFlags::empty());
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Fills in the outer UDP checksum of VXLAN over IPv4.
fn finish_outer(frame: &mut [u8]) {
    const ETHERNET: usize = 14;
    const IP: usize = ETHERNET + 20;
    const VXLAN_PORT: u16 = 8472;
    let vxlan = frame.len() > IP + 8
        && frame[12..15] == [0x08, 0x00, 0x45]
        && frame[ETHERNET + 9] == 17
        && frame[IP + 2..IP + 4] == VXLAN_PORT.to_be_bytes();
    if !vxlan {
        return;
    }
    let end = ETHERNET + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    frame[IP + 6..IP + 8].copy_from_slice(&[0, 0]);
    let udp = &frame[IP..end];
    let mut summed = frame[ETHERNET + 12..IP].to_vec();
    summed.extend([0, 17]);
    summed.extend((udp.len() as u16).to_be_bytes());
    summed.extend(udp);
    let sum = checksum(&summed).to_be_bytes();
    frame[IP + 6..IP + 8].copy_from_slice(&sum);
}
