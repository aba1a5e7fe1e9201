//! Replacements of programs that did not come to their end. Never a packet: what is asked is whose connections are known then.

use crate::each::at_each_hook;
use crate::hooks::{index, open};
use crate::nodes::World;
use crate::rig::seconds_since_boot;
use aya::programs::links::LinkOrder;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{SchedClassifier, TcAttachType, loaded_programs};
use backend_ebpf::abi::{Coming, Connection, Life, Tuple, mapped};
use backend_ebpf::kernel::masquerade::{self, Attached, Loaded, Masquerade, Room};
use backend_ebpf::kernel::{Hook, MasqueradeMaps};
use net_linux::netlink::{Batch, Socket};
use net_linux::tc::{Place, Side};
use serde_json::{Value, json};
use std::os::fd::AsFd as _;
use std::time::Duration;
use testlab::bed::wait_for;

at_each_hook! {
    connections_of_both_loads_are_kept_where_an_agent_was_killed_between_two_programs,
    an_attempt_that_failed_takes_over_all_the_same_when_it_is_made_again,
}

const OTHER: [u8; 4] = [198, 51, 100, 7];

fn section(room: u32) -> Value {
    json!({ "mode": "native", "masquerade": "ebpf", "maxMasqueraded": room })
}

/// A pod gets a port of the node towards a port of somebody else.
fn give(maps: &mut MasqueradeMaps, pod: u8, other_port: u16) {
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

/// What is attached to the underlay of the calling thread's network namespace.
fn attached(hook: Hook, program: Masquerade) -> Attached {
    let found = masquerade::find(&mut open(hook), index("eth0")).unwrap();
    found.into_iter().find(|found| found.program == program).unwrap()
}

fn connections_of_both_loads_are_kept_where_an_agent_was_killed_between_two_programs(hook: Hook) {
    let mut world = World::new(hook, &section(4096));
    world.stop();
    let mut old = world.maps();
    let loaded = Loaded::load(Room { connections: 8192, prefixes: 4096 }).unwrap();
    let mut new = loaded.maps().unwrap();
    new.set_settings(old.settings().unwrap()).unwrap();
    let replace = || {
        let before = attached(hook, Masquerade::Out);
        loaded.attach(&mut open(hook), Masquerade::Out, index("eth0"), Some(&before)).unwrap();
    };
    world.node().netns.run(replace).unwrap();
    give(&mut old, 1, 1);
    give(&mut new, 2, 2);
    // What leaves passes the new one, which has given the port to another pod since.
    give(&mut old, 3, 3);
    give(&mut new, 4, 3);
    world.restart(&section(16_384));
    assert_eq!(world.maps().room().connections, 16_384);
    assert_eq!(opened(&world.maps()), [(1, 1), (2, 2), (3, 4)]);
}

/// Puts what is not ours in the place of the second program, and gives what takes it away again.
fn occupy(hook: Hook) -> Box<dyn FnOnce() + Send> {
    let found = attached(hook, Masquerade::In);
    let kept = found.fd().unwrap();
    open(hook).detach(&found).unwrap();
    match hook {
        // One that a link holds cannot be replaced.
        Hook::Tcx => {
            let info = loaded_programs().map(Result::unwrap).find(|info| info.id() == found.known.id).unwrap();
            let mut program = SchedClassifier::from_program_info(info, "masq_in".into()).unwrap();
            let options = TcAttachOptions::TcxOrder(LinkOrder::default());
            program.attach_with_options("eth0", TcAttachType::Ingress, options).unwrap();
            Box::new(|| drop(program))
        }
        // A program of another name.
        Hook::Clsact => {
            let (interface, side) = (index("eth0"), Side::Ingress);
            let place = Place { interface, side, priority: MASQ_IN, handle: 1 };
            let foreign = attached(hook, Masquerade::Out).fd().unwrap();
            let mut socket = Socket::route().unwrap();
            let mut batch = Batch::new();
            place.create(&mut batch, foreign.as_fd(), "theirs");
            socket.run_all(&mut batch).unwrap();
            drop(kept);
            Box::new(move || {
                let mut batch = Batch::new();
                place.delete(&mut batch);
                socket.run_all(&mut batch).unwrap();
            })
        }
    }
}

/// The priority of `masq_in` at clsact.
const MASQ_IN: u16 = 0x6361;

/// The attempt fails at the second of two programs.
fn an_attempt_that_failed_takes_over_all_the_same_when_it_is_made_again(hook: Hook) {
    let mut world = World::new(hook, &section(4096));
    world.stop();
    let mut old = world.maps();
    give(&mut old, 1, 1);
    let leave = world.node().netns.run(|| occupy(hook)).unwrap();
    assert!(!world.starts(&section(8192)));
    // As of a packet that came before the program was replaced.
    give(&mut old, 2, 2);
    leave();
    if hook == Hook::Clsact {
        // Nobody is told that a foreign filter went. A node tries again by itself, and this one when it has something to do.
        world.node().stage(Vec::new());
    }
    let is_new = || world.programs().len() == 2 && world.maps().room().connections == 8192;
    wait_for("programs of the other size are there", Duration::from_secs(60), is_new);
    wait_for("nothing is handed over any more", Duration::from_secs(60), || {
        world.maps().settings().unwrap().handed_over_seconds == 0
    });
    assert_eq!(opened(&world.maps()), [(1, 1), (2, 2)]);
}
