//! Replacements of programs that did not come to their end. Never a packet: what is asked is whose connections are known then.

use crate::nodes::World;
use crate::rig::seconds_since_boot;
use aya::programs::links::LinkOrder;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{SchedClassifier, TcAttachType};
use backend_ebpf::abi::{Coming, Connection, Life, Tuple, mapped};
use backend_ebpf::kernel::MasqueradeMaps;
use backend_ebpf::kernel::masquerade::{self, Attached, Loaded, Masquerade, Room};
use serde_json::{Value, json};
use std::time::Duration;
use testlab::bed::wait_for;

const OTHER: [u8; 4] = [198, 51, 100, 7];

fn section(room: u32) -> Value {
    json!({ "mode": "native", "masquerade": "ebpf", "maxMasqueraded": room })
}

/// A pod gets a port of the node towards a port of somebody else.
fn open(maps: &mut MasqueradeMaps, pod: u8, other_port: u16) {
    let (own, other) = (mapped([192, 0, 2, 1]), mapped(OTHER));
    let life = Life::new(seconds_since_boot(), Connection::ANSWERED);
    let coming = Coming { own: mapped([10, 244, 1, pod]), life, own_port: 7, unused: [0; 3] };
    maps.set_coming(Tuple { own, other, own_port: 61_000, other_port, protocol: 6 }, coming).unwrap();
}

/// Which pods have one, towards which port.
fn opened(maps: &MasqueradeMaps) -> Vec<(u16, u8)> {
    let all = maps.coming().unwrap().into_iter().filter(|(tuple, _)| tuple.other == mapped(OTHER));
    let mut found: Vec<_> = all.map(|(tuple, coming)| (tuple.other_port, coming.own[15])).collect();
    found.sort_unstable();
    found
}

fn underlay() -> u32 {
    nix::net::if_::if_nametoindex("eth0").unwrap()
}

/// What is attached to the underlay of the calling thread's network namespace.
fn attached(program: Masquerade) -> Attached {
    let found = masquerade::find("eth0", underlay()).unwrap();
    found.into_iter().find(|found| found.program == program).unwrap()
}

#[test]
fn connections_of_both_loads_are_kept_where_an_agent_was_killed_between_two_programs() {
    let mut world = World::new(&section(4096));
    world.stop();
    let mut old = world.maps();
    let loaded = Loaded::load(Room { connections: 8192, prefixes: 4096 }).unwrap();
    let mut new = loaded.maps().unwrap();
    new.set_settings(old.settings().unwrap()).unwrap();
    let replace = || loaded.attach(Masquerade::Out, underlay(), Some(&attached(Masquerade::Out))).unwrap();
    world.node().netns.run(replace).unwrap();
    open(&mut old, 1, 1);
    open(&mut new, 2, 2);
    // What leaves passes the new one, which has given the port to another pod since.
    open(&mut old, 3, 3);
    open(&mut new, 4, 3);
    world.restart(&section(16_384));
    assert_eq!(world.maps().room().connections, 16_384);
    assert_eq!(opened(&world.maps()), [(1, 1), (2, 2), (3, 4)]);
}

/// A program that a link holds cannot be replaced. So the attempt fails at the second of two.
#[test]
fn an_attempt_that_failed_takes_over_all_the_same_when_it_is_made_again() {
    let mut world = World::new(&section(4096));
    world.stop();
    let mut old = world.maps();
    open(&mut old, 1, 1);
    let hold = || {
        let found = attached(Masquerade::In);
        let kept = found.fd().unwrap();
        found.detach().unwrap();
        let mut program = SchedClassifier::from_program_info(found.info, "masq_in".into()).unwrap();
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        program.attach_with_options("eth0", TcAttachType::Ingress, options).unwrap();
        drop(kept);
        program
    };
    let link = world.node().netns.run(hold).unwrap();
    assert!(!world.starts(&section(8192)));
    // As of a packet that came before the program was replaced.
    open(&mut old, 2, 2);
    drop(link);
    let is_new = || world.programs().len() == 2 && world.maps().room().connections == 8192;
    wait_for("programs of the other size are there", Duration::from_secs(60), is_new);
    wait_for("nothing is handed over any more", Duration::from_secs(60), || {
        world.maps().settings().unwrap().handed_over_seconds == 0
    });
    assert_eq!(opened(&world.maps()), [(1, 1), (2, 2)]);
}
