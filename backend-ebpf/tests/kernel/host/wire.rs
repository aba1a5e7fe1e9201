//! What packets look like on the wire: tags. Never a policy of its own.

use super::node::{Node, named};
use crate::frames::Frame;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// The port that the node's socket hears.
const EAR: u16 = 4000;
/// ETH_P_8021Q, and the tag of a VLAN.
const TAG: [u8; 2] = [0x81, 0];

/// The link's address of `eth0` in the calling thread's namespace.
fn link() -> LinkAddr {
    let mut all = getifaddrs().unwrap();
    all.find_map(|one| {
        one.address.and_then(|address| address.as_link_addr().copied()).filter(|_| one.interface_name == "eth0")
    })
    .unwrap()
}

/// A datagram from outside to the node, in a frame with these tags.
fn frame(to: [u8; 6], tags: &[u16]) -> Vec<u8> {
    let ports = [EAR.to_be_bytes(), EAR.to_be_bytes(), 9_u16.to_be_bytes(), [0, 0]].concat();
    let payload = [&ports[..], b"x"].concat();
    let plain = Frame::new("192.0.2.9".parse().unwrap(), "192.0.2.1".parse().unwrap(), 17, payload).bytes();
    let mut packet = plain[14..].to_vec();
    let words = packet[..20].chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum = words.sum::<u32>();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [&to[..], &[2, 0, 0, 0, 0, 9]].concat();
    for tag in tags {
        frame.extend(TAG);
        frame.extend(tag.to_be_bytes());
    }
    frame.extend([8, 0]);
    frame.extend(packet);
    frame
}

#[test]
fn a_tag_of_no_vlan_leads_nobody_past_the_policy() {
    Node::run("22/TCP", |all| {
        let ear = UdpSocket::bind(("0.0.0.0", EAR)).unwrap();
        ear.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let to = link().addr().unwrap();
        let (wire, from) = all
            .outside
            .netns
            .run(|| (socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).unwrap(), link()))
            .unwrap();
        let comes = |tags: &[u16]| {
            let once = |_| {
                sendto(wire.as_raw_fd(), &frame(to, tags), &from, MsgFlags::empty()).unwrap();
                ear.recv(&mut [0; 8]).is_ok()
            };
            (0..3).any(once)
        };
        assert!(comes(&[]) && comes(&[0]) && !comes(&[5]), "the stack takes the tag of no VLAN off");
        let twice = comes(&[0, 0]);
        println!("the stack takes two of them off: {twice}");
        all.host_endpoint(Some((named(), false)));
        all.commit();
        assert!(!comes(&[]) && !comes(&[0]) && !comes(&[0, 0]));
        all.host_endpoint(None);
        all.commit();
        assert!(comes(&[]) && comes(&[0]) && comes(&[0, 0]) == twice);
    });
}
