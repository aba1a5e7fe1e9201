//! The programs with a node's settings, and a clock like theirs. Never attached.

use crate::frame::Frame;
use backend_ebpf::abi::{MASQUERADE_VERSION, Masqueraded, Masquerading, mapped};
use backend_ebpf::kernel::masquerade::{Loaded, Masquerade, Room};
use backend_ebpf::kernel::{MasqueradeMaps, Which};
use std::net::IpAddr;

/// `TC_ACT_UNSPEC` and `TC_ACT_SHOT`.
pub(crate) const NEXT: i32 = -1;
pub(crate) const DROP: i32 = 2;

pub(crate) const FIRST_PORT: u16 = 61_000;

/// The node's addresses, pods', somebody's outside, and one that sees pods as they are.
pub(crate) const NODE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
pub(crate) const PODS: [[&str; 2]; 2] = [["10.42.0.5", "10.42.0.6"], ["fd00:42::5", "fd00:42::6"]];
pub(crate) const OUTSIDE: [[&str; 2]; 2] = [["198.51.100.7", "203.0.113.9"], ["2001:db8:99::7", "2001:db8:77::9"]];
pub(crate) const KEPT: [&str; 2] = ["172.16.0.9", "fd00:9::9"];

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) struct Rig {
    pub(crate) loaded: Loaded,
    pub(crate) maps: MasqueradeMaps,
}

impl Rig {
    /// With so many ports.
    pub(crate) fn new(ports: u16) -> Self {
        let loaded = Loaded::load(Room { connections: 4096, prefixes: 64 }).expect("needs root, and a kernel with BPF");
        let mut maps = loaded.maps().unwrap();
        let prefixes = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        let pools = ["10.42.0.0/16", "fd00:42::/48"];
        maps.set_prefixes(Which::Sources, &prefixes(&pools)).unwrap();
        maps.set_prefixes(Which::Keep, &prefixes(&[pools[0], pools[1], "172.16.0.0/12", "fd00:9::/64"])).unwrap();
        let mut rig = Self { loaded, maps };
        rig.reset(ports);
        rig
    }

    /// Without connections, and with so many ports.
    pub(crate) fn reset(&mut self, ports: u16) {
        self.set(ports, 0);
        for (tuple, _) in self.maps.coming().unwrap() {
            self.maps.forget(&tuple).unwrap();
        }
    }

    /// With so many ports, and entries of predecessors on their way until then.
    pub(crate) fn set(&mut self, ports: u16, handed_over_seconds: u32) {
        let [IpAddr::V4(v4), IpAddr::V6(v6)] = NODE.map(ip) else { unreachable!() };
        let (v4, v6) = (mapped(v4.octets()), v6.octets());
        let (salt, first_port) = (7, FIRST_PORT);
        let version = MASQUERADE_VERSION;
        let settings = Masquerading { version, handed_over_seconds, v4, v6, salt, first_port, ports, unused: 0 };
        self.maps.set_settings(settings).unwrap();
    }

    pub(crate) fn run(&self, program: Masquerade, frame: &[u8]) -> (i32, Vec<u8>) {
        let (action, after, _) = self.loaded.try_frame(program, frame, 1).unwrap();
        (action, after)
    }

    /// The frame as it leaves, if it does.
    pub(crate) fn out(&self, frame: &Frame) -> Option<Vec<u8>> {
        let (action, after) = self.run(Masquerade::Out, &frame.bytes());
        assert!(action == NEXT || action == DROP, "{action}");
        (action == NEXT).then_some(after)
    }

    /// The frame as it comes in.
    pub(crate) fn back(&self, frame: &Frame) -> Vec<u8> {
        let (action, after) = self.run(Masquerade::In, &frame.bytes());
        assert_eq!(action, NEXT, "{frame:?}");
        after
    }

    pub(crate) fn count(&self, what: Masqueraded) -> u64 {
        self.maps.packets(what).unwrap()
    }
}

/// The kernel's clock that the programs read, in seconds.
pub(crate) fn seconds_since_boot() -> u32 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u32::try_from(time.tv_sec).unwrap()
}
