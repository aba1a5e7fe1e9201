//! Rows about who is let in.

use super::{OURS4, Over, Scene, THEIRS, THEIRS4};
use crate::bed::Bed;
use crate::told::Kind;
use bgp_speaker::config::{Secret, TtlSecurity};
use net_linux::netns::NetNs;

/// A counter of `/proc/net/netstat`: names in one line, values in the next.
fn counter(namespace: &NetNs, name: &str) -> u64 {
    let text = namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap()).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("TcpExt:")).collect();
    let place = lines[0].split_whitespace().position(|word| word == name).unwrap();
    lines[1].split_whitespace().nth(place).unwrap().parse().unwrap()
}

fn both(bed: &Bed, name: &str) -> u64 {
    counter(&bed.ours, name) + counter(&bed.link().theirs, name)
}

pub(crate) fn md5(kind: Kind) {
    let scene = |theirs: &'static str| {
        Scene::new(kind, Over::V4, |plan| {
            plan.peer.password = Secret::new(b"open-sesame".as_slice());
            plan.us().password = Some(theirs);
        })
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let wrong = scene("barley");
            wrong.wait("segments with the wrong key are dropped", || both(&wrong.bed, "TCPMD5Failure") > 3);
            assert!(!wrong.ours.is_up(THEIRS) && !wrong.theirs.is_up(wrong.our), "{}", wrong.state());
        });
        let right = scene("open-sesame");
        right.up();
        right.exchanged(OURS4, THEIRS4);
        assert_eq!(both(&right.bed, "TCPMD5Failure"), 0);
    });
}

pub(crate) fn ttl_security(kind: Kind) {
    let scene = |theirs: bool| {
        Scene::new(kind, Over::V4, |plan| {
            plan.peer.ttl = TtlSecurity::AtMost(1);
            plan.us().ttl_security = theirs;
        })
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // It sends with TTL 1, as a packet from far away has at the end.
            let far = scene(false);
            far.wait("packets from far away are dropped", || counter(&far.bed.ours, "TCPMinTTLDrop") > 3);
            assert!(!far.ours.is_up(THEIRS), "{}", far.state());
        });
        let near = scene(true);
        near.up();
        near.exchanged(OURS4, THEIRS4);
    });
}
