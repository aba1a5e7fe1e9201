//! Many writes of policy at once: they leave what the same leave one by one, also where some find no room. On maps of the test's own.
//! Never a packet.

use backend_ebpf::abi::{
    Endpoint, EndpointKey, PeerClass, PeerKey, ProgramRef, Verdict, VerdictKey, mapped, source_key, traffic_key,
};
use backend_ebpf::kernel::{KernelError, Object, Sizes};
use backend_ebpf::policy::{Meant, Trie, Write};
use cni_core::testkit::dice::Dice;
use std::collections::HashSet;

const ROUNDS: usize = 150;

/// A write of one of few entries, so that they are met again.
fn write(dice: &mut Dice) -> Write {
    let (kind, key, value) = (dice.below(9), dice.below(8) as u32, dice.below(3) as u32 + 1);
    let byte = key as u8;
    let verdict = Verdict { enforced: value, staged: 0 };
    let at = EndpointKey { interface: 1, address: mapped([10, 0, 0, byte]) };
    let program = ProgramRef { program: value, flags: 0, default: verdict };
    let endpoint = Endpoint { id: value, ingress: program, egress: program };
    let put = match kind {
        0 => Write::Endpoint(at, Some(endpoint)),
        1 => Write::Host(at, Some(endpoint)),
        2 => Write::Identity(format!("10.{key}.0.0/16").parse().unwrap(), Some(value)),
        3 => Write::Identity(format!("fd00:{key}::/32").parse().unwrap(), Some(value)),
        4 => {
            let class = PeerClass { class: value, default: verdict };
            Write::Peer(PeerKey { program: 1, identity: key }, Some(class))
        }
        5 => Write::Class(Trie::Traffic(56, traffic_key(key, 6, 80)), Some(value as u16)),
        6 => Write::Class(Trie::Source(48, source_key(key, 80)), Some(value as u16)),
        7 => Write::Verdict(VerdictKey { program: 1, peer: key, traffic: 0, source: 0 }, Some(verdict)),
        _ => Write::Meaning(Meant::Program(key), Some([byte; 16])),
    };
    match dice.below(20) {
        0 => Write::Advance,
        1..=7 => put.removal(),
        _ => put,
    }
}

/// The map that had no room.
fn full(done: &Result<(), KernelError>) -> Option<&'static str> {
    match done {
        Ok(()) => None,
        Err(KernelError::Map { map, verb: "written", .. }) => Some(map),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn many_writes_leave_what_they_leave_one_by_one_and_nothing_behind_one_that_has_no_room_is_written() {
    let sizes =
        Sizes { endpoints: 6, identities: 6, peers: 6, classes: 6, verdicts: 6, fragments: 64, connections: 64 };
    let [mut many, mut single] = [(); 2].map(|()| Object::load(&sizes).unwrap());
    let (mut dice, mut refused) = (Dice::new(7), 0);
    for round in 0..ROUNDS {
        let mut writes: Vec<Write> = (0..dice.below(60)).map(|_| write(&mut dice)).collect();
        // In an order as a change has it, or in none.
        if dice.below(2) == 0 {
            writes.sort_by_key(|write| (*write == write.removal(), write.level()));
        }
        let (written, done) = many.write_all(&writes);
        let mut one_by_one = (0, None);
        for write in &writes {
            let done = single.write(write);
            one_by_one.1 = full(&done);
            if done.is_err() {
                break;
            }
            one_by_one.0 += 1;
        }
        assert_eq!((written, full(&done)), one_by_one, "round {round}: {writes:?}");
        refused += usize::from(done.is_err());
        let entries = |object: &Object| object.entries().unwrap().into_iter().collect::<HashSet<_>>();
        assert_eq!(entries(&many), entries(&single), "round {round}: {writes:?}");
        assert_eq!(many.epoch().unwrap(), single.epoch().unwrap());
    }
    assert!(refused > ROUNDS / 4, "{refused} refused in {ROUNDS} rounds: the maps were hardly ever full");
}
