//! Programs that somebody takes off, and the agent puts back. Never another load: connections go on in the maps that they are in.

use crate::each::at_each_hook;
use crate::hooks::{index, open};
use crate::nodes::{FAR, PATIENCE, World, asking, echoes, heard, unmapped};
use crate::rig::seconds_since_boot;
use backend_ebpf::abi::{Coming, Connection, Life, Tuple, mapped};
use backend_ebpf::kernel::masquerade::{self, Masquerade};
use backend_ebpf::kernel::{Hook, MasqueradeMaps};
use serde_json::json;
use std::net::{Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use testlab::bed::wait_for;
use testlab::patience::stretched;

at_each_hook! {
    programs_that_somebody_takes_off_are_back_without_being_asked_for_and_connections_go_on_meanwhile,
}

/// Where the far host listens, and does not answer.
const ONE_WAY: u16 = 4002;
/// Between two datagrams: several are sent while entries of all connections could be read.
const PACE: Duration = Duration::from_millis(2);
/// Ends a stream of datagrams, which are numbered from 0 on.
const LAST: u32 = u32::MAX;

/// So many connections of others, that live and do nothing: to go through all of them takes a while.
pub(crate) fn crowd(maps: &mut MasqueradeMaps, connections: u16) {
    let other = mapped([198, 51, 100, 7]);
    for number in 0..connections {
        let [high, low] = number.to_be_bytes();
        let (node, pod) = (mapped([192, 0, 2, 1]), mapped([10, 244, high, low]));
        let tuple = Tuple { own: node, other, own_port: 61_000, other_port: 1 + number, protocol: 6 };
        let life = Life::new(seconds_since_boot(), Connection::ANSWERED);
        maps.set_coming(tuple, Coming { own: pod, life, own_port: 7, unused: [0; 3] }).unwrap();
    }
}

/// Ends a stream also when the test fails: nobody would get to see that otherwise.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Two ends of a connection that talk in one direction only.
struct OneWay<'a> {
    from: &'a UdpSocket,
    to: &'a UdpSocket,
}

impl OneWay<'_> {
    /// Sends datagrams all the time while something is done. Every one of them has to come, from the same sender.
    fn loses_nothing_while(&self, sender: SocketAddr, done: impl FnOnce()) {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut numbers = 0..LAST;
                while !stop.load(Relaxed) {
                    self.from.send(&numbers.next().unwrap().to_be_bytes()).unwrap();
                    std::thread::sleep(PACE);
                }
                self.from.send(&LAST.to_be_bytes()).unwrap();
            });
            let receiver = scope.spawn(|| self.receive(sender));
            let stops = Stops(&stop);
            done();
            drop(stops);
            assert!(receiver.join().unwrap() > 0);
        });
    }

    /// How many came.
    fn receive(&self, sender: SocketAddr) -> u32 {
        let mut expected = 0;
        loop {
            let mut bytes = [0; 4];
            let (_, from) = self.to.recv_from(&mut bytes).unwrap();
            let number = u32::from_be_bytes(bytes);
            assert_eq!(unmapped(from), unmapped(sender));
            if number == LAST {
                return expected;
            }
            assert_eq!(number, expected, "those between are lost");
            expected += 1;
        }
    }
}

/// Nothing gets through the hook whose program is gone, so the stream goes the other way. There are so many connections that to
/// go through them takes a while.
fn programs_that_somebody_takes_off_are_back_without_being_asked_for_and_connections_go_on_meanwhile(hook: Hook) {
    let world = World::new(hook, &json!({ "mode": "native", "masquerade": "ebpf" }));
    let asked = asking(&world.pod().netns, 0);
    let before = heard(&asked).unwrap();
    let to = |port| SocketAddr::new(FAR[0].parse().unwrap(), port);
    let connect = || TcpStream::connect_timeout(&to(7), PATIENCE).unwrap();
    let mut streams = [world.pod().netns.run(connect).unwrap()];
    let far = world.far.netns.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, ONE_WAY)).unwrap()).unwrap();
    let pod = world.pod().netns.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    pod.connect(to(ONE_WAY)).unwrap();
    pod.send(&[]).unwrap();
    for socket in [&far, &pod] {
        socket.set_read_timeout(Some(stretched(PATIENCE))).unwrap();
    }
    let (_, outside) = far.recv_from(&mut []).unwrap();
    far.connect(outside).unwrap();
    let mut maps = world.maps();
    crowd(&mut maps, 20_000);
    let settings = maps.settings().unwrap();
    for off in Masquerade::ALL {
        let take_off = || {
            let mut hooks = open(hook);
            let found = masquerade::find(&mut hooks, index("eth0")).unwrap();
            hooks.detach(found.iter().find(|found| found.program == off).unwrap()).unwrap();
        };
        let (way, sender) = match off {
            Masquerade::Out => (OneWay { from: &far, to: &pod }, to(ONE_WAY)),
            Masquerade::In => (OneWay { from: &pod, to: &far }, outside),
        };
        way.loses_nothing_while(sender, || {
            world.node().netns.run(take_off).unwrap();
            wait_for("the program is back", Duration::from_secs(20), || {
                assert_eq!(maps.settings().unwrap(), settings, "nobody hands over anything");
                world.programs().len() == 2
            });
        });
        assert!(world.maps().are_same(&maps));
        assert_eq!(heard(&asked), Some(before), "its connection is what it was");
        echoes(&mut streams);
    }
}
